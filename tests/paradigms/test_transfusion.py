"""Invariants of Transfusion: who sees what, what the flow learns, the time bound, the cache."""

import copy
from dataclasses import replace

import pytest
import torch
from small import DIM, PROMPTS, SIDE, awake, confusion, learn, make_ar, make_transfusion

from unify.batch import Batch, Segment
from unify.flow import UniformTime, XPrediction, shift_time
from unify.nn.patches import ConvPatches, LinearPatches
from unify.nn.trunk import TimedTrunk, Trunk
from unify.noise import Noise
from unify.paradigm import ImageRequest


def terms(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))


def call(model, batch, step=0):
    """(inputs, mask, hidden, depends [S S]) of the trunk in one loss of the batch."""
    seen = {}

    def before(module, args):
        tokens, *rest = args
        x = tokens.x.detach().clone().requires_grad_(True)
        seen.update(x=x, mask=tokens.mask)
        return replace(tokens, x=x), *rest

    handles = [
        model.trunk.register_forward_pre_hook(before),
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


def test_with_causal_image_attention_a_patch_sees_those_before_it_alone(drawing):
    model = awake(make_transfusion(image_attention="causal"))
    _, depends = call(model, drawing)
    assert not depends.triu(1).any()
    both_ways = make_transfusion()
    patches = (SIDE // 4) ** 2
    spared = both_ways.flops(drawing) - model.flops(drawing)
    ahead = patches * (patches - 1) // 2
    assert spared == 3 * len(drawing) * both_ways.trunk.flops(0, ahead)


def test_text_before_an_image_does_not_depend_on_it_and_the_image_does_on_the_text(drawing):
    mask, depends = call(awake(make_transfusion()), drawing)
    patches = mask.segment[0] >= 0
    text = torch.arange(len(patches)) < patches.int().argmax()
    assert not depends[text][:, patches].any()
    assert depends[patches][:, text & mask.valid[0]].all()


@pytest.mark.parametrize("condition_on", ["noised", "clean_copy"])
def test_a_later_image_reads_an_earlier_one_and_never_the_other_way(images, condition_on):
    batch = Batch.edit([images], PROMPTS, images.flip(0), list("abc"), 16)
    mask, depends = call(awake(make_transfusion(condition_on=condition_on)), batch)
    source, target = slice(1, 5), slice(6 + 16 + 1, 6 + 16 + 5)  # each between boi and eoi
    assert depends[source, source].all()
    assert depends[target, source].all()
    assert depends[target, 6:22][:, mask.valid[0, 6:22]].all()  # and the instruction
    assert not depends[source, 5:].any()
    assert not depends[target, target.stop :].any()


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
    noised = (mask.isolated[0] >= 0) & (mask.segment[0] >= 0)
    clean = (mask.isolated[0] < 0) & (mask.segment[0] >= 0)
    assert noised.sum() == clean.sum() == 4
    others = (mask.isolated[0] < 0) & mask.valid[0]
    assert not depends[others][:, noised].any(), "nothing outside depends on noise"
    assert not depends[noised][:, clean].any(), "the target does not leak into its noised copy"
    later = others & (torch.arange(len(others)) > clean.nonzero().max())
    assert depends[later][:, clean].all()


def test_both_copies_have_the_same_positions(images):
    model, positions = make_transfusion(condition_on="clean_copy"), []
    model.trunk.register_forward_pre_hook(
        lambda m, a: positions.append((a[0].mask, a[0].positions))
    )
    terms(model, story(images))
    mask, place = positions[0]
    noised = (mask.isolated[0] >= 0) & (mask.segment[0] >= 0)
    clean = (mask.isolated[0] < 0) & (mask.segment[0] >= 0)
    assert torch.equal(place[0][noised], place[0][clean])


def test_the_noised_copy_changes_no_text_and_is_what_an_image_drawn_last_is(images):
    model, seen = awake(make_transfusion(condition_on="clean_copy")), []
    model.trunk.register_forward_hook(lambda m, a, out: seen.append(out))
    prompt, drawn, text = story(images).segments
    read = Segment.image(images, "condition")
    for columns in ([prompt, drawn, text], [prompt, drawn], [prompt, read, text]):
        terms(model, Batch("story", columns, ["a", "b", "c"]))
    both, last, clean = seen
    copied = last.shape[1]  # the prompt and the noised image between its delimiters
    torch.testing.assert_close(both[:, :copied], last)
    torch.testing.assert_close(both[:, copied:], clean[:, 16:])


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


def unlearned(batch, place):
    """Loss of a zero velocity on the image in this place: mean |x1 - x0|^2, [B]."""
    x0 = Noise.for_batch(0, 0, batch).normal(f"image{place}/x0", (3, SIDE, SIDE))
    return (batch.segments[place].images - x0).square().flatten(1).mean(1)


def test_a_clean_image_is_shown_at_time_1_and_carries_no_flow_loss(images, monkeypatch):
    model, seen = make_transfusion(condition_on="clean_copy"), []
    tokens = model.patches.tokens
    monkeypatch.setattr(model.patches, "tokens", lambda x, t: seen.append(t) or tokens(x, t))
    batch = Batch.edit([images], PROMPTS, images.flip(0), list("abc"), 16)
    term, (source, target) = terms(model, batch)["image_flow"], seen
    assert (source == 1).all()
    assert torch.equal(target, term.t)
    torch.testing.assert_close(term.value, unlearned(batch, 2))


def test_the_flow_loss_of_a_row_is_the_mean_over_the_images_that_it_has(images):
    present = torch.tensor([True, False, True])
    batch = Batch.edit([images], PROMPTS, images.flip(0), list("abc"), 16, [present])
    both = (unlearned(batch, 0) + unlearned(batch, 2)) / 2
    value = terms(make_transfusion(condition_on="noised"), batch)["image_flow"].value
    torch.testing.assert_close(value, torch.where(present, both, unlearned(batch, 2)))


def test_at_initialisation_the_flow_loss_is_that_of_predicting_zero(drawing):
    """zero head: mean |x1 - x0|^2 = 1 + mean x1^2 for unit noise."""
    value = terms(make_transfusion(), drawing)["image_flow"].value
    torch.testing.assert_close(value, unlearned(drawing, 1))


def test_a_random_text_head_starts_near_the_uniform_loss(reading):
    model = make_transfusion(condition_on="clean_copy")
    value = terms(model, reading)["text_ce"].value.mean().item()
    assert value == pytest.approx(torch.tensor(260.0).log().item(), abs=1.0)


def test_the_image_weight_scales_exactly_the_image_gradient(reading):
    model = awake(make_transfusion(condition_on="noised"))

    def gradient(weight):
        model.zero_grad()
        result = terms(model, reading)
        (result["text_ce"].value.mean() + weight * result["image_flow"].value.mean()).backward()
        return model.patches.outward.weight.grad.clone()

    torch.testing.assert_close(gradient(5.0), 5 * gradient(1.0))
    assert gradient(0.0).abs().max() == 0


def test_only_prompts_of_images_are_dropped(drawing, reading):
    never, always = (awake(make_transfusion(dropout=p)).train() for p in (0.0, 1.0))
    unconditional = copy.deepcopy(drawing)
    unconditional.segments[0].data = [None] * 3
    dropped = terms(always, drawing)["image_flow"].value
    torch.testing.assert_close(dropped, terms(never, unconditional)["image_flow"].value)
    assert not torch.allclose(dropped, terms(never, drawing)["image_flow"].value)
    same = [terms(m, reading)["text_ce"].value for m in (never, always)]
    torch.testing.assert_close(*same)


def test_dropout_has_its_rate_in_training_and_is_none_in_eval_mode(images):
    """Within four standard deviations."""
    rows, share, model = 3000, 0.3, make_transfusion(dropout=0.3)
    keys = [f"row {row}" for row in range(rows)]
    batch = Batch.text_to_image(["red"] * rows, images[:1].expand(rows, -1, -1, -1), keys, 16)
    noise = Noise.for_batch(0, 0, batch)
    (texts,) = model.train().drop_conditions(batch, noise)
    assert abs(texts.count(None) - rows * share) < 4 * (rows * share * (1 - share)) ** 0.5
    assert model.eval().drop_conditions(batch, noise) == [["red"] * rows]


@pytest.mark.parametrize("make", [make_transfusion, make_ar])
def test_the_unconditional_prefix_is_the_one_that_dropout_trains_on(make, drawing):
    """Token for token and place for place; only the padding differs."""
    model, seen = make(dropout=1.0).train(), []
    model.trunk.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    terms(model, drawing)
    model.prefix(model.contexts(ImageRequest(PROMPTS), guidance=2.0)).run(model.trunk)
    result = []
    for tokens in seen:
        text = tokens.mask.valid[:3, :16]  # of the training rows, of the unconditional rows
        result.append((tokens.x[:3, :16][text], tokens.positions[:3, :16][text]))
    (trained, places), (asked, at) = result
    assert torch.equal(trained, asked)
    assert torch.equal(places, at)
    null = [model.text.bos, model.text.null, model.text.eos] * 3
    assert torch.equal(asked, model.embed.weight[null])


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


each_setting = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"patches": ConvPatches(3, DIM, 4, width=16)},
        {"trunk": TimedTrunk(DIM, 2, 2)},
        {"trunk": Trunk(DIM, 2, 2, sections=[2, 1, 1])},
        {"prediction": XPrediction()},
        *(
            {"trunk": Trunk(DIM, 2, 2, sections=[2, 1, 1]), "references": references}
            for references in ("shared", "offset", "frame")
        ),
    ],
    ids=["linear", "conv", "timed", "axes", "x", "shared", "offset", "frame"],
)


@pytest.mark.parametrize("references", ["order", "shared", "offset", "frame"])
@pytest.mark.parametrize("condition_on", ["clean_copy", "noised"])
def test_training_reads_references_where_drawing_does(images, references, condition_on):
    """What the trunk is given of the conditions of an edit, in a loss and in drawing it."""
    trunk = Trunk(DIM, 2, 2, sections=[2, 1, 1])
    model = awake(make_transfusion(trunk=trunk, references=references, condition_on=condition_on))
    batch = Batch.edit([images, images.flip(0)], PROMPTS, images, list("abc"), 16)
    given = []
    model.trunk.register_forward_pre_hook(lambda m, args: given.append(args[0]))
    terms(model, batch)
    model.generate_image(ImageRequest(PROMPTS, [images, images.flip(0)]), steps=1)
    training, prefix, drawn = given
    assert training.mask.keys == prefix.mask.keys + drawn.x.shape[1] + 16 - _longest(model)
    real = training.mask.valid[0]
    both = torch.cat([prefix.positions, drawn.positions], 1)[0]
    valid = torch.cat([prefix.mask.valid, torch.ones(3, drawn.x.shape[1], dtype=torch.bool)], 1)
    assert torch.equal(training.positions[0][real], both[valid[0]])


def _longest(model):
    return int(model.text.encode(PROMPTS, 64)[1].sum(1).max())


def test_references_need_axes_to_tell_places_by():
    with pytest.raises(ValueError, match="give the trunk three position axes"):
        make_transfusion(references="shared")


@each_setting
def test_denoising_over_the_cached_prefix_equals_the_full_forward(images, settings):
    model = awake(make_transfusion(**settings))
    t = torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        prefix, cache = model.prefix([(PROMPTS, [images])]), model.trunk.cache()
        prefix.run(model.trunk, cache)
        before = [k.clone() for k in cache.keys]
        cached = model.denoise(prefix.branch(), cache.view(), images, t)
        again = model.denoise(prefix.branch(), cache.view(), images, t)
        full = model.prefix([(PROMPTS, [images])])
        where, skip = model.add_latents(full, images, t)
        hidden = full.run(model.trunk)[:, where]
        wanted = model.patches.latents(hidden, skip, (SIDE, SIDE))
    torch.testing.assert_close(cached, wanted, atol=2e-5, rtol=2e-5)
    assert torch.equal(cached, again)
    assert all(torch.equal(a, b) for a, b in zip(before, cache.keys, strict=True))


@each_setting
@torch.no_grad()
def test_after_denoising_the_clean_image_is_kept_as_in_the_full_forward(images, settings):
    """No noised state stays in the cache: what follows reads the image that was drawn."""
    model = awake(make_transfusion(**settings))
    prefix, cache = model.prefix([(PROMPTS, [images])]), model.trunk.cache()
    prefix.run(model.trunk, cache)
    for t in (0.2, 0.9):
        model.denoise(prefix.branch(), cache.view(), images.flip(0), torch.full((3,), t))
    model.add_image(prefix, images.flip(1))
    prefix.run(model.trunk, cache)
    _, _, valid = model.add_text(prefix, PROMPTS, 16)
    cached = prefix.run(model.trunk, cache)
    full = model.prefix([(PROMPTS, [images])])
    model.add_image(full, images.flip(1))
    where, _, _ = model.add_text(full, PROMPTS, 16)
    wanted = full.run(model.trunk)[:, where]
    torch.testing.assert_close(cached[valid], wanted[valid], atol=2e-5, rtol=2e-5)


def test_sampling_asks_at_the_times_of_its_own_shifted_grid(monkeypatch):
    model, seen = make_transfusion(), []
    tokens = model.patches.tokens
    monkeypatch.setattr(model.patches, "tokens", lambda x, t: seen.append(t) or tokens(x, t))
    model.generate_image(ImageRequest(PROMPTS), steps=4, shift=2.0, guidance=3.0)
    wanted = shift_time(torch.arange(4) / 4, 2.0)
    torch.testing.assert_close(torch.stack(seen), wanted[:, None].expand(4, 6))


def test_time_changes_the_image_and_nothing_before_it(images):
    model = awake(make_transfusion())
    with torch.no_grad():
        hidden = []
        for t in (0.1, 0.9):
            sequence = model.prefix([(PROMPTS, [])])
            start = sequence.length
            model.add_latents(sequence, images, torch.full((3,), t))
            hidden.append(sequence.run(model.trunk))
    assert torch.equal(hidden[0][:, :start], hidden[1][:, :start])
    assert not torch.allclose(hidden[0][:, start + 1 :], hidden[1][:, start + 1 :])


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match=r"patches.channels is 4.*set it to 3"):
        make_transfusion(patches=LinearPatches(4, DIM, 4))


def test_a_size_that_does_not_divide_is_named():
    with pytest.raises(ValueError, match="does not divide into patches of 4"):
        make_transfusion().generate_image(ImageRequest(["a"], size=(10, 8)))


def test_summed_text_loss_over_a_constant(reading):
    mean = make_transfusion(condition_on="clean_copy")
    summed = make_transfusion(condition_on="clean_copy", token_constant=10.0)
    one, other = terms(mean, reading)["text_ce"], terms(summed, reading)["text_ce"]
    torch.testing.assert_close(other.value, one.total / 10)
    torch.testing.assert_close(one.value, one.total / one.count)
    assert one.count.tolist() == [4, 5, 3]  # letters and eos


def test_images_learned_by_heart_are_drawn(images):
    model = make_transfusion(prediction=XPrediction(), dropout=0.0)
    keys = [f"row {row}" for row in range(12)]
    batch = Batch.text_to_image(PROMPTS * 4, images.repeat(4, 1, 1, 1), keys, 16)
    learn(model, [batch], 60, {"image_flow"})
    assert confusion(model.generate_image(ImageRequest(PROMPTS), steps=10), images).max() < 0.5
