"""Looks: pictures of a scene differ, what is said of it does not, and edits leave them alone."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes_worlds import HARD, HARD_LOOKS, LOOKS, WORLD, texts_of

from unify.data.shapes import Shapes
from unify.data.world.outlines import LEVELS, REACH, SHAPES
from unify.data.world.renderer import RADIUS, room_of
from unify.data.world.scene import BACKGROUND, SIZES, Look, Scene, Thing

PLAIN = Shapes(objects=(1, 3))
VARIED = Shapes(objects=(1, 3), **LOOKS)
INDEX, SEED = st.integers(0, 9999), st.integers(0, 2**32)
MANY = settings(max_examples=200, deadline=None)


def meaning(record):
    """What a record says and shows, without how it looks."""
    return texts_of(record), record.meta


@MANY
@given(st.sampled_from(sorted(PLAIN.tasks)), st.sampled_from(["train", "test", "heldout"]), INDEX)
def test_looks_change_pictures_and_nothing_that_is_said_or_asked(task, split, index):
    plain, varied = (world.record(task, split, index) for world in (PLAIN, VARIED))
    assert meaning(plain) == meaning(varied)
    if "image" in plain.fields:
        assert (plain.fields["image"] != varied.fields["image"]).any()


@MANY
@given(INDEX, SEED)
def test_equality_order_captions_and_hashes_ignore_looks(index, seed):
    plain = PLAIN.scene("test", index)
    one, other = (VARIED.looks.dress(plain, random.Random(s)) for s in (seed, seed + 1))
    assert one == other == plain
    assert hash(one) == hash(plain)
    assert [t.look for t in one.things] != [t.look for t in other.things]
    assert (VARIED.render(one) != VARIED.render(other)).any()
    assert PLAIN.caption(one) == PLAIN.caption(plain)
    for a, b in zip(one.things, other.things, strict=True):
        assert a == b
        assert not a < b
    assert VARIED.looks.dress(one, random.Random(seed + 2)).things[0].look is one.things[0].look


@pytest.mark.parametrize("world", [VARIED, HARD_LOOKS], ids=["default", "hard"])
def test_an_edit_keeps_the_looks_of_all_that_it_leaves_alone(world):
    @MANY
    @given(st.sampled_from(["train", "test"]), INDEX)
    def holds(split, index):
        made = world.edited(split, index)
        assert made.target.background == made.source.background is not None
        for cell in set(world.board.cells) - set(made.cells):
            before, after = made.source.at(cell), made.target.at(cell)
            assert (before and before.look) == (after and after.look)
        assert all(thing.look is not None for thing in made.target.things)
        gone = [t for t in made.source.things if t not in made.target.things]
        new = [t for t in made.target.things if t not in made.source.things]
        if made.kind not in ("add", "remove"):
            assert [t.look for t in gone] == [t.look for t in new]
        before, after = world.render(made.source), world.render(made.target)
        for cell in world.board.cells:
            box = world.renderer.box(cell)
            assert (before[box] == after[box]).all() == (cell not in made.cells)

    holds()


def test_sources_of_compositions_look_as_in_the_picture_that_they_make():
    for index in range(60):
        made = VARIED.composed("train", index)
        looks = {thing.look for thing in made.target.things}
        assert {source.things[0].look for source in made.sources} == looks
        assert {source.background for source in made.sources} == {made.target.background}


@MANY
@given(
    st.sampled_from(sorted(SHAPES)),
    st.tuples(*[st.floats(-0.1, 0.1)] * 2),
    st.floats(0.75, 1.0),
    st.tuples(*[st.floats(-0.05, 0.05)] * 3),
)
def test_coverage_is_continuous_in_place_and_radius(shape, place, scale, shift):
    """Within a bound on the slope: a jump, of an eighth of a pixel's colour, say, breaks it."""
    side, cell = 16.0, (0, 1)

    def coverage(right, down, radius):
        return WORLD.renderer.soft_coverage(cell, shape, *np.array([[right], [down], [radius]]))[0]

    at = np.array([place[0] * side, place[1] * side, scale * RADIUS * side / 2])
    change = abs(coverage(*(at + shift)) - coverage(*at))
    assert change.max() <= 2 * (np.hypot(*shift[:2]) + 1.5 * abs(shift[2])) + 1e-9
    assert coverage(*at).sum() > 10


def test_soft_coverage_has_the_area_and_the_middle_of_the_points():
    for shape in SHAPES:
        points = WORLD.renderer.coverage((1, 0), shape, "large")
        radius = np.array([RADIUS * 8])
        soft = WORLD.renderer.soft_coverage((1, 0), shape, np.zeros(1), np.zeros(1), radius)[0]
        assert soft.sum() == pytest.approx(points.sum(), rel=0.03)
        assert abs(soft - points).max() < 0.3
        moved = WORLD.renderer.soft_coverage((1, 0), shape, np.ones(1), np.zeros(1), radius)[0]
        assert abs(moved[:, 1:] - soft[:, :-1]).max() < 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_are_negative_inside_and_grow_by_one_a_radius(shape):
    g = np.linspace(-1.3, 1.3, 261)
    x, y = np.broadcast_arrays(g[None] + 0.0013, g[:, None] + 0.0007)
    level, inside = LEVELS[shape](x, y), SHAPES[shape](x, y)
    assert ((level <= 0) == inside).all()
    slope = np.hypot(*np.gradient(level, g[1] - g[0]))
    assert np.median(slope) == pytest.approx(1, abs=1e-3)
    assert max(abs(x[inside]).max(), abs(y[inside]).max()) == pytest.approx(REACH[shape], abs=0.02)


def test_depth_is_seen_where_a_thing_stands_and_near_as_its_names_say():
    for index in range(40):
        scene = VARIED.scene("test", index)
        depth = VARIED.renderer.depth(scene)
        pale = tuple(replace(t, look=replace(t.look, shade=(0, 0, 0))) for t in scene.things)
        assert (depth == VARIED.renderer.depth(Scene(pale))).all()
        for thing in scene.things:
            shown = depth[VARIED.renderer.box(thing.cell)]
            nearness = (thing.cell[0] + SIZES[thing.size]) / VARIED.board.grid
            assert shown.max() == round(nearness * 255)
            mask = VARIED.renderer.mask(thing)
            assert abs(shown[..., 0] / (255 * nearness) - mask).max() < 0.01


def test_records_of_one_scene_look_each_in_its_own_way():
    world = Shapes(scenes=1, **LOOKS)
    records = [world.record("caption", "train", i) for i in range(40)]
    assert len({r.meta["scene"] for r in records}) == 1
    assert len({r.fields["caption"] for r in records}) == 1
    assert len({r.fields["image"].tobytes() for r in records}) == 40
    again = Shapes(scenes=1, **LOOKS).record("caption", "train", 7).fields["image"]
    assert (again == records[7].fields["image"]).all()


@pytest.mark.parametrize("world", [VARIED, HARD_LOOKS], ids=["default", "hard"])
def test_a_thing_stays_in_its_place_and_in_the_range_of_its_names(world):
    looks, darkest = world.looks, np.subtract(BACKGROUND, world.looks.background)
    for index in range(200):
        scene = world.scene("train", index)
        assert (np.array(scene.background) <= BACKGROUND).all()
        assert (np.array(scene.background) >= darkest).all()
        for thing in scene.things:
            look = thing.look
            room = room_of(thing.shape, thing.size, look.scale)
            assert max(abs(look.right), abs(look.down)) <= min(looks.offset, room)
            assert 1 - looks.radius <= look.scale <= 1
            assert max(map(abs, look.shade)) <= looks.shade
    offsets = [t.look.right for i in range(300) for t in world.scene("train", i).things]
    assert len(set(offsets)) == len(offsets), "off any grid"


def test_a_thing_that_an_edit_made_larger_is_moved_into_its_place():
    look = Look(0.2, 0.0, 1.0, (0, 0, 0))
    small, large = (Thing((0, 0), "square", "red", size, look) for size in ("small", "large"))
    assert HARD.renderer.mask(small)[:, -1].max() == 0
    room = room_of("square", "large", 1.0)
    inside = replace(large, look=replace(look, right=room))
    assert (HARD.renderer.mask(large) == HARD.renderer.mask(inside)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": 0.6}, "offset"),
        ({"offset": -0.1}, "offset"),
        ({"radius": 0.3, "sizes": ["medium", "large"]}, "medium.*0.16"),
        ({"shade": 33, "colors": ["red", "orange"], "heldout": []}, "red and orange"),
        ({"shade": 70, "background": 120, "colors": ["red", "cyan"], "heldout": []}, "common"),
        ({"background": 200}, "background"),
    ],
)
def test_looks_that_would_be_taken_for_others_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**change)


def test_every_knob_of_looks_and_keys_changes_the_fingerprint():
    changes = [
        *({name: value} for name, value in LOOKS.items()),
        {"heldout_keys": 0.2},
        {"heldout_keys": 0.3},
        {"tokenizer_images": "all"},
        LOOKS,
    ]
    worlds = [*(Shapes(**change) for change in changes), Shapes(), Shapes().on_stream(3)]
    assert len({world.fingerprint() for world in worlds}) == len(worlds)
