"""Open prompts: what was said is there, and what was left open is spread as in the data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes_oracle import WORLD, Broken, Oracle, measured

from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.reading import Nearest
from unify.data.world.scene import Pattern, Scene, Thing
from unify.metrics.shapes_open_prompts import (
    OpenPrompts,
    Value,
    counted,
    distance,
    floor_of,
    matched,
    values_of,
)

LOOKS = Shapes(
    objects=(1, 3), offset=0.1375, radius=0.17, shade=22, background=40, heldout_keys=0.2
)
ANY = Pattern(shape="circle")


def values(colors, context=ANY):
    return counted([Value(row, "color", context, color) for row, color in enumerate(colors)])


def test_the_distance_is_total_variation_and_weighs_contexts_as_they_were_drawn():
    data = values(["red"] * 5 + ["blue"] * 5)
    assert distance(values(["red", "blue"]), data) == 0
    assert distance(values(["red"]), data) == pytest.approx(0.5)
    assert distance(values(["refused"] * 3), data) == 1
    other = Pattern(shape="square")
    both = values(["red", "blue", "blue"]) | values(["red"], other)
    all_data = data | values(["blue"], other)
    assert distance(both, all_data) == pytest.approx((3 * (1 / 6) + 1 * 1) / 4)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3), min_size=1)
)
def test_it_is_a_distance_within_0_and_1_and_0_for_the_data_itself(drawn, data):
    one, other = values(drawn), values(data)
    assert 0 <= distance(one, other) <= 1 + 1e-12
    assert distance(one, one) == 0
    assert distance(one, other) == pytest.approx(distance(other, one))


def test_the_floor_falls_as_one_over_the_root_of_n():
    """Of fair coins, E|k/n - 1/2| is about (2 pi n)^-1/2."""
    fair = values(["red", "blue"] * 5000)
    for n in (50, 800):
        floor = floor_of(values(["red"] * n), fair, fair)
        assert floor.mean() == pytest.approx((2 * np.pi * n) ** -0.5, rel=0.15)
        assert np.array_equal(floor, floor_of(values(["red"] * n), fair, fair)), "keyed"


def test_a_value_is_that_of_the_thing_that_has_most_of_what_was_said():
    red, blue = Thing((0, 0), "circle", "red", "large"), Thing((1, 1), "square", "blue", "large")
    asked = (Pattern(shape="square"), Pattern(shape="circle", color="red"))
    assert matched(asked, Scene((red, blue))) == [blue, red]
    assert matched(asked, Scene((red,))) == [None, red]
    assert matched(asked, Scene(())) == [None, None]
    (prompt,) = WORLD.prompts("single_object", 1, 0)
    near = [
        Nearest(scene, refused, 1.0)
        for scene, refused in (
            (Scene((red, blue)), None),
            (Scene((red,)), "far"),
            (Scene(()), None),
        )
    ]
    read = values_of([prompt] * 3, near)
    by_row = [{v.attribute: v.value for v in read if v.row == row} for row in range(3)]
    assert by_row[1] == {"color": "refused", "place": "refused"}
    assert by_row[2] == {"color": "absent", "place": "absent"}
    assert by_row[0]["color"] in ("red", "blue")
    (relation, *_) = [p for p in WORLD.prompts("position", 40, 0) if p.spec.relation]
    assert {v.attribute for v in values_of([relation], near[:1])} == {"color"}


@pytest.mark.parametrize("world", [WORLD, LOOKS], ids=["default", "study"])
def test_who_draws_from_the_data_is_near_the_floor_and_who_repeats_is_not(world):
    class Repeats(Oracle):
        def scene(self, prompt):
            return self.scenes[prompt][0]

    metric = OpenPrompts(prompts=40, data=300)
    name = "text_to_image/open/spread"
    free, stuck = (measured(metric, cls(world), world)[0] for cls in (Oracle, Repeats))
    for scores in (free, stuck):
        assert scores["text_to_image/open/said"].value == 1, "both draw what was said"
        assert (
            scores[f"{name}/floor"].low
            < scores[f"{name}/floor"].value
            < scores[f"{name}/floor"].high
        )
    assert free[name].value < 1.6 * free[f"{name}/floor"].high
    assert stuck[name].value > 1.3 * free[name].value
    assert stuck[f"{name}/ceiling"].value == free[f"{name}/ceiling"].value
    assert {free[f"{name}/{a}"].better for a in ("color", "place")} == {"lower"}
    assert free[f"{name}/floor"].better is None
    assert f"{name}/size" not in free


def test_refused_pictures_count_in_the_spread_and_have_nothing_that_was_said():
    scores, grids = measured(OpenPrompts(prompts=8, data=300), Broken(WORLD))
    assert scores["text_to_image/open/said"].value == 0
    assert scores["text_to_image/open/spread"].value == 1
    assert scores["text_to_image/open/spread"].n == 8 * 6
    assert scores["text_to_image/open/spread/floor"].value < 0.5
    assert len(grids["text_to_image/open"].images) == 2 * 6, "as many of each category"


def test_a_model_that_draws_wrong_things_is_no_better_spread():
    class Swaps(Oracle):
        """Another shape than was asked, in a colour and place of the data."""

        def sample_image(self, request, sampler):
            turn = {"circle": "square", "square": "triangle", "triangle": "circle"}
            drawn = []
            for prompt in request.prompts:
                things = self.scene(prompt).things
                wrong = [Thing(t.cell, turn[t.shape], t.color, t.size) for t in things]
                drawn.append(to_tensor(self.world.render(Scene(tuple(wrong)))))
            return torch.stack(drawn)

    scores, _ = measured(OpenPrompts(prompts=24, data=200), Swaps(WORLD))
    assert scores["text_to_image/open/said"].value < 0.2
    name = "text_to_image/open/spread"
    assert scores[name].value > scores[f"{name}/floor"].low
