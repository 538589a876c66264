"""Invariants of CrossFlow: who is null, what guidance compares, inversion, arithmetic, captions."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from small import DIM, PROMPTS, SIDE, awake, confusion, learn

from unify.batch import Batch
from unify.commands.runs import sample
from unify.data.module import Data
from unify.data.shapes import Shapes
from unify.flow import FlowSampler, LogitNormalTime, SinCosPath, UniformTime
from unify.nn.flops import counted
from unify.nn.init import initialise
from unify.nn.latent_flow import twins
from unify.nn.patches import ConvPatches, LinearPatches
from unify.nn.text_latent import (
    Deterministic,
    ImageText,
    Reconstruction,
    TextDecoder,
    TextEncoder,
    TextText,
    Variational,
)
from unify.nn.trunk import TimedTrunk, Trunk
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest
from unify.paradigms.crossflow import CrossFlow, parse, standardise
from unify.paradigms.crossflow_from_image import CrossFlowCaption, CrossFlowImages
from unify.schema.experiment import Machine
from unify.schema.micro_steps import accumulation
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes

VOCAB, NUMBERS = Bytes.vocab_size, 3 * SIDE * SIDE


def encoder(posterior=None, depth=1):
    return TextEncoder(Trunk(DIM, depth, 2), posterior or Variational(), VOCAB, 3, 4)


def decoder():
    return TextDecoder(Trunk(DIM, 1, 2), VOCAB, 3, 4)


def contrast():
    return ImageText(PatchEncoder(DIM, 1, 2), NUMBERS)


def flow(**settings):
    given = {
        "trunk": Trunk(DIM, 2, 2),
        "image": Pixels(),
        "patches": LinearPatches(3, DIM, 4),
        "time": LogitNormalTime(),
        "group": 4,
        "size": SIDE,
    }
    return {**given, **settings}


def make(cls=CrossFlow, **settings):
    parts = {}
    if cls is not CrossFlowImages:
        parts = {"text": Bytes(), "encoder": settings.pop("encoder", None) or encoder()}
    if cls is CrossFlow:
        parts["regulariser"] = settings.pop("regulariser", None) or contrast()
    if cls is CrossFlowCaption:
        parts["decoder"] = decoder()
    model = cls(**parts, **flow(**settings))
    initialise(model, 0)
    return model


def pictures(rows, seed=0):
    return torch.rand(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch_of(rows):
    texts = [f"picture {row}" for row in range(rows)]
    return Batch.text_to_image(texts, pictures(rows), [str(row) for row in range(rows)], 16)


def noise_of(batch, step=0):
    return Noise.for_batch(0, step, batch)


def terms(model, batch, step=0):
    return model.loss(batch, noise_of(batch, step))


# Null rows


def test_null_rows_take_a_mates_target_and_the_others_keep_their_own():
    model, batch, z1 = make(dropout=0.5), batch_of(8), pictures(8)
    for step in range(20):
        rows, shown = model.targets(batch, noise_of(batch, step))
        target = z1[rows]
        for row in range(8):
            mates = [i for i in range(8) if i // 4 == row // 4 and i != row]
            result = [i for i in range(8) if torch.equal(target[row], z1[i])]
            assert result[0] in (mates if shown[row] == 0 else [row])


@pytest.mark.parametrize("rows", [2, 3, 4, 16])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_null_rate_is_the_asked_one_for_any_batch_of_two_or_more(rows, share):
    model, batch, steps = make(dropout=share, group=16), batch_of(rows), 4000 // rows
    nulls = sum(
        (1 - model.targets(batch, noise_of(batch, step))[1]).sum().item() for step in range(steps)
    )
    n = rows * steps
    assert abs(nulls / n - share) < 3 * math.sqrt(share * (1 - share) / n)


def test_a_row_alone_is_never_null():
    model, batch = make(dropout=1.0), batch_of(5)
    _, shown = model.targets(batch, noise_of(batch))
    assert shown.tolist() == [0, 0, 0, 0, 1]  # groups of 4
    assert model.targets(batch_of(1), noise_of(batch_of(1)))[1].tolist() == [1]


def test_no_row_is_null_in_eval_mode():
    model, batch = make(dropout=1.0).eval(), batch_of(4)
    rows, shown = model.targets(batch, noise_of(batch))
    assert rows.tolist() == [0, 1, 2, 3]
    assert shown.all()


def seen_by_velocity(model, batch):
    """(z0, target, t, indicator) of one loss: a straight path, read back from two of its facts."""
    seen = []
    inner = model.path.at
    model.path = SimpleNamespace(at=lambda *ends: seen.append(ends) or inner(*ends))
    terms(model, batch)
    return seen[0]


def test_a_null_row_keeps_its_own_source():
    batch = batch_of(4)
    never, always = (make(dropout=p) for p in (0.0, 1.0))
    (z0, z1, t), (other, swapped, time) = (seen_by_velocity(m, batch) for m in (never, always))
    assert torch.equal(z0, other)
    assert torch.equal(t, time)
    assert torch.equal(z1, batch.segments[1].images)
    assert not torch.isclose(swapped, z1).flatten(1).all(1).any()


def test_the_indicator_and_nothing_else_tells_the_two_velocities_apart():
    model, z, t = awake(make()), pictures(2), torch.tensor([0.2, 0.7])
    off, on = (model.velocity(z, t, torch.full((2,), i)) for i in (0, 1))
    assert not torch.allclose(off, on)
    with torch.no_grad():
        model.indicator.weight[0] = model.indicator.weight[1]
    torch.testing.assert_close(model.velocity(z, t, torch.zeros(2, dtype=torch.long)), on)


# The loss


def test_at_initialisation_the_flow_loss_is_that_of_predicting_zero():
    model, batch = make(dropout=0.0), batch_of(4)
    z0, z1, _ = seen_by_velocity(model, batch)
    result = terms(make(dropout=0.0), batch)["image_flow"].value
    torch.testing.assert_close(result, (z1 - z0).square().flatten(1).mean(1))


def test_time_and_noise_are_those_that_transfusion_draws():
    """Of the same names: through this law's quantile, and as the encoder's sample."""
    model, batch = make(), batch_of(4)
    z0, _, t = seen_by_velocity(model, batch)
    noise = noise_of(batch)
    assert torch.equal(t, model.time.quantile(noise.uniform("image1/t")))
    ids, valid = model.text.encode(batch.segments[0].texts, 16)
    moments = model.encoder(ids, valid, (SIDE, SIDE))
    eps = noise.normal("image1/x0", (3, SIDE, SIDE))
    assert torch.equal(z0, model.encoder.posterior.sample(moments, eps))


def test_every_term_teaches_the_encoder_and_a_frozen_one_learns_nothing():
    for name in ("image_flow", "kl", "regulariser"):
        model = awake(make())
        terms(model, batch_of(4))[name].value.sum().backward()
        assert model.encoder.embed.weight.grad.abs().max() > 0, name
    model = awake(make())
    model.encoder.requires_grad_(False)
    sum(term.value.sum() for term in terms(model, batch_of(4)).values()).backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert model.trunk.norm.weight.grad.abs().max() > 0


def test_groups_in_micro_batches_are_the_groups_of_one_batch():
    """What a gathered contrastive loss would be is what each group is by itself."""
    model, batch = awake(make(dropout=0.5)), batch_of(12)
    whole = terms(model, batch)
    for start in (0, 4, 8):
        rows = slice(start, start + 4)
        for name, term in terms(model, batch.rows(rows)).items():
            torch.testing.assert_close(term.value, whole[name].value[rows], atol=1e-5, rtol=1e-5)
    parted = terms(model, batch.rows(slice(2, 6)))["regulariser"].value
    assert not torch.allclose(parted, whole["regulariser"].value[2:6])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"trunk": TimedTrunk(DIM, 2, 2)},
        {"trunk": Trunk(DIM, 2, 2, sections=[2, 1, 1])},
        {"path": SinCosPath()},
        {"time": UniformTime()},
        {"encoder": encoder(Deterministic())},
        {"regulariser": TextText(encoder(Deterministic()))},
        {"regulariser": Reconstruction(decoder())},
    ],
    ids=["plain", "timed", "axes", "sincos", "uniform", "deterministic", "text", "tokens"],
)
def test_parts_can_be_changed(settings):
    model = awake(make(**settings))
    result = terms(model, batch_of(4))
    assert result.keys() == model.terms
    assert all(torch.isfinite(term.value).all() for term in result.values())
    assert model.generate_image(ImageRequest(PROMPTS), steps=2, guidance=2.0).shape == (
        3,
        3,
        SIDE,
        SIDE,
    )


def test_temperature_scales_what_the_encoder_samples_from_none_to_all(monkeypatch):
    model, starts = awake(make()), []
    monkeypatch.setattr(model, "carry", lambda z, *settings: starts.append(z) or z)
    for temperature in (0.0, 0.5, 1.0):
        model.generate_image(ImageRequest(PROMPTS, seed=1), temperature=temperature)
    model.generate_image(ImageRequest(PROMPTS, seed=2), temperature=0.0)
    mean, half, whole, other = starts
    torch.testing.assert_close(half - mean, (whole - mean) / 2)
    assert (whole - mean).abs().max() > 0.1
    with torch.no_grad():  # as images are drawn: gradients may choose kernels of other rounding
        assert torch.equal(mean, model.source(PROMPTS, torch.zeros_like(mean)))
    assert torch.equal(mean, other)


def test_a_drawn_text_follows_its_seed_only_if_the_encoder_samples():
    for posterior, same in ((Deterministic(), True), (Variational(), False)):
        model = awake(make(encoder=encoder(posterior)))
        one, other = (model.generate_image(ImageRequest(PROMPTS, seed=s), steps=2) for s in (0, 1))
        assert torch.equal(one, other) == same


def test_images_learned_by_heart_are_drawn():
    """From source to target without noise: the floor of the loss is zero."""
    model, images = make(encoder=encoder(Deterministic()), dropout=0.0), pictures(3)
    batch = Batch.text_to_image(PROMPTS, images, list("abc"), 16)
    learn(model, [batch], 60, {"image_flow"})
    assert terms(model, batch)["image_flow"].value.max() < 0.01
    assert confusion(model.generate_image(ImageRequest(PROMPTS), steps=10), images).max() < 0.1


def unread(model):
    """A list that fills with the FLOPs of pairs that a trunk's mask hides: torch counts them."""
    result = []

    def hook(trunk, args):
        rows, length = args[0].x.shape[:2]
        hidden = rows * length**2 - args[0].mask.pairs()
        result.append(4.0 * hidden * trunk.head_dim * trunk.heads * trunk.depth)

    for part in model.modules():
        if isinstance(part, Trunk):
            part.register_forward_pre_hook(hook)
    return result


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (CrossFlow, {}),
        (CrossFlow, {"trunk": TimedTrunk(DIM, 2, 2), "patches": ConvPatches(3, DIM, 4, 8)}),
        (CrossFlow, {"regulariser": TextText(encoder(Deterministic()))}),
        (CrossFlow, {"regulariser": Reconstruction(decoder())}),
        (CrossFlowImages, {}),
        (CrossFlowCaption, {}),
    ],
    ids=["image", "timed", "text", "tokens", "images", "caption"],
)
def test_flops_are_those_that_torch_counts(cls, settings):
    """Within 1%, in texts without padding; the contrast of a group is what is left out."""
    model, images = make(cls, **settings), pictures(4)
    texts, keys = [f"picture {row}" for row in range(4)], list("abcd")  # 11 tokens each
    batch = {
        CrossFlow: Batch.text_to_image(texts, images, keys, 11),
        CrossFlowImages: Batch.image_to_image(images, images.flip(0), keys, "depth"),
        CrossFlowCaption: Batch.image_to_text(images, texts, keys, lengths=(11, 11)),
    }[cls]
    hidden = unread(model)
    total = counted(lambda: terms(model, batch))
    assert model.flops(batch) / 3 == pytest.approx(total - sum(hidden), rel=0.01)


# Guidance, oracle, inversion


def test_guidance_scales_and_both_passes_read_the_same_state(monkeypatch):
    model, z = make(), pictures(2)
    seen = []

    def velocity(x, t, shown):
        seen.append((x, t, shown))
        return torch.where(shown[:, None, None, None] == 1, 3.0, 1.0).expand_as(x)

    monkeypatch.setattr(model, "velocity", velocity)
    for scale, slope in ((1.0, 3.0), (0.0, 1.0), (2.0, 5.0)):
        torch.testing.assert_close(model.carry(z, FlowSampler(scale, steps=3)), z + slope)
    assert [len(x) for x, *_ in seen] == [2] * 3 + [4] * 6
    x, t, shown = seen[-1]
    assert torch.equal(x[:2], x[2:])
    assert torch.equal(t[:2], t[2:])
    assert shown.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("solver", ["euler", "heun", "rk4"])
def test_a_perfect_velocity_lands_on_the_target(monkeypatch, steps, solver):
    model, z0, z1 = make(), pictures(2), pictures(2, 1)
    monkeypatch.setattr(model, "velocity", lambda x, t, shown: z1 - z0)
    sampler = FlowSampler(steps=steps, solver=solver)
    carried = model.carry(z0, sampler)
    torch.testing.assert_close(carried, z1, atol=1e-5, rtol=0)
    back = model.carry(carried, sampler, reverse=True)
    torch.testing.assert_close(back, z0, atol=1e-5, rtol=0)


def test_inversion_finds_the_source_of_an_image():
    model, z0 = awake(make()), pictures(2)
    errors = []
    for steps in (10, 40):
        sampler = FlowSampler(steps=steps, solver="rk4")
        z1 = model.carry(z0, sampler)
        assert (z1 - z0).abs().max() > 0.1
        back = model.carry(z1, sampler, reverse=True)
        errors.append((back - z0).abs().max().item())
    assert errors[1] < min(1e-3, errors[0] / 8)


@pytest.mark.parametrize(
    ("cls", "solver", "guidance"),
    [(CrossFlow, "heun", 1.0), (CrossFlow, "rk4", 2.0), (CrossFlowImages, "rk4", 1.0)],
)
def test_an_inverted_image_is_drawn_again(cls, solver, guidance):
    model, images = awake(make(cls)), pictures(2)

    def missed_by(**settings):
        began = model.invert(images, guidance=guidance, **settings)
        assert (began - images).abs().max() > 0.5
        again = model.image.decode(model.carry(began, FlowSampler(guidance, **settings)))
        return (again - images).abs().max().item()

    few, many = (missed_by(steps=steps, solver=solver) for steps in (8, 32))
    assert many < min(5e-3, few / 3)
    assert missed_by(steps=8) > 5 * few  # by Euler


def test_only_flows_to_images_are_inverted():
    """From a caption there is no image to begin with."""
    assert not hasattr(CrossFlowCaption, "invert")


# Arithmetic


def test_a_prompt_added_and_taken_away_again_changes_nothing():
    model, eps = awake(make()), pictures(2)
    plain = model.combine([(1, "a dog")], eps)
    both = model.combine([(1, "a dog"), (1, "cat"), (-1, "cat")], eps)
    torch.testing.assert_close(both, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain, model.source(["a dog"] * 2, eps))
    assert not torch.allclose(model.combine([(1, "a dog"), (1, "cat")], eps), plain, atol=1e-2)


def test_standardised_latents_have_mean_0_and_deviation_1_in_each_row():
    z = standardise(7 * pictures(3) + torch.tensor([1.0, -2.0, 0.0])[:, None, None, None])
    torch.testing.assert_close(z.flatten(1).mean(1), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.flatten(1).std(1, correction=0), torch.ones(3))
    torch.testing.assert_close(standardise(3 * z + 1), z, atol=1e-5, rtol=0)


def test_an_image_of_a_sum_starts_at_the_standardised_sum(monkeypatch):
    model, seen = awake(make()), []
    monkeypatch.setattr(model, "carry", lambda z, sampler: seen.append((z, sampler)) or z)
    drawn = model.generate_arithmetic("a dog + cat - a dog", count=2, seed=3, steps=5)
    assert drawn.shape == (2, 3, SIDE, SIDE)
    (z, sampler), other = seen[0], model.generate_arithmetic("cat", count=2, seed=4)
    assert sampler.steps == 5
    torch.testing.assert_close(z, standardise(z))
    assert not torch.allclose(drawn[0], drawn[1])
    assert not torch.allclose(drawn, other)


@pytest.mark.parametrize(
    ("written", "terms"),
    [
        ("cat", [(1, "cat")]),
        ("a red circle + blue - square", [(1, "a red circle"), (1, "blue"), (-1, "square")]),
        ('"a + b" - a well-known b', [(1, "a + b"), (-1, "a well-known b")]),
        ("  it's   + 2  ", [(1, "it's"), (1, "2")]),
    ],
)
def test_expressions_are_read(written, terms):
    assert parse(written) == terms


@pytest.mark.parametrize("written", ["", "+ a", "a +", "a + - b", 'a + "b', '"" + a'])
def test_expressions_that_say_nothing_are_named(written):
    with pytest.raises(ValueError, match=r"cannot read .* write prompts with"):
        parse(written)


def test_command_line_draws_sums_of_prompts(monkeypatch, tmp_path):
    data = Data(Shapes(), {"text_to_image": 2})
    recipe = SimpleNamespace(
        model=awake(make()), data=data, machine=Machine(), image_sampling={"steps": 2}
    )
    monkeypatch.setattr(
        "unify.evaluation.draw_samples.open_run", lambda *args, **kwargs: (None, None, recipe)
    )
    out = tmp_path / "sum.png"
    assert sample(tmp_path, arith="a dog + cat - dog", out=out, count=3) == 0
    assert out.exists()
    assert sample(tmp_path, prompt=["a dog"], out=out) == 0
    assert sample(tmp_path, ["guidance=2", "steps=3"], arith="a dog + cat", out=out) == 0
    for given in ({}, {"prompt": ["a dog"], "arith": "cat"}):
        with pytest.raises(ValueError, match="either --prompt or --arith"):
            sample(tmp_path, out=out, **given)
    recipe.model = make(CrossFlowImages)
    with pytest.raises(ValueError, match="a CrossFlowImages has no text latents"):
        sample(tmp_path, arith="a + b", out=out)


# From an image


def reading(rows=4):
    return Batch.image_to_text(
        pictures(rows), [*PROMPTS, "no"][:rows], list("abcd")[:rows], lengths=(16, 16)
    )


def test_a_caption_goes_to_latent_and_back_through_a_perfect_flow(monkeypatch):
    model, batch = make(CrossFlowCaption), reading()
    parts = [*model.encoder.parameters(), *model.decoder.parameters()]
    optimizer = torch.optim.Adam(parts, 1e-2)
    for step in range(80):
        optimizer.zero_grad()
        terms(model, batch, step)["reconstruction"].value.mean().backward()
        optimizer.step()
    texts = batch.segments[1].texts
    ids, valid = model.text.encode(texts, 20)
    z1 = model.encoder(ids, valid, (SIDE, SIDE))[:, :3]
    shown = batch.segments[0].images
    monkeypatch.setattr(model, "velocity", lambda x, t, i: z1 - shown)
    assert model.generate_text(TextRequest(shown), steps=3) == texts
    monkeypatch.setattr(model, "velocity", lambda x, t, i: z1.flip(0) - shown)
    assert model.generate_text(TextRequest(shown), steps=3) == texts[::-1]


def test_the_flow_does_not_move_the_latents_that_it_learns_to_reach():
    for name, learns in (("text_flow", False), ("kl", True), ("reconstruction", True)):
        model = awake(make(CrossFlowCaption))
        terms(model, reading())[name].value.sum().backward()
        assert (model.encoder.embed.weight.grad is not None) == learns, name


def test_an_enlarged_source_is_where_super_resolution_starts():
    model, images = make(CrossFlowImages, dropout=0.0), pictures(2)
    small = F.avg_pool2d(images, 2)
    batch = Batch.image_to_image(small, images, ["a", "b"], "super_resolution")
    z0, z1, _ = seen_by_velocity(model, batch)
    enlarged = F.interpolate(small, (SIDE, SIDE), mode="bicubic").clamp(-1, 1)
    assert torch.equal(z0, enlarged)
    assert torch.equal(z1, images)
    still = make(CrossFlowImages).generate_image(
        ImageRequest([None] * 2, [small], size=(SIDE, SIDE))
    )
    torch.testing.assert_close(still, enlarged)  # a flow that stands still at first


def test_a_source_of_the_targets_size_is_left_as_it_is():
    images = pictures(2)
    assert torch.equal(make(CrossFlowImages).source(images, (SIDE, SIDE)), images)


# What cannot be


@pytest.mark.parametrize(
    ("tasks", "machine", "group", "parts"),
    [
        ({"text_to_image": 92}, Machine(), 46, 1),
        ({"text_to_image": 92}, Machine(micro_batch=60), 46, 2),
        ({"text_to_image": 92}, Machine(devices=2), 46, 1),
        ({"text_to_image": 24, "caption": 8}, Machine(micro_batch=8), 2, 4),
        ({"text_to_image": 24, "caption": 8}, Machine(micro_batch=8), 1, 4),
    ],
)
def test_groups_are_never_split(tasks, machine, group, parts):
    assert accumulation(tasks, machine, group) == parts
    assert all(n // (parts * machine.devices) % group == 0 for n in tasks.values())


@pytest.mark.parametrize(
    ("machine", "group", "message"),
    [
        (Machine(), 10, "data.tasks.text_to_image is 92 rows.* multiple of 10 or change"),
        (Machine(devices=4), 46, "data.tasks.text_to_image is 92 .* multiple of 184"),
        (Machine(micro_batch=40), 46, r"without splitting groups of 46 \(model.group\)"),
    ],
)
def test_groups_that_would_be_split_are_named(machine, group, message):
    with pytest.raises(ValueError, match=message):
        accumulation({"text_to_image": 92}, machine, group)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"patches.channels is 4.*set it to 3"):
        make(patches=LinearPatches(4, DIM, 4))
    with pytest.raises(ValueError, match=r"group is 1.*at least 2"):
        make(group=1)
    with pytest.raises(ValueError, match=r"encoder.vocab_size is 9, but the tokenizer has 260"):
        make(encoder=TextEncoder(Trunk(DIM, 1, 2), Variational(), 9, 3))
    with pytest.raises(ValueError, match="no latent for a prompt of None"):
        make().generate_image(ImageRequest([None]))
    with pytest.raises(ValueError, match="neither sources nor negative prompts"):
        make().generate_image(ImageRequest(["a"], [pictures(1)]))
    with pytest.raises(ValueError, match="one source image for each and no prompts"):
        make(CrossFlowImages).generate_image(ImageRequest(["a"], [pictures(1)]))
    with pytest.raises(ValueError, match="answers no prompts"):
        make(CrossFlowCaption).generate_text(TextRequest(pictures(1), ["what?"]))


def test_rows_with_the_same_text_are_no_negatives_of_each_other():
    assert twins(["a", "b", "a"]).tolist() == [
        [False, False, True],
        [False, False, False],
        [True, False, False],
    ]


def test_the_residual_stream_stays_in_full_precision_under_autocast():
    model = CrossFlow(Bytes(), encoder(), contrast(), **flow())
    seen = []
    for block in model.trunk.blocks:
        block.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        z = torch.randn(2, 3, SIDE, SIDE)
        model.velocity(z, torch.rand(2), torch.ones(2, dtype=torch.long))
    assert set(seen) == {torch.float32}
