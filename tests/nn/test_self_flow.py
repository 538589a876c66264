"""Two noise levels in one image, and alignment with the network's own later states (Self-Flow)."""

import math

import pytest
import torch
from small import DIM, PROMPTS, SIDE, awake, make_transfusion
from torch_flops import by_torch

from unify.batch import Batch, Segment
from unify.flow import LogitNormalTime
from unify.nn.alignment import SelfFlow, states_after
from unify.nn.flops import dense
from unify.nn.noised import Noised
from unify.nn.patches import ConvPatches, LinearPatches, over_cells
from unify.noise import Noise

ROWS = 4


def self_flow(layer=1, teacher_layer=2, share=0.5):
    torch.manual_seed(0)
    return SelfFlow(DIM, layer, teacher_layer, share)


@pytest.fixture
def images():
    return torch.rand(ROWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def batch(images):
    keys = [str(row) for row in range(ROWS)]
    return Batch.text_to_image([*PROMPTS, "blue"][:ROWS], images, keys, 16)


def terms(model, batch):
    return model.loss(batch, Noise.for_batch(0, 0, batch))


def noised_of(model, batch, monkeypatch):
    """The noised images of a loss, and its terms."""
    noised = []

    def keep(*parts):
        noised.append(Noised(*parts))
        return noised[-1]

    monkeypatch.setattr("unify.paradigms.transfusion.Noised", keep)
    return noised, terms(model, batch)


def test_every_token_s_time_follows_the_law_and_a_share_has_the_second():
    law, rows = LogitNormalTime(), 3000
    batch = Batch("image", [Segment.image(torch.zeros(rows, 3, 2, 2), "target")], ["k"] * rows)
    noise = Noise.for_batch(0, 0, batch)
    t = law.quantile(noise.t(0))
    times = self_flow(share=0.25).times(t, law.quantile, noise, 0, 4)
    second = (times != t[:, None]).float()
    assert abs(float(second.mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / second.numel())
    for token in range(4):
        place = law.cdf(times[:, token]).double().sort().values
        gap = (place - torch.arange(rows) / rows).abs().max()
        assert gap < 1.95 / math.sqrt(rows)  # Kolmogorov and Smirnov, 0.1%
    assert all(len(row.unique()) <= 2 for row in times)


@pytest.mark.parametrize("patches", [LinearPatches(3, DIM, 4), ConvPatches(3, DIM, 4, 8)])
def test_cells_are_noised_to_their_token_s_time_and_the_further_pass_is_at_the_cleaner(
    patches, images, batch, monkeypatch
):
    model = awake(make_transfusion(patches=patches, align=self_flow()))
    (image,), _ = noised_of(model, batch, monkeypatch)
    x0 = Noise.for_batch(0, 0, batch).x0(1, (3, SIDE, SIDE))
    t = over_cells(image.t, (2, 2), 4)
    torch.testing.assert_close(image.xt, (1 - t) * x0 + t * images)
    clean = image.t.amax(1)[:, None, None, None]
    torch.testing.assert_close(image.at_cleaner(patches), (1 - clean) * x0 + clean * images)
    assert (image.t != image.t[:, :1]).any()


def test_it_is_aligned_with_a_later_state_of_a_pass_at_one_level(batch, monkeypatch):
    model, told = awake(make_transfusion(align=self_flow())), []
    features = model.align.features
    monkeypatch.setattr(
        model.align, "features", lambda drawn: told.append(features(drawn)) or told[-1]
    )
    (image,), _ = noised_of(model, batch, monkeypatch)
    sequence = model.new_sequence(draws=True)
    model.add_text(sequence, batch.segments[0].texts, 16)
    sequence.begin_target()
    where, _ = model.add_latents(sequence, image.at_cleaner(model.patches), image.cleaner)
    with states_after(model.trunk, 2) as states:
        sequence.run(model.trunk)
    torch.testing.assert_close(told[0], states[0][:, where])
    assert not told[0].requires_grad


def test_it_teaches_the_blocks_up_to_its_layer_and_not_what_it_is_aligned_with(batch):
    model = awake(make_transfusion(align=self_flow())).train()
    terms(model, batch)["alignment"].value.sum().backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("trunk.blocks.0.") for name in learned)
    assert not [name for name in learned if name.startswith(("trunk.blocks.1.", "patches.outward"))]


def test_where_all_tokens_have_the_second_level_it_is_the_plain_flow_at_that_time(batch):
    plain, two = (awake(make_transfusion(align=a)) for a in (None, self_flow(share=1.0)))
    two.load_state_dict(plain.state_dict(), strict=False)
    noise = Noise.for_batch(0, 0, batch)
    second = plain.time.quantile(noise.uniform("image1/t2"))
    ours = two.loss(batch, noise)["image_flow"]
    noise.t = lambda place, shape=(): plain.time.cdf(second)
    torch.testing.assert_close(ours.value, plain.loss(batch, noise)["image_flow"].value)
    assert ours.t.shape == ours.each.shape == (ROWS, 4)
    torch.testing.assert_close(ours.each.mean(1), ours.value.detach())


def test_the_time_of_a_token_alone_changes_its_embedding():
    for patches in (LinearPatches(3, DIM, 4), ConvPatches(3, DIM, 4, 8)):
        x, t = torch.randn(2, 3, SIDE, SIDE), torch.tensor([0.3, 0.6])
        whole = patches.tokens(x, t)
        torch.testing.assert_close(whole, patches.tokens(x, t[:, None].repeat(1, 4)))
        other = t[:, None].repeat(1, 4)
        other[:, 2] = 0.9
        changed = ((patches.tokens(x, other)[0] - whole[0]).abs() > 1e-4).any(-1)
        assert changed.tolist() == [[False, False, True, False]] * 2


def test_absent_pictures_do_not_count(images):
    model = awake(make_transfusion(condition_on="noised", align=self_flow()))

    def of(present, shown):
        columns = [
            Segment.image(shown, "condition", torch.tensor(present)),
            Segment.text(PROMPTS[:2], "condition", 8),
            Segment.image(images[2:], "target"),
        ]
        return terms(model, Batch("edit", columns, ["a", "b"]))["alignment"].value

    some = of([True, False], images[:2])
    assert torch.equal(some, of([True, False], torch.stack([images[0], -images[1]])))
    assert not torch.allclose(some, of([True, True], images[:2]))


@pytest.mark.parametrize("condition_on", ["clean_copy", "noised"])
def test_flops_of_the_further_pass_are_those_that_torch_counts(condition_on, batch):
    model = make_transfusion(condition_on=condition_on, align=self_flow()).train()
    with dense():
        assert model.flops(batch) == pytest.approx(by_torch(model, batch), rel=0.02)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"align\.teacher_layer is 3; the network has 2"):
        make_transfusion(align=self_flow(teacher_layer=3))
    with pytest.raises(
        ValueError, match=r"teacher_layer is 1, and has to be above align\.layer, 2"
    ):
        self_flow(2, 1)
    with pytest.raises(ValueError, match="time_token says one time"):
        make_transfusion(align=self_flow(), time_token=True)
