"""Masked and representation autoencoders: what is read, what stays, what is counted."""

import pytest
import torch
import torch.nn.functional as F
from torch_flops import by_torch

from unify.batch import Batch
from unify.nn.init import initialise
from unify.nn.layers import patchify
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.tokenizers.mae import MaskedAutoencoder
from unify.tokenizers.rae import RAE

SIDE, PATCH, PLACES = 16, 4, 16
NORMS = 0.005  # products of their gradients, which no formula counts
EACH = pytest.mark.parametrize("scaling", ["channels", "length"])


def images(rows=3, side=SIDE):
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def batch(rows=3):
    return Batch.image(images(rows), list("abcdef")[:rows])


def mae(**settings):
    model = MaskedAutoencoder(PatchEncoder(16, 1, 2, PATCH), 16, 1, 2, **settings)
    initialise(model, 0)
    return model


def rae(**settings):
    model = RAE(PatchEncoder(16, 1, 2, PATCH), PATCH, 16, 1, 2, **settings)
    initialise(model, 0)
    return model


def learned(model, steps, lr=1e-2):
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
    for step in range(steps):
        (term,) = model.loss(batch(), Noise.for_batch(0, step, batch())).values()
        optimizer.zero_grad()
        term.value.mean().backward()
        optimizer.step()
    return model


# The encoder that learns from pictures


@pytest.mark.parametrize(("share", "count"), [(0.75, 12), (0.5, 8), (0.0, 1), (0.99, 15)])
def test_every_row_hides_the_share_and_neither_none_nor_all(share, count):
    uniforms = torch.rand(50, PLACES, generator=torch.Generator().manual_seed(1))
    shown = mae(hidden=share).shown(uniforms)
    assert (PLACES - shown.sum(1) == count).all()
    assert len(shown.unique(dim=0)) > 1, "each row its own"


def test_what_a_hidden_patch_shows_is_read_by_nobody_and_is_what_is_learned():
    model, noise = mae(), lambda: Noise.for_batch(0, 0, batch())
    shown = model.shown(noise().uniform("patches", (PLACES,)))
    pictures = batch().segments[0].images
    tokens = patchify(pictures, PATCH)
    other = torch.where(shown[..., None], tokens, -tokens)
    calls = []
    model.decoder.register_forward_hook(lambda m, a, out: calls.append((a[0], out)))
    for each in (tokens, other):
        changed = batch()
        changed.segments[0].data = F.fold(_pixels(each), SIDE, kernel_size=PATCH, stride=PATCH)
        value = model.loss(changed, noise())["pixel"].value
        copies = patchify(calls[-1][1], PATCH)
        error = (copies - each).square().mean(-1)
        expected = torch.stack([e[~s].mean() for e, s in zip(error, shown, strict=True)])
        torch.testing.assert_close(value, expected)
    assert torch.equal(calls[0][0], calls[1][0]), "features of what is shown, and one vector"
    assert (calls[0][0][~shown] == model.unknown).all()


def _pixels(tokens):
    """Patches as `patchify` has them, [B N 3pp] -> [B 3pp N] of `fold`."""
    return tokens.transpose(1, 2)


def test_nothing_hidden_is_the_plain_encoder():
    model = mae()
    everything = torch.ones(3, PLACES, dtype=torch.bool)
    torch.testing.assert_close(model.vision(images(), everything), model.vision(images()))


def test_hidden_patches_are_learned_and_the_flops_are_torchs():
    model = mae(hidden=0.5)
    before = model.loss(batch(), Noise.for_batch(0, 0, batch()))["pixel"].value.mean()
    assert model.flops(batch()) == pytest.approx(by_torch(model, batch()), rel=NORMS)
    after = learned(model, 150).loss(batch(), Noise.for_batch(0, 0, batch()))["pixel"].value
    assert after.mean() < before / 3


# Their features as latents


@EACH
def test_the_encoder_stays_as_it_is_whatever_is_asked_of_the_whole(scaling):
    model = rae(scaling=scaling)
    inside = {name: p.clone() for name, p in model.encoder.named_parameters()}
    learned(model.requires_grad_(True).train(), 2)
    assert all(torch.equal(inside[name], p) for name, p in model.encoder.named_parameters())
    assert not model.encoder.training


def test_latents_have_mean_0_and_variance_1_in_every_channel_of_what_they_were_measured_on():
    model = rae()
    model.calibrate(images(64))
    latents = model.encode(images(64)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std(1), torch.ones(16), atol=1e-5, rtol=0)


def test_directions_keep_their_length_and_are_the_encoders_own():
    model = rae(scaling="length")
    model.calibrate(images(64))
    latents = model.encode(images())
    assert model.unit
    torch.testing.assert_close(latents.norm(dim=1), torch.full((3, 4, 4), 16**0.5))
    own = model.encoder(images()).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(F.cosine_similarity(latents, own, dim=1), torch.ones(3, 4, 4))


@EACH
def test_decoding_undoes_the_scaling(scaling):
    model = rae(scaling=scaling)
    before = model.decode(model.encode(images()))
    model.calibrate(images(64))
    torch.testing.assert_close(model.decode(model.encode(images())), before, atol=1e-5, rtol=0)


def test_noise_in_training_is_tau_times_a_normal_number_of_the_row():
    calls, model = [], rae(tau=0.5)
    model.decoder.register_forward_hook(lambda m, a, out: calls.append(a[0]))
    many = Batch.image(images(2).repeat(300, 1, 1, 1), [str(i) for i in range(600)])
    model.loss(many, Noise.for_batch(0, 0, many))
    clean = model.features(many.segments[0].images).flatten(2).transpose(1, 2)
    sigma = (calls[0] - clean).flatten(1).std(1)  # [B], of 256 numbers each
    # |n| has mean (2 / pi)^.5; a deviation from 256 numbers is off by 1 / 512^.5 of itself
    assert sigma.mean() == pytest.approx(0.5 * (2 / torch.pi) ** 0.5, rel=0.12)
    assert sigma.min() < 0.05 < 1.0 < sigma.max()
    model.tau = 0.0
    model.loss(many, Noise.for_batch(0, 0, many))
    torch.testing.assert_close(calls[1], clean)


@EACH
def test_pictures_are_given_back_after_learning_and_the_flops_are_torchs(scaling):
    model = rae(scaling=scaling, tau=0.0)
    assert model.flops(batch()) == pytest.approx(by_torch(model, batch()), rel=NORMS)
    before = (model.decode(model.encode(images())) - images()).square().mean()
    learned(model.train(), 200)
    model.calibrate(images())
    assert (model.decode(model.encode(images())) - images()).square().mean() < before / 3


def test_features_of_another_grid_than_the_patches_are_refused():
    model = RAE(PatchEncoder(16, 1, 2, patch=8), PATCH, 16, 1, 2)
    with pytest.raises(ValueError, match="patch: the encoder has 2x2 features"):
        model.encode(images())
