"""Tokenizers that share a body differ in the bottleneck alone, in YAML and in weights."""

import pytest
import torch
from places import EXPERIMENTS

from unify.batch import Batch
from unify.config import build_recipe, load_recipe
from unify.nn.conv import Autoencoder
from unify.nn.init import initialise
from unify.noise import Noise
from unify.tokenizers import vq
from unify.tokenizers.one_body import LOGVAR, Codes, Latents

QUANTIZERS = {
    "ema": lambda: vq.EMACodebook(size=32, dim=4),
    "rotation": lambda: vq.RotationCodebook(size=32, dim=4),
    "simvq": lambda: vq.SimVQCodes(size=32, dim=4),
    "fsq": lambda: vq.FSQCodes([4, 5, 3]),
    "lfq": lambda: vq.LFQCodes(bits=5),
}
BOTTLENECKS = {"latents": lambda body: Latents(body, channels=3)} | {
    name: lambda body, make=make: Codes(body, make()) for name, make in QUANTIZERS.items()
}
EACH = pytest.mark.parametrize("name", BOTTLENECKS)
OF_THE_BOTTLENECK = {"model.class", "model.channels", "model.quantizer", "loss_weights"}


def body():
    return Autoencoder(features=16, widths=[8, 16], patch=2)


def built(name, seed=0):
    model = BOTTLENECKS[name](body())
    initialise(model, seed)
    return model


def images(rows=4, size=16):
    return torch.rand(rows, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def outside(model):
    """Parameters and buffers outside the bottleneck."""
    return {n: v for n, v in model.state_dict().items() if n.startswith(("encoder.", "decoder."))}


@EACH
def test_parameters_outside_the_bottleneck_have_the_same_names_and_first_values(name):
    model = built(name, seed=3)
    own = {n for n in model.state_dict() if n not in outside(model)}
    assert all(n.startswith(("inward.", "outward.", "quantizer.", "shift", "scale")) for n in own)
    bare = body()
    initialise(bare, 3)
    expected = bare.state_dict()
    assert outside(model).keys() == expected.keys()
    assert all(torch.equal(value, expected[n]) for n, value in outside(model).items())
    other = outside(built(name, seed=4))
    assert any(not torch.equal(value, other[n]) for n, value in expected.items())


def flat(value, name=""):
    """The leaves of a completed config by their dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    leaves = [flat(child, f"{name}.{key}".lstrip(".")) for key, child in value.items()]
    return {key: leaf for part in leaves for key, leaf in part.items()}


def test_the_tokenizers_of_the_world_of_studies_differ_in_the_bottleneck_alone():
    configs = [load_recipe(EXPERIMENTS / f"tokenizers/shapes2_{n}.yaml") for n in ("vae", "vq")]
    latents, codes = (flat(config) for config in configs)
    keys = {k for k in latents.keys() | codes.keys() if latents.get(k) != codes.get(k)} - {"name"}
    assert keys
    assert all(k.startswith(tuple(OF_THE_BOTTLENECK)) for k in keys), sorted(keys)
    assert latents["loss_weights.pixel"] == codes["loss_weights.pixel"]
    one, two = (build_recipe(config).model for config in configs)
    initialise(one, 0)
    initialise(two, 0)
    first, second = outside(one), outside(two)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[n]) for n, value in first.items())
    assert one.stride == two.stride == 4, "64 tokens of 32 x 32 pixels"


@EACH
def test_an_image_becomes_one_latent_or_code_a_cell_and_comes_back(name):
    model = built(name).eval()
    tokens = model.encode(images())
    if name == "latents":
        assert tokens.shape == (4, 3, 4, 4)
        copies = model.decode(tokens)
    else:
        assert tokens.shape == (4, 16)
        assert 0 <= tokens.min() <= tokens.max() < model.vocab_size
        copies = model.decode(tokens, (4, 4))
    assert copies.shape == images().shape
    with torch.no_grad():
        if name == "latents":
            whole = model.decoder(model.outward(model.inward(model.encoder(images()))[:, :3]))
        else:
            quantised, _, _ = model.quantizer(model.encoder(images()))
            whole = model.decoder(quantised)
    torch.testing.assert_close(copies, whole.clamp(-1, 1), atol=1e-5, rtol=1e-5)


@EACH
def test_training_reaches_every_parameter_that_learns(name):
    model = built(name).train()
    batch = Batch.image(images(), [f"image/{i}" for i in range(4)])
    terms = model.loss(batch, Noise.for_batch(0, 0, batch))
    assert terms.keys() == model.terms
    sum(term.value.mean() for term in terms.values()).backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


def test_the_sampled_latent_is_mean_and_deviation_times_noise():
    model = built("latents").train()
    batch = Batch.image(images(), [f"image/{i}" for i in range(4)])
    noise = Noise.for_batch(0, 0, batch)
    mean, logvar = model.inward(model.encoder(images())).chunk(2, 1)
    sample = mean + torch.exp(0.5 * logvar) * noise.normal("posterior", mean.shape[1:])
    copies = model.decoder(model.outward(sample))
    terms = model.loss(batch, noise)
    torch.testing.assert_close(terms["pixel"].value, (copies - images()).square().mean((1, 2, 3)))
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean((1, 2, 3))
    torch.testing.assert_close(terms["kl"].value, kl)


def test_the_log_variance_stays_where_its_exponential_is_finite():
    model = built("latents")
    with torch.no_grad():
        model.inward.bias[3:] = 1e4
        _, logvar = model._moments(images())
    assert logvar.max() == LOGVAR[1]
    assert logvar.exp().isfinite().all()


def test_an_image_that_does_not_divide_into_cells_is_refused():
    for name in ("latents", "fsq"):
        with pytest.raises(ValueError, match="multiple of 4"):
            built(name).encode(images(size=18))
