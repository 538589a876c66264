"""Semantic codes: what depends on what, who teaches whom, and what the same codes are drawn as."""

import pytest
import torch
import torch.nn.functional as F
from torch_flops import by_torch

from unify.batch import Batch
from unify.flow import LogitNormalTime, UniformTime, integrate
from unify.nn.denoiser import SanaDenoiser, UNetDenoiser
from unify.nn.flops import dense
from unify.nn.frozen import kept_state, load_kept, sources
from unify.nn.init import initialise
from unify.nn.provenance import mark_loaded
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.tokenizers.code_vectors import CodeVectors
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.semantic_codes import SemanticCodes
from unify.tokenizers.vae import VAE
from unify.tokenizers.vq import FSQCodes, RotationCodebook

SIDE, CODES, CELLS = 16, 5, 4
NORMS = 0.005  # products of their gradients, which no formula counts


def images(rows=3):
    return torch.rand(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def batch(rows=3):
    return Batch.image(images(rows), list("abcdef")[:rows])


def made(**parts):
    torch.manual_seed(0)
    settings = {
        "encoder": PatchEncoder(16, 1, 2, patch=4),
        "quantizer": RotationCodebook(size=32, dim=4),
        "latents": VAE(widths=(8, 8), norm_groups=4),
        "denoiser": SanaDenoiser(condition_dim=16, width=16, depth=1, heads=2, patch=2),
        "time": LogitNormalTime(),
        **{"codes": CODES, "size": SIDE, "dim": 16, "depth": 2, "heads": 2, "steps": 2},
    }
    model = SemanticCodes(**{**settings, **parts})
    initialise(model, 0)
    with torch.no_grad():  # a flow that starts as the zero function draws everything alike
        model.denoiser.model.proj_out.weight.normal_(std=0.1)
    return model


def losses(model, seed=0):
    return model.loss(batch(), Noise.for_batch(seed, 0, batch()))


def learned(model, steps, lr=1e-2):
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        sum(term.value.mean() for term in losses(model, step).values()).backward()
        optimizer.step()
    return model


def taught(model, term):
    """Names of the parameters that have a gradient of one term."""
    losses(model)[term].value.sum().backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def test_no_code_depends_on_a_later_query_and_each_on_its_own_and_the_ones_before():
    model = made().eval()
    features = model.features(images(1))
    weight = model.reader.queries.weight
    for i in range(CODES):
        (reached,) = torch.autograd.grad(model.read(features)[0, :, 0, i].sum(), weight)
        assert reached.abs().sum(1).bool().tolist() == [place <= i for place in range(CODES)]


def test_fewer_queries_are_the_first_codes_of_more():
    more, fewer = made().eval(), made(codes=3).eval()
    state = more.state_dict()
    for name in ("reader.queries.weight", "teller.order.weight"):
        state[name] = state[name][:3]
    fewer.load_state_dict(state)
    assert torch.equal(fewer.encode(images()), more.encode(images())[:, :3])


def test_every_code_reads_all_features_of_the_image():
    model = made().eval()
    features = model.features(images(1)).requires_grad_()
    for i in range(CODES):
        (reached,) = torch.autograd.grad(model.read(features)[0, :, 0, i].sum(), features)
        assert (reached[0].abs().sum(1) > 0).all()


def test_features_do_not_read_the_queries():
    model = made().eval()
    features = model.features(images(1))
    states = []
    model.reader.trunk.register_forward_hook(lambda module, given, out: states.append(out))
    model.read(features)
    (reached,) = torch.autograd.grad(states[0][:, :-CODES].sum(), model.reader.queries.weight)
    assert not reached.any()


def test_every_place_is_told_by_every_code():
    model = made().eval()
    vectors = torch.randn(1, 4, 1, CODES, requires_grad=True)
    told = model.tell(vectors)
    torch.testing.assert_close(told.norm(dim=-1), torch.full((1, 16), 4.0))
    for place in range(told.shape[1]):
        (reached,) = torch.autograd.grad(told[0, place, 0], vectors, retain_graph=True)
        assert (reached.abs().sum(1) > 0).all()


def test_the_flow_teaches_what_draws_and_the_features_what_codes_say():
    draws = ("condition.", "denoiser.")
    named = [name for name, _ in made().named_parameters()]
    assert taught(made(), "flow") == {name for name in named if name.startswith(draws)}
    parts = {name.partition(".")[0] for name in taught(made(), "features")}
    assert parts == {"reader", "teller"}
    assert {name.partition(".")[0] for name in taught(made(), "codebook")} == {"reader"}


def test_its_terms_are_what_they_say():
    model = made().eval()
    terms, noise = losses(model), Noise.for_batch(0, 0, batch())
    features = model.features(images())
    vectors = model.quantizer.lookup(model.encode(images())[:, None])
    told = model.tell(vectors)
    missed = 1 - (told * features).sum(-1) / 16  # both of length 16^.5
    torch.testing.assert_close(terms["features"].value, missed.mean(1))
    assert (missed > 0).all()
    y1, t = model.latents.encode(images()), model.time.quantile(noise.t(0))
    y0 = noise.x0(0, y1.shape[1:])
    yt = y0 + t[:, None, None, None] * (y1 - y0)
    v = model.denoiser.velocity(yt, t, model.conditions(told))
    error = (v - (y1 - y0)).square().mean((1, 2, 3))
    torch.testing.assert_close(terms["flow"].value, error)
    assert torch.equal(terms["flow"].t, t)


def test_the_parts_inside_stay_as_they_are_whatever_is_asked_of_the_whole():
    model = made()
    parts = {"encoder": model.encoder, "latents": model.latents}
    inside = {name: [p.clone() for p in part.parameters()] for name, part in parts.items()}
    learned(model.requires_grad_(True).train(), 2)
    for name, part in parts.items():
        assert not part.training
        assert all(map(torch.equal, inside[name], part.parameters())), name


def test_what_is_stored_without_its_frozen_parts_is_the_same_tokenizer_on_the_same_parts():
    model, twin, other = made(), made(), made()
    for each, source in ((model, "1" * 12), (twin, "1" * 12), (other, "2" * 12)):
        mark_loaded(each.encoder, source)
        mark_loaded(each.latents, "3" * 12)
    before = model.content_hash()
    kept = kept_state(learned(model, 2))
    assert not any(name.startswith(("encoder.", "latents.")) for name in kept)
    load_kept(twin, kept, sources(model))
    assert twin.content_hash() == model.content_hash() != before
    assert torch.equal(twin.encode(images()), model.encode(images()))
    with pytest.raises(ValueError, match="without encoder, which came from 111111111111"):
        load_kept(other, kept, sources(model))


def test_the_same_codes_are_the_same_image_and_others_another_from_other_noise():
    model = made().eval()
    codes = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 3, 4, 5]])
    first, second, again = model.decode(codes, (1, CODES))
    torch.testing.assert_close(first, again)  # kernels sum the rows of a batch in unlike orders
    assert not torch.allclose(first, second)
    starts = []
    velocity = model.denoiser.velocity
    model.denoiser.velocity = lambda y, t, c: starts.append(y) or velocity(y, t, c)
    model.decode(codes, (1, CODES))
    model.decode(codes[1:2], (1, CODES))
    assert torch.equal(starts[0][0], starts[0][2])
    assert not torch.equal(starts[0][0], starts[0][1])
    assert torch.equal(starts[model.steps][0], starts[0][1]), "whatever its batch mates"


def test_an_image_is_drawn_by_euler_steps_from_the_features_that_its_codes_say():
    model = made(latents=Pixels(), denoiser=pixel_flow()).eval()
    codes = model.encode(images())
    conditions = model.conditions(model.tell(model.quantizer.lookup(codes[:, None])))
    noise = Noise([("semantic codes", *row) for row in codes.tolist()])
    drawn = integrate(
        lambda y, t: model.denoiser.velocity(y, t, conditions),
        noise.normal("y0", (3, SIDE, SIDE)),
        model.steps,
    )
    torch.testing.assert_close(model.decode(codes, (1, CODES)), drawn.clamp(-1, 1))


def pixel_flow():
    return SanaDenoiser(3, condition_dim=16, width=16, depth=1, heads=2, patch=4, size=SIDE)


def test_codes_come_to_say_the_features_of_each_image():
    model = made(quantizer=FSQCodes([8, 8, 8]))
    before = losses(model)["features"].value
    after = losses(learned(model, 60).eval())["features"].value
    assert (after < before / 3).all()
    told = model.tell(model.quantizer.lookup(model.encode(images())[:, None]))
    likeness = F.cosine_similarity(
        told.flatten(1)[:, None], model.features(images()).flatten(1)[None], dim=-1
    )  # [3 3]: what is told of each image, and each image
    assert likeness.argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("quantizer", [RotationCodebook(32, 4), FSQCodes([5, 5])])
def test_the_flops_are_torchs(quantizer):
    model = made(quantizer=quantizer).train()
    with dense():
        assert model.flops(batch()) == pytest.approx(by_torch(model, batch()), rel=0.02)


def test_its_grid_is_one_row_of_codes_and_a_flow_over_their_vectors_gives_back_what_they_do():
    model = made().eval()
    assert model.grid(SIDE, SIDE) == (1, CODES)
    flow = CodeVectors(model)
    latents = flow.encode(images())
    assert latents.shape == (3, 4, 1, CODES)
    own = model.decode(model.encode(images()), (1, CODES))
    assert torch.equal(flow.decode(latents), own)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"latents": Pixels()}, "denoiser.channels is 4, but latents have 3"),
        (
            {"denoiser": UNetDenoiser(widths=(8, 8), norm_groups=4, heads=2)},
            "a UNetDenoiser learns at times of its own",
        ),
        ({"size": 18}, "does not divide into patches of 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        made(time=UniformTime(), **parts)
