"""Invariants of MAR: hidden tokens are not read, known ones stay, and drawing repeats training."""

from dataclasses import replace

import pytest
import torch
from small import DIM, PROMPTS, SIDE, awake, confusion, learn
from torch import nn

from unify.batch import Batch
from unify.flow import LogitNormalTime, XPrediction, integrate
from unify.nn.flow_head import FlowHead
from unify.nn.init import initialise
from unify.nn.layers import patchify, unpatchify
from unify.nn.masking import CosineMasking, LinearMasking
from unify.nn.trunk import TimedTrunk, Trunk
from unify.noise import Noise
from unify.paradigm import ImageRequest
from unify.paradigms.mar import MAR, InOrderSampler
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes

PATCH, PLACES, NUMBERS = 4, (SIDE // 4) ** 2, 48
GRID = (SIDE // PATCH, SIDE // PATCH)
EACH = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": "raster"},
        {"encoder": True},
        {"axes": [2, 1, 1]},
        {"prediction": XPrediction()},
    ],
    ids=["random", "raster", "encoder", "axes", "x"],
)


def make(**settings):
    encoder = Trunk(DIM, 1, 2) if settings.pop("encoder", False) else None
    model = MAR(
        settings.pop("trunk", None) or Trunk(DIM, 2, 2, sections=settings.pop("axes", None)),
        Bytes(),
        Pixels(),
        settings.pop("flow_head", None) or FlowHead(3, DIM, PATCH, width=32, depth=1),
        LogitNormalTime(),
        settings.pop("masking", None) or CosineMasking("sample"),
        encoder=encoder,
        size=SIDE,
        **settings,
    )
    initialise(model, 0)
    return model


def term(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))["image_flow"]


def seen(model, run):
    """What each pass of the trunk read and gave."""
    calls = []
    handle = model.trunk.register_forward_hook(lambda m, a, out: calls.append((a[0], out)))
    run()
    handle.remove()
    return calls


def hidden_places(model, batch, step=0):
    """Which tokens a loss hides, [B N]."""
    return (term(model, batch, step).t.view(len(batch), model.repeats, PLACES) >= 0)[:, 0]


def with_tokens(batch, tokens):
    images = unpatchify(tokens, (SIDE, SIDE), PATCH)
    return replace(batch, segments=[batch.segments[0], replace(batch.segments[1], data=images)])


# What is read


@EACH
def test_what_a_hidden_token_says_is_read_by_nobody_and_what_a_known_one_says_is(drawing, settings):
    model = awake(make(**settings))
    hidden = hidden_places(model, drawing)
    assert hidden.any()
    assert not hidden.all()
    tokens = patchify(drawing.segments[1].images, PATCH)
    others = tokens.flip(0) + 0.1
    one, other, known = (
        seen(model, lambda b=b: term(model, b))[0][1]
        for b in (
            drawing,
            with_tokens(drawing, torch.where(hidden[..., None], others, tokens)),
            with_tokens(drawing, torch.where(hidden[..., None], tokens, others)),
        )
    )
    assert torch.equal(one, other)
    inside = slice(one.shape[1] - 1 - PLACES, one.shape[1] - 1)  # before eoi
    rows = ~hidden.all(1)
    changed = (one - known)[:, inside].abs().amax(-1) > 0
    assert changed[rows].all(), "each token of the image reads its known ones, both ways"


def test_an_encoder_reads_the_known_tokens_alone(drawing):
    model, calls = awake(make(encoder=True)), []
    model.encoder.register_forward_hook(lambda m, a, out: calls.append((a[0].mask, out)))
    hidden = hidden_places(model, drawing)
    (mask, _), *_ = calls
    assert torch.equal(mask.valid, ~hidden)
    assert (mask.segment == 0).all()


def test_a_picture_that_is_read_has_nothing_hidden(reading):
    for model in (make(), make(encoder=True)):
        awake(model)
        (tokens, _), *_ = seen(
            model, lambda m=model: m.loss(reading, Noise.for_batch(0, 0, reading))
        )
        x = patchify(reading.segments[0].images, PATCH)
        own = seen(model, lambda m=model, x=x: _run_tokens(m, x))[0][0]
        assert torch.equal(tokens.x[:, : PLACES + 2], own.x)


def _run_tokens(model, tokens):
    from unify.nn.sequence import TokenSequence

    sequence = TokenSequence(1)
    nothing = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    model.add_tokens(sequence, tokens, GRID, nothing)
    sequence.run(model.trunk)


def test_drawing_and_reading_share_the_encoder_and_neither_teaches_the_others_head(
    drawing, reading
):
    model = awake(make(encoder=True))

    def learned(batch):
        model.zero_grad()
        terms = model.loss(batch, Noise.for_batch(0, 0, batch))
        sum(one.value.mean() for one in terms.values()).backward()
        return {
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }

    drawn, read = learned(drawing), learned(reading)
    shared = {"inward.weight", *(name for name in drawn if name.startswith(("encoder", "trunk")))}
    assert shared <= drawn & read
    assert not any(name.startswith(("flow_head", "unknown")) for name in read)
    assert "to_text.weight" in read - drawn
    assert "unknown.weight" in drawn


# What is learned


def test_the_loss_of_a_row_is_the_mean_over_its_hidden_tokens_and_their_noised_copies(drawing):
    model = awake(make(repeats=3))
    found = term(model, drawing)
    times, each = (part.view(3, 3, PLACES) for part in (found.t, found.each))
    counted = times >= 0
    assert torch.equal(counted, counted[:, :1].expand_as(counted)), "copies hide the same tokens"
    wanted = (each * counted).sum((1, 2)) / counted.sum((1, 2))
    torch.testing.assert_close(found.value, wanted)
    torch.testing.assert_close(
        term(make(repeats=3), drawing).value, _of_zero(drawing, counted[:, 0]), atol=1e-5, rtol=1e-5
    )


def _of_zero(batch, hidden, repeats=3):
    """The loss of a head that says zero, written out: |x1 - x0|^2 of the streams by contract."""
    x1 = patchify(batch.segments[1].images, PATCH)[:, None]
    x0 = Noise.for_batch(0, 0, batch).x0(1, (repeats, 3, SIDE, SIDE))
    x0 = patchify(x0.flatten(0, 1), PATCH).unflatten(0, (-1, repeats))
    error = (x1 - x0).square().mean((1, 3))
    return (error * hidden).sum(1) / hidden.sum(1)


def test_the_first_noise_and_time_are_those_of_any_flow_to_this_image(drawing):
    noise = Noise.for_batch(0, 0, drawing)
    plain = noise.x0(1, (3, SIDE, SIDE)), noise.t(1)
    x0, t = noise.x0(1, (4, 3, SIDE, SIDE)), noise.t(1, (4, PLACES))
    assert torch.equal(x0[:, 0], plain[0])
    assert torch.equal(t[:, 0, 0], plain[1])


class Oracle(nn.Module):
    """A head that knows the image: x1 - x0 from any point on the way."""

    channels, dim, patch, numbers = 3, DIM, PATCH, NUMBERS
    grid = FlowHead.grid

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens  # [... E], as x

    def forward(self, x, t, c):
        tokens = self.tokens.expand_as(x) if x.ndim == 4 else self.tokens.reshape(-1, NUMBERS)
        return (tokens - x) / (1 - t)[..., None]


def test_an_oracles_loss_is_zero(drawing):
    tokens = patchify(drawing.segments[1].images, PATCH)[:, None]
    found = term(make(flow_head=Oracle(tokens)), drawing)
    assert found.value.max() < 1e-6
    wrong = term(make(flow_head=Oracle(tokens.roll(1, 0))), drawing)
    assert wrong.value.min() > 0.01


def test_a_law_that_hides_nothing_in_a_row_gives_it_a_loss_of_zero(drawing):
    class Nothing(LinearMasking):
        def choose(self, order, share):
            return torch.zeros_like(order, dtype=torch.bool)

    found = term(awake(make(masking=Nothing("sample"))), drawing)
    assert found.value.tolist() == [0, 0, 0]
    assert (found.t < 0).all()


# What is drawn


def request(**settings):
    return ImageRequest(PROMPTS, size=(SIDE, SIDE), **settings)


@EACH
@torch.no_grad()
def test_teacher_forcing_equals_decoding(drawing, settings):
    """With the true tokens known, the vectors to draw from are those that training learns from."""
    model, found = awake(make(**settings)), {}
    for step in range(3):
        tokens = patchify(drawing.segments[1].images, PATCH)
        hidden = hidden_places(model, drawing, step)
        ((_, states),) = seen(model, lambda step=step: term(model, drawing, step))
        trained = states[:, states.shape[1] - 1 - PLACES : -1]
        prefix = model.prefix([(PROMPTS, [])])
        head = model.flow_head
        handle = head.register_forward_pre_hook(lambda m, a: found.update(c=a[2]))
        x0 = torch.zeros(3, PLACES, NUMBERS)
        draw = model.drawing(prefix, x0, GRID, InOrderSampler(steps=1))
        every = torch.arange(PLACES).expand(3, -1)
        draw(tokens * ~hidden[..., None], hidden, every, 1.0)
        handle.remove()
        asked = found.pop("c").view(3, PLACES, DIM)
        torch.testing.assert_close(asked, trained, atol=2e-5, rtol=2e-5)


def sequential(model, guidance, steps, seed):
    """One token after another by full passes, without cache, order or schedule: [B N E]."""
    noise = request(seed=seed).noise("cpu")
    x0 = patchify(noise.normal("x0", (3, SIDE, SIDE)), PATCH)
    tokens = torch.zeros_like(x0)
    for place in range(PLACES):
        hidden = (torch.arange(PLACES) >= place).expand(3, -1)
        vectors = []
        for prompts in ([None] * 3, PROMPTS):
            sequence = model.prefix([(prompts, [])])
            where = model.add_tokens(sequence, tokens, GRID, hidden)
            vectors.append(sequence.run(model.trunk)[:, where][:, place])

        def velocity(x, t, vectors=vectors):
            nothing, given = (
                model.prediction.velocity(model.flow_head(x, t, c), x, t) for c in vectors
            )
            return nothing + guidance * (given - nothing)

        tokens = tokens.clone()
        tokens[:, place] = integrate(velocity, x0[:, place], steps)
    return tokens


@pytest.mark.parametrize("encoder", [False, True])
@torch.no_grad()
def test_one_token_an_iteration_in_raster_order_is_the_sequential_sampler(encoder):
    model = awake(make(order="raster", encoder=encoder))
    settings = {"guidance": 2.0, "steps": 3}
    drawn = model.generate_image(request(seed=4), iterations=PLACES, **settings)
    wanted = unpatchify(sequential(model, **settings, seed=4), (SIDE, SIDE), PATCH).clamp(-1, 1)
    torch.testing.assert_close(drawn, wanted, atol=2e-4, rtol=2e-4)
    assert not torch.allclose(
        drawn, model.generate_image(request(seed=4), iterations=1, **settings), atol=1e-3
    )


@EACH
@torch.no_grad()
def test_a_known_token_never_changes_and_every_token_is_drawn_once(settings, monkeypatch):
    model, passes = awake(make(**settings)), []
    drawing, decoded = model.drawing, []

    def spied(*args):
        draw = drawing(*args)

        def wrapped(tokens, hidden, places, known):
            drawn = draw(tokens, hidden, places, known)
            passes.append((tokens.clone(), hidden.clone(), places, drawn))
            return drawn

        return wrapped

    monkeypatch.setattr(model, "drawing", spied)
    decode = model.image.decode
    monkeypatch.setattr(model.image, "decode", lambda x: decoded.append(x) or decode(x))
    model.generate_image(request(), steps=2, iterations=3, guidance=1.5)
    assert len(passes) == 3
    final = patchify(decoded[0], PATCH)
    for tokens, hidden, places, drawn in passes:
        assert torch.equal(tokens[~hidden], final[~hidden])
        index = places[..., None].expand_as(drawn)
        assert torch.equal(final.gather(1, index), drawn)
    asked = torch.cat([places for _, _, places, _ in passes], 1)
    assert torch.equal(asked.sort(1).values, torch.arange(PLACES).expand(3, -1))


@EACH
@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch_mates(settings):
    model = awake(make(**settings))
    drawn = model.generate_image(request(seed=[5, 6, 7]), steps=3, iterations=3, guidance=2.0)
    for row, prompt in enumerate(PROMPTS):
        one = ImageRequest([prompt], size=(SIDE, SIDE), seed=[5 + row])
        alone = model.generate_image(one, steps=3, iterations=3, guidance=2.0)
        torch.testing.assert_close(drawn[row : row + 1], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_token_starts_from_its_own_noise_whatever_the_iterations(drawing):
    """A head that adds nothing returns the start: the noise of the image, scaled."""
    model = make()  # its velocity is zero
    noise = request(seed=2).noise("cpu").normal("x0", (3, SIDE, SIDE))
    for iterations in (1, 3, PLACES):
        drawn = model.generate_image(request(seed=2), iterations=iterations, temperature=0.3)
        torch.testing.assert_close(drawn, (0.3 * noise).clamp(-1, 1))


@torch.no_grad()
def test_a_head_of_gaussians_draws_them_guided_by_the_written_sum():
    """Tokens of N(m, s^2) have a velocity in closed form; guidance moves m, and s not."""
    mean, deviation = {"nothing": -0.2, "given": 0.1}, 0.1

    class Gaussian(Oracle):
        def forward(self, x, t, c):
            u = t[..., None]
            slope = (u * deviation**2 - (1 - u)) / ((1 - u) ** 2 + u**2 * deviation**2)
            half = len(x) // 2  # the pass without the prompt comes first
            m = torch.full((len(x), 1), mean["nothing"])
            m[half:] = mean["given"]
            return m + slope * (x - u * m)

    model = make(flow_head=Gaussian(torch.zeros(NUMBERS)))
    rows = 64
    asked = ImageRequest(["red"] * rows, size=(SIDE, SIDE))
    drawn = model.generate_image(asked, guidance=2.0, steps=60, solver="heun", iterations=2)
    wanted = mean["nothing"] + 2 * (mean["given"] - mean["nothing"])
    count = drawn.numel()
    assert drawn.mean().item() == pytest.approx(wanted, abs=5 * deviation / count**0.5)
    assert drawn.std().item() == pytest.approx(deviation, rel=5 / (2 * count) ** 0.5 + 2e-3)


def test_a_growing_scale_of_guidance_ends_at_the_asked_one():
    grows = InOrderSampler(guidance=3.0, guidance_schedule="linear")
    assert [grows.scale(known) for known in (0.0, 0.5, 1.0)] == [1, 2, 3]
    assert InOrderSampler(guidance=3.0).scale(0.1) == 3


@pytest.mark.slow
def test_colours_learned_by_heart_are_drawn():
    flat = (2 * torch.eye(3) - 1)[..., None, None].expand(3, 3, SIDE, SIDE)
    keys = [f"row {row}" for row in range(12)]
    batch = Batch.text_to_image(PROMPTS * 4, flat.repeat(4, 1, 1, 1), keys, 16)
    model = learn(make(dropout=0.0), [batch], 40, {"image_flow"})
    drawn = model.generate_image(request(), steps=10, iterations=PLACES)
    assert confusion(drawn, flat).max() < 0.5


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow_head": FlowHead(4, DIM)}, "flow_head.channels is 4, but the image tokenizer has 3"),
        ({"flow_head": FlowHead(3, 16)}, "flow_head.dim is 16, but the trunk has 32"),
        ({"trunk": TimedTrunk(DIM, 1, 2)}, "trunk: no token here has a flow time .* TimedTrunk"),
    ],
)
def test_parts_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
