"""Captions and prompts: full captions read back, a prompt is satisfied by its scene alone."""

import random
import re

import pytest
from shapes_worlds import HARD, WORLD, WORLDS, drawn

from unify.data.shapes import Shapes
from unify.data.world.checker import Checker
from unify.data.world.language import Spec, full, place
from unify.data.world.scene import Pattern, Scene, Thing


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_a_full_caption_parses_back_into_its_scene(grid):
    for sizes in (["large"], ["small", "large"]):
        world = Shapes(grid=grid, sizes=sizes, objects=(1, min(4, grid**2)))
        assert len({place(world.board, cell) for cell in world.board.cells}) == grid**2
        for i in range(100):
            scene = world.scene("test", i)
            caption = world.caption(scene)
            assert world.parse(caption) == scene
            parts = re.split(", | and ", caption)
            random.Random(i).shuffle(parts)
            assert world.parse(" and ".join(parts)) == scene


def test_the_canonical_caption():
    things = [Thing((1, 1), "square", "blue", "large"), Thing((0, 0), "circle", "red", "large")]
    caption = "a red circle at the top left and a blue square at the bottom right"
    assert WORLD.caption(Scene.of(things)) == caption


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "a circle at the top left",
        "a red circle at the top left and",
        "a red circle at the top left and a blue circle at the top left",
        "a pink circle at the top left",
        "a red circle at the center",
        "red circle at the top left",
        "a red circle at the top left a blue square at the bottom left",
    ],
)
def test_what_is_not_a_full_caption_does_not_parse(text):
    assert WORLD.parse(text) is None


@pytest.mark.parametrize("world", WORLDS)
def test_a_prompt_is_satisfied_by_its_scene_and_by_no_altered_one(world):
    low, high = world.board.objects
    assert len(world.categories) == high - low + 1 + 6
    checker = Checker(world)
    for category in world.categories:
        prompts = world.prompts(category, 12, 0)
        read = checker.read(drawn(world, [prompt.scene for prompt in prompts]))
        for prompt, scene in zip(prompts, read, strict=True):
            assert prompt.satisfied(scene)
            assert not prompt.satisfied(scene.without(scene.things[0]))
            assert prompt.satisfied(recolored(prompt, world)) == ("color" in prompt.left_open())
            if category in world.complete:
                assert prompt.left_open() == []
                assert not any(prompt.satisfied(other) for other in altered(scene, world))
            else:
                assert ("size" in prompt.left_open()) == (len(world.board.sizes) > 1)


def altered(scene, world):
    """Every scene with the shape, colour or place of one thing changed."""
    board = world.board
    for thing in scene.things:
        for shape in set(board.shapes) - {thing.shape}:
            yield scene.changing(thing, shape=shape)
        for color in set(board.colors) - {thing.color}:
            yield scene.changing(thing, color=color)
        for cell in [c for c in board.cells if scene.at(c) is None]:
            yield scene.changing(thing, cell=cell)


def recolored(prompt, world):
    thing = prompt.scene.things[0]
    named = {t.color for t in prompt.scene.things}
    return prompt.scene.changing(thing, color=next(c for c in world.board.colors if c not in named))


def test_a_wrong_count_binding_or_side_does_not_satisfy():
    def scene(*things):
        return Scene.of(Thing(c, s, k, "large") for c, s, k in things)

    red_circle_blue_square = Spec((Pattern("circle", "red"), Pattern("square", "blue")))
    assert red_circle_blue_square.satisfied(
        scene(((0, 0), "square", "blue"), ((1, 1), "circle", "red"))
    )
    assert not red_circle_blue_square.satisfied(
        scene(((0, 0), "square", "red"), ((1, 1), "circle", "blue"))
    )
    left = Spec((Pattern("circle"), Pattern("square")), "left of")
    assert left.satisfied(scene(((1, 0), "circle", "red"), ((0, 1), "square", "red")))
    assert not left.satisfied(scene(((1, 1), "circle", "red"), ((0, 0), "square", "red")))
    assert not left.satisfied(scene(((0, 0), "circle", "red"), ((1, 0), "square", "red")))
    two = Spec((Pattern("circle"),) * 2)
    assert not two.satisfied(scene(((0, 0), "circle", "red")))
    assert two.left_open() == ["color", "size", "place"]
    assert left.left_open() == ["color", "size"]


def test_every_full_pattern_fits_its_thing_alone():
    thing, other = HARD.prompts("two_objects", 1, 0)[0].scene.things
    assert full(thing).fits(thing)
    assert not full(thing).fits(other)
