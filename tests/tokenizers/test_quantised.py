"""Codes of latents: what is frozen stays, and what is lost is lost between latents."""

import pytest
import torch

from unify.batch import Batch
from unify.nn.init import initialise
from unify.noise import Noise
from unify.tokenizers.code_vectors import CodeVectors
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.quantised import QuantisedLatents
from unify.tokenizers.vae import VAE
from unify.tokenizers.vq import FSQCodes, RotationCodebook


def images(rows=3):
    return torch.rand(rows, 3, 8, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def made(latents=None, quantizer=None, patch=2):
    torch.manual_seed(0)
    inside = latents or VAE(widths=(8, 8), norm_groups=4)
    model = QuantisedLatents(inside, quantizer or RotationCodebook(size=32, dim=4), patch)
    initialise(model, 0)
    return model


def trained(model, steps=3):
    batch = Batch.image(images(), list("abc"))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for step in range(steps):
        terms = model.loss(batch, Noise.for_batch(0, step, batch))
        optimizer.zero_grad()
        sum(term.value.mean() for term in terms.values()).backward()
        optimizer.step()
    return model


def test_the_tokenizer_inside_stays_as_it_is_whatever_is_asked_of_the_whole():
    model = made()
    inside, own = model.latents.content_hash(), model.inward.weight.clone()
    trained(model.requires_grad_(True).train())
    assert model.latents.content_hash() == inside
    assert not model.latents.training
    assert not any(p.requires_grad for p in model.latents.parameters())
    assert not torch.equal(model.inward.weight, own)


def test_its_latent_term_is_what_is_lost_between_latents():
    model = made().eval()
    latents = model.latents.encode(images())
    codes = model.encode(images())
    assert codes.shape == (3, 2 * 4)
    given_back = model.outward(model.quantizer.lookup(codes.view(3, 2, 4)))
    batch = Batch.image(images(), list("abc"))
    term = model.loss(batch, Noise.for_batch(0, 0, batch))["latent"]
    torch.testing.assert_close(term.value, (given_back - latents).square().mean((1, 2, 3)))
    assert torch.equal(model.decode(codes, (2, 4)), model.latents.decode(given_back))


@torch.no_grad()
def test_with_levels_enough_and_maps_that_undo_each_other_latents_come_back():
    model = made(Pixels(), FSQCodes([255, 255, 255]), patch=1)
    for part, scale in ((model.inward, 1.0), (model.outward, 1.0)):
        part.weight.copy_(scale * torch.eye(3)[..., None, None])
        part.bias.zero_()
    back = model.decode(model.encode(images()), (8, 16))
    # FSQ bends a number by a tanh before it rounds it
    assert (back - images().tanh()).abs().max() < 0.01


@torch.no_grad()
def test_a_code_is_of_its_own_cells_alone():
    model = made(Pixels(), FSQCodes([63, 63, 63]), patch=4)
    before = model.encode(images()).view(3, 2, 4)
    changed = images()
    changed[:, :, 4:8, 8:12] *= -1
    after = model.encode(changed).view(3, 2, 4)
    moved = (before != after).any(0)
    assert moved.nonzero().tolist() == [[1, 2]]


def test_a_flow_over_these_codes_gives_back_what_they_do():
    model = made().eval()
    flow = CodeVectors(model)
    assert (flow.channels, flow.stride) == (4, 4)
    own = model.decode(model.encode(images()), (2, 4))
    assert torch.equal(flow.decode(flow.encode(images())), own)


def test_its_name_changes_with_the_tokenizer_inside():
    one, other = made(), made()
    assert one.content_hash() == other.content_hash()
    with torch.no_grad():
        next(other.latents.parameters()).add_(0.1)
    assert one.content_hash() != other.content_hash()


def test_an_image_that_does_not_divide_into_codes_is_refused():
    with pytest.raises(ValueError, match="cells of 4"):
        made().encode(torch.zeros(1, 3, 8, 10))
