"""Invariants of Transfusion: who sees what, what the flow learns, the time bound, the cache."""

import copy

import pytest
import torch
from small import DIM, PROMPTS, SIDE, awake, make_transfusion

from unify.batch import Batch, Segment
from unify.flow import UniformTime, XPrediction
from unify.nn.patches import ConvPatches, LinearPatches
from unify.nn.trunk import TimedTrunk, Trunk
from unify.noise import Noise


def terms(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))


def call(model, batch, step=0):
    """(inputs, mask, hidden, depends [S S]) of the trunk in one loss of the batch."""
    seen = {}

    def before(module, args, kwargs):
        x = args[0].detach().clone().requires_grad_(True)
        seen.update(x=x, mask=args[1])
        return (x, *args[1:]), kwargs

    handles = [
        model.trunk.register_forward_pre_hook(before, with_kwargs=True),
        model.trunk.register_forward_hook(lambda m, a, out: seen.update(hidden=out)),
    ]
    terms(model, batch, step)
    for handle in handles:
        handle.remove()
    depends = torch.stack(
        [
            torch.autograd.grad(seen["hidden"][0, q].sum(), seen["x"], retain_graph=True)[0][0]
            .abs()
            .amax(-1)
            > 0
            for q in range(seen["x"].shape[1])
        ]
    )
    return seen["mask"], depends


def test_patches_see_each_other_in_both_directions(drawing):
    mask, depends = call(awake(make_transfusion()), drawing)
    inside = (mask.segment[0] >= 0).nonzero().flatten()
    assert len(inside) == (SIDE // 4) ** 2
    assert depends[inside][:, inside].all()


def test_text_before_an_image_does_not_depend_on_it_and_the_image_does_on_the_text(drawing):
    mask, depends = call(awake(make_transfusion()), drawing)
    patches = mask.segment[0] >= 0
    text = torch.arange(len(patches)) < patches.int().argmax()
    assert not depends[text][:, patches].any()
    assert depends[patches][:, text & mask.valid[0]].all()


def story(images):
    """An image that is drawn, then read: text, image target, text target."""
    columns = [
        Segment.text(PROMPTS, "condition", 16),
        Segment.image(images, "target"),
        Segment.text(PROMPTS, "target", 16),
    ]
    return Batch("story", columns, ["a", "b", "c"])


def test_noised_mode_lets_later_text_read_the_noised_image(images):
    mask, depends = call(awake(make_transfusion(condition_on="noised")), story(images))
    patches = (mask.segment[0] >= 0).nonzero().flatten()
    assert len(patches) == 4
    assert depends[patches[-1] + 2 :][:, patches].any(1)[mask.valid[0][patches[-1] + 2 :]].all()


def test_clean_copy_isolates_the_noised_image_and_later_text_reads_the_clean_one(images):
    mask, depends = call(awake(make_transfusion(condition_on="clean_copy")), story(images))
    noised = mask.isolated[0] & (mask.segment[0] >= 0)
    clean = ~mask.isolated[0] & (mask.segment[0] >= 0)
    assert noised.sum() == clean.sum() == 4
    others = ~mask.isolated[0] & mask.valid[0]
    assert not depends[others][:, noised].any(), "nothing outside depends on noise"
    assert not depends[noised][:, clean].any(), "the target does not leak into its noised copy"
    later = others & (torch.arange(len(others)) > clean.nonzero().max())
    assert depends[later][:, clean].all()


def test_both_copies_have_the_same_positions(images):
    model, positions = make_transfusion(condition_on="clean_copy"), []
    model.trunk.register_forward_pre_hook(lambda m, a: positions.append((a[1], a[2])))
    terms(model, story(images))
    mask, place = positions[0]
    noised = mask.isolated[0] & (mask.segment[0] >= 0)
    clean = ~mask.isolated[0] & (mask.segment[0] >= 0)
    assert torch.equal(place[0][noised], place[0][clean])


@pytest.mark.parametrize("bound", [0.5, 0.8])
def test_time_bound_holds_for_images_that_are_read_and_for_no_other(drawing, reading, bound):
    model = make_transfusion(time=UniformTime(), condition_time=bound)
    read = torch.cat([terms(model, reading, s)["image_flow"].t for s in range(40)])
    drawn = torch.cat([terms(model, drawing, s)["image_flow"].t for s in range(40)])
    assert read.min() >= bound
    assert drawn.min() < 0.2


def test_clean_copy_draws_nothing_where_the_image_is_only_read(reading):
    assert terms(make_transfusion(condition_on="clean_copy"), reading).keys() == {"text_ce"}
    both = terms(make_transfusion(condition_on="noised"), reading)
    assert both.keys() == {"text_ce", "image_flow"}


def test_at_initialisation_the_flow_loss_is_that_of_predicting_zero(drawing):
    """zero head: mean |x1 - x0|^2 = 1 + mean x1^2 for unit noise."""
    model = make_transfusion()
    value = terms(model, drawing)["image_flow"].value
    x0 = Noise.for_batch(0, 0, drawing).normal("image1/x0", (3, SIDE, SIDE))
    x1 = drawing.segments[1].images
    torch.testing.assert_close(value, (x1 - x0).square().flatten(1).mean(1))


def test_a_random_text_head_starts_near_the_uniform_loss(reading):
    model = make_transfusion(condition_on="clean_copy")
    value = terms(model, reading)["text_ce"].value.mean().item()
    assert value == pytest.approx(torch.tensor(260.0).log().item(), abs=1.0)


def test_the_image_weight_scales_exactly_the_image_gradient(reading):
    model = awake(make_transfusion(condition_on="noised"))

    def gradient(weight):
        model.zero_grad()
        found = terms(model, reading)
        (found["text_ce"].value.mean() + weight * found["image_flow"].value.mean()).backward()
        return model.patches.outward.weight.grad.clone()

    torch.testing.assert_close(gradient(5.0), 5 * gradient(1.0))
    assert gradient(0.0).abs().max() == 0


def test_only_prompts_of_images_are_dropped(drawing, reading):
    never, always = (awake(make_transfusion(dropout=p)) for p in (0.0, 1.0))
    unconditional = copy.deepcopy(drawing)
    unconditional.segments[0].data = [None] * 3
    dropped = terms(always, drawing)["image_flow"].value
    torch.testing.assert_close(dropped, terms(never, unconditional)["image_flow"].value)
    assert not torch.allclose(dropped, terms(never, drawing)["image_flow"].value)
    same = [terms(m, reading)["text_ce"].value for m in (never, always)]
    torch.testing.assert_close(*same)


def test_an_absent_source_changes_nothing(images):
    model = awake(make_transfusion(condition_on="clean_copy", dropout=0.0))
    absent = torch.zeros(3, dtype=torch.bool)
    both = Batch.edit([images, images.flip(0)], PROMPTS, images, list("abc"), 16, [~absent, absent])
    other = Batch.edit([images, images * 0], PROMPTS, images, list("abc"), 16, [~absent, absent])
    one = Batch.edit([images], PROMPTS, images, list("abc"), 16)
    first, second = (terms(model, b)["image_flow"].value for b in (both, other))
    torch.testing.assert_close(first, second)
    target = Noise.for_batch(0, 0, one)
    assert torch.isfinite(model.loss(one, target)["image_flow"].value).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"patches": ConvPatches(3, DIM, 4, width=16)},
        {"trunk": TimedTrunk(DIM, 2, 2)},
        {"trunk": Trunk(DIM, 2, 2, sections=[2, 1, 1])},
        {"prediction": XPrediction()},
    ],
    ids=["linear", "conv", "timed", "axes", "x"],
)
def test_denoising_over_the_cached_prefix_equals_the_full_forward(images, settings):
    model = awake(make_transfusion(**settings))
    t = torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        prefix, cache = model.prefix([(PROMPTS, [images])]), model.trunk.cache()
        prefix.run(model.trunk, cache)
        before = [k.clone() for k in cache.keys]
        cached = model._denoise(prefix.branch(), cache.view(), images, t)
        again = model._denoise(prefix.branch(), cache.view(), images, t)
        full = model.prefix([(PROMPTS, [images])])
        where, skip = model._add_latents(full, images, t)
        hidden = full.run(model.trunk)[:, where]
        wanted = model.patches.latents(hidden, skip, (SIDE, SIDE))
    torch.testing.assert_close(cached, wanted, atol=2e-5, rtol=2e-5)
    assert torch.equal(cached, again)
    assert all(torch.equal(a, b) for a, b in zip(before, cache.keys, strict=True))


def test_time_changes_the_image_and_nothing_before_it(images):
    model = awake(make_transfusion())
    with torch.no_grad():
        hidden = []
        for t in (0.1, 0.9):
            sequence = model.prefix([(PROMPTS, [])])
            start = sequence.length
            model._add_latents(sequence, images, torch.full((3,), t))
            hidden.append(sequence.run(model.trunk))
    assert torch.equal(hidden[0][:, :start], hidden[1][:, :start])
    assert not torch.allclose(hidden[0][:, start + 1 :], hidden[1][:, start + 1 :])


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match=r"patches.channels is 4.*set it to 3"):
        make_transfusion(patches=LinearPatches(4, DIM, 4))


def test_a_size_that_does_not_divide_is_named():
    with pytest.raises(ValueError, match="does not divide into patches of 4"):
        make_transfusion().generate_image(["a"], size=(10, 8))


def test_summed_text_loss_over_a_constant(reading):
    mean = make_transfusion(condition_on="clean_copy")
    summed = make_transfusion(condition_on="clean_copy", token_constant=10.0)
    one, other = terms(mean, reading)["text_ce"], terms(summed, reading)["text_ce"]
    torch.testing.assert_close(other.value, one.total / 10)
    torch.testing.assert_close(one.value, one.total / one.count)
    assert one.count.tolist() == [4, 5, 3]  # letters and eos
