"""What a drawn scene has of the one asked for: nearest readings, errors by kind, attributes."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes_oracle import HARD, WORLD, Oracle, measured

from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.reading import Nearest
from unify.data.world.scene import Scene, Thing
from unify.metrics.shapes_images import Edits, TextToImage
from unify.metrics.shapes_outcomes import attributes, errors, matched

NAMES = ("shape", "color", "cell")
STUDY = Shapes(
    objects=(1, 3), offset=0.1375, radius=0.17, shade=22, background=40, heldout_keys=0.2
)


def scene(*things):
    return Scene.of(Thing(cell, shape, color, "large") for cell, shape, color in things)


def near(drawn, refused=None):
    return Nearest(drawn, refused, 1.0)


RED, BLUE = ((0, 0), "circle", "red"), ((1, 1), "square", "blue")
GREEN = ((0, 1), "triangle", "green")


@pytest.mark.parametrize(
    ("drawn", "kinds", "share"),
    [
        ([RED, BLUE], set(), 1),
        ([RED, ((1, 1), "square", "green")], {"color"}, 5 / 6),
        ([RED, ((1, 1), "circle", "blue")], {"shape"}, 5 / 6),
        ([RED, ((1, 0), "square", "blue")], {"place"}, 5 / 6),
        ([((1, 1), "circle", "red"), ((0, 0), "square", "blue")], {"place"}, 4 / 6),
        ([((0, 0), "square", "red"), ((1, 1), "circle", "blue")], {"shape"}, 4 / 6),
        ([RED], {"count"}, 3 / 6),
        ([], {"count"}, 0),
        ([RED, BLUE, GREEN], {"count", "extra"}, 1),
        ([GREEN], {"count", "shape", "color", "place"}, 0),
    ],
)
def test_errors_and_attributes_of_a_drawn_scene(drawn, kinds, share):
    asked = scene(RED, BLUE)
    assert errors(asked, near(scene(*drawn))) == kinds
    assert attributes(asked, near(scene(*drawn)), NAMES) == pytest.approx(share)
    assert errors(asked, near(scene(*drawn), "far")) == {"flawed"}
    assert attributes(asked, near(scene(*drawn), "flawed"), NAMES) == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 9999), st.integers(0, 9999))
def test_a_picture_has_no_error_exactly_if_it_is_right(one, other):
    asked, drawn = HARD.scene("test", one), HARD.scene("test", other)
    assert errors(asked, near(asked)) == set()
    assert attributes(asked, near(asked)) == 1
    assert (errors(asked, near(drawn)) == set()) == (asked == drawn)
    pairs = matched(asked, drawn)
    assert len(pairs) == min(len(asked), len(drawn))
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    changed = random.Random(one).choice(asked.things)
    color = "red" if changed.color != "red" else "blue"
    assert errors(asked, near(asked.changing(changed, color=color))) <= {"color", "place", "shape"}


@pytest.mark.parametrize("world", [WORLD, STUDY], ids=["templates", "fitted"])
def test_an_oracle_is_right_by_every_reading(world):
    metric = TextToImage(prompts=45, heldout=10, geneval=0)
    scores, _ = measured(metric, Oracle(world), world)
    for name in ("nearest", "nearest/two_objects", "nearest/heldout", "nearest/margin_0.3"):
        assert scores[f"text_to_image/{name}"].value == 1, name
    assert scores["text_to_image/attributes"].value == 1
    wrong = {n: s for n, s in scores.items() if "/errors/" in n or "/refused" in n}
    assert len(wrong) > 10
    assert {score.value for score in wrong.values()} == {0.0}
    assert {s.better for n, s in wrong.items() if "/refused" in n} == {"lower"}
    assert {s.better for n, s in wrong.items() if "/errors/" in n} == {None}
    assert ("text_to_image/errors/size" in scores) == (len(world.board.sizes) > 1)


def test_what_only_the_margin_refuses_is_read_by_the_nearest_scene():
    class Between(Oracle):
        """What was asked for, on the way to the same with squares for circles."""

        share = 0.62

        def sample_image(self, request, sampler):
            drawn = []
            for prompt in request.prompts:
                asked = self.scene(prompt)
                turned = Scene(tuple(turn(thing) for thing in asked.things))
                pair = [to_tensor(self.world.render(s)) for s in (asked, turned)]
                drawn.append(self.share * pair[0] + (1 - self.share) * pair[1])
            return torch.stack(drawn)

    def turn(thing):
        other = {"circle": "square", "square": "circle"}.get(thing.shape, thing.shape)
        return Thing(thing.cell, other, thing.color, thing.size)

    scores, _ = measured(TextToImage(prompts=60, heldout=0, geneval=0), Between(WORLD))
    value = {name.removeprefix("text_to_image/"): score.value for name, score in scores.items()}
    assert value["nearest"] == value["nearest/margin_0.1"] == 1
    assert value["exact"] == value["nearest/margin_0.3"] < 0.8
    assert value["refused"] == value["errors/shape"] == 0
    assert value["unreadable"] == pytest.approx(1 - value["exact"])


def test_pictures_that_are_refused_have_no_attribute_and_one_kind_of_error():
    class Specked(Oracle):
        def sample_image(self, request, sampler):
            images = super().sample_image(request, sampler)
            images[:, :, 6:9, 6:9] = 0.9 * torch.tensor([1.0, -1.0, 1.0])[:, None, None]
            return images

    scores, _ = measured(TextToImage(prompts=40, heldout=0, geneval=0), Specked(WORLD))
    refused = scores["text_to_image/refused"].value
    assert refused > 0.5
    assert scores["text_to_image/errors/flawed"].value == refused
    assert scores["text_to_image/attributes"].value == pytest.approx(1 - refused)
    assert scores["text_to_image/nearest"].value == pytest.approx(1 - refused)


def test_a_world_with_held_out_keys_is_asked_each_full_caption_once():
    scores, _ = measured(TextToImage(prompts=300, heldout=0, geneval=0), Oracle(STUDY), STUDY)
    assert scores["text_to_image/exact/one_object"].n == 40
    assert scores["text_to_image/exact/two_objects"].n == STUDY.distinct_prompts("two_objects")
    assert scores["text_to_image/exact/three_objects"].n == 100
    assert all(score.row()["distinct"] == score.n for score in scores.values())


def test_drift_is_what_an_edit_does_to_the_places_that_it_should_leave_alone():
    class Tinted(Oracle):
        def sample_image(self, request, sampler):
            return super().sample_image(request, sampler) - 0.1

    scores, _ = measured(Edits(30), Oracle(WORLD))
    assert scores["edit/drift"].value == 0
    assert scores["edit/nearest"].value == 1
    tinted, _ = measured(Edits(30), Tinted(WORLD))
    assert tinted["edit/drift"].value == pytest.approx(0.05, abs=2e-3)
    assert tinted["edit/drift"].better == "lower"
    assert tinted["edit/kept"].value == 1
