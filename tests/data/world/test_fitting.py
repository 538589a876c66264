"""The checker of worlds with looks reads every scene that is drawn; readings without a margin."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from shapes_worlds import HARD_LOOKS, LOOKS, STUDY, WORLD, drawn

from unify.data.shapes import Shapes
from unify.data.world.checker import MARGINS, Checker, Unreadable, robustness
from unify.data.world.reading import MARGIN, Nearest
from unify.data.world.scene import Scene, Thing

SHIPPED = Path(__file__).parents[3] / "experiments" / "data"
EMPTY = Scene(())


def shipped_worlds():
    """The distinct embedded worlds of the shipped data files."""
    worlds = {}
    for path in sorted(SHIPPED.glob("*.yaml")):
        source = dict(yaml.safe_load(path.read_text()).get("data", {}).get("source", {}))
        if source.pop("class", None) == "unify.data.shapes.Shapes":
            source.pop("tokenizer_images", None)
            worlds.setdefault(Shapes(**source).fingerprint(), pytest.param(source, id=path.stem))
    return list(worlds.values())


@pytest.mark.parametrize("world", [STUDY, HARD_LOOKS], ids=["study", "hard"])
def test_the_checker_reads_scenes_with_looks(world):
    n = 250 if world is STUDY else 60
    scenes = [world.scene("test", i) for i in range(n)]
    scenes += [world.scene("heldout", i) for i in range(n // 5)]
    assert Checker(world).read(drawn(world, scenes)) == scenes


@pytest.mark.slow
@pytest.mark.parametrize("arguments", shipped_worlds())
def test_the_checker_reads_thousands_of_scenes_of_every_shipped_world(arguments, often):
    world = Shapes(**arguments)
    checker = Checker(world)
    for start in range(0, often(2_000, 10_000), 1000):
        scenes = [world.scene("test", i) for i in range(start, start + 800)]
        scenes += [world.scene("heldout", i) for i in range(start, start + 200)]
        assert checker.read(drawn(world, scenes)) == scenes


def test_damage_makes_the_checker_refuse_rather_than_misread():
    for row in robustness(STUDY, (0.1, 0.2, 0.4), (0.5, 1.0, 1.5), n=60):
        assert row["wrong"] < 0.02, row
        assert row["right at 0.3"] == row["right"]
        curve = [row[f"right at {margin}"] for margin in MARGINS]
        assert curve == sorted(curve, reverse=True)
        if row["level"] <= 0.2 or (row["damage"] == "blur" and row["level"] <= 1.0):
            assert row["right"] == 1, row


def test_pictures_without_looks_are_read_in_a_world_that_has_them():
    plain = [Shapes(objects=(1, 3)).scene("test", i) for i in range(50)]
    assert plain[0].things[0].look is None
    assert Checker(STUDY).read(drawn(STUDY, plain)) == plain


def test_garbage_is_refused_by_distance_flaw_or_margin():
    checker = Checker(STUDY)
    things = [Thing((0, 0), shape, "red", "large") for shape in ("circle", "square")]
    a, b = drawn(STUDY, [Scene((thing,)) for thing in things])
    empty = drawn(STUDY, [EMPTY])[0]
    half, specked, split = b.clone(), empty.clone(), b.clone()
    half[:, :8, :16] = empty[:, :8, :16]
    specked[:, 20:23, 20:23] = -1.0
    split[:, :8, :8], split[:, 8:16, 8:16] = a[:, :8, :8] * 0, -a[:, 8:16, 8:16]
    noise = torch.rand(a.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for image in (noise, half, specked, split, -a, a * torch.nan, torch.full_like(a, -1.0)):
        (verdict,) = checker.read(image[None])
        assert isinstance(verdict, Unreadable), image
        (near,) = checker.nearest(image[None])
        assert near.refused is not None or near.lead < MARGIN


@pytest.mark.parametrize(
    "change", [{"size": 16}, {"size": 64}, {"size": 36, "grid": 3}, {"size": 16, "shade": 0}]
)
def test_places_of_other_sizes_are_read_too(change):
    world = Shapes(**{**LOOKS, "low_resolution": 4, "objects": (1, 3), **change})
    scenes = [world.scene("test", i) for i in range(60)]
    assert Checker(world).read(drawn(world, scenes)) == scenes


@pytest.mark.parametrize("world", [WORLD, STUDY], ids=["templates", "fitted"])
def test_the_nearest_reading_is_the_checkers_without_a_margin(world):
    checker, scenes = Checker(world), [world.scene("test", i) for i in range(60)]
    clean = drawn(world, scenes)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    images = torch.cat([clean, clean + 0.3 * noise, (clean + clean.roll(1, 0)) / 2])
    near, fits = checker.nearest(images), checker.fits(images)
    read = checker.read(images)
    assert [n.scene for n in near[:60]] == scenes
    for n, places, verdict in zip(near, fits, read, strict=True):
        taken = n.at_margin(MARGIN)
        assert (taken is None) == isinstance(verdict, Unreadable)
        assert taken is None or taken == verdict
        assert n == Nearest.of(places)
        assert n.refused in (None, "far", "flawed")
        if n.refused is None and n.lead >= 0:
            assert n.at_margin(0) == n.scene
    assert any(n.refused is None and n.lead < MARGIN for n in near), "what only the margin refuses"


def test_a_reading_depends_neither_on_the_batch_nor_on_the_order():
    checker, scenes = Checker(STUDY), [STUDY.scene("test", i) for i in range(20)]
    images = drawn(STUDY, scenes)
    together = [n.lead for n in checker.nearest(images)]
    alone = [checker.nearest(image[None])[0].lead for image in images.flip(0)][::-1]
    assert np.allclose(together, alone, atol=1e-3)
