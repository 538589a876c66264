"""The checker reads every scene that the generator draws, and refuses damage."""

import pytest
import torch
from shapes_worlds import HARD, WORLD, WORLDS, drawn

from unify.data.world.checker import Checker, Unreadable, blur, robustness
from unify.data.world.scene import Scene, Thing


def test_the_checker_agrees_with_the_generator_on_ten_thousand_scenes():
    checker, scenes = Checker(WORLD), [WORLD.scene("test", i) for i in range(8000)]
    scenes += [WORLD.scene("heldout", i) for i in range(2000)]
    assert checker.read(drawn(WORLD, scenes)) == scenes


def test_the_checker_agrees_with_the_generator_in_a_harder_world():
    scenes = [HARD.scene("test", i) for i in range(1000)]
    assert Checker(HARD).read(drawn(HARD, scenes)) == scenes


@pytest.mark.slow
def test_the_checker_agrees_on_thousands_of_scenes_of_a_harder_world(often):
    checker = Checker(HARD)
    for start in range(0, often(3_000, 10_000), 1000):
        scenes = [HARD.scene("test", i) for i in range(start, start + 1000)]
        assert checker.read(drawn(HARD, scenes)) == scenes


@pytest.mark.parametrize("world", WORLDS)
def test_damage_makes_the_checker_refuse_rather_than_misread(world):
    noises, blurs = (0.1, 0.2, 0.3, 0.4, 0.6, 1.0), (0.5, 1.0, 1.25, 1.5)
    for row in robustness(world, noises, blurs, n=200):
        assert row["wrong"] < 0.01, row
        assert row["right"] + row["wrong"] + row["unreadable"] == pytest.approx(1)
        if row["level"] <= 0.2 or (row["damage"] == "blur" and row["level"] <= 1.25):
            assert row["right"] == 1, row


def test_mixed_blur_and_noise_at_25_decibels_reads_right():
    scenes = [WORLD.scene("test", i) for i in range(200)]
    clean = drawn(WORLD, scenes)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    damaged = (blur(clean, 1.0) + 0.06 * noise).clamp(-1, 1)
    psnr = 10 * torch.log10(4 / (damaged - clean).square().mean())
    assert psnr < 25.8
    assert Checker(WORLD).read(damaged) == scenes


def test_garbage_is_unreadable_and_says_why():
    checker = Checker(WORLD)
    things = [Thing((0, 0), shape, "red", "large") for shape in ("circle", "square", "triangle")]
    a, b, _ = drawn(WORLD, [Scene((thing,)) for thing in things])
    empty = drawn(WORLD, [Scene(())])[0]
    gone, bitten, specked = b.clone(), b.clone(), empty.clone()
    gone[:, :8, :16] = empty[:, :8, :16]  # half a square
    bitten[:, :6, :6] = empty[:, :6, :6]  # a corner missing
    specked[:, 20:23, 20:23] = -1.0
    noise = torch.rand(a.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cases = [noise, torch.zeros_like(a), (a + empty) / 2, (a + b) / 2, gone, bitten, specked]
    cases += [-a, a * torch.nan, torch.roll(a, 4, -1)]
    for case, verdict in zip(cases, checker.read(torch.stack(cases)), strict=True):
        assert isinstance(verdict, Unreadable), case
        assert any(word in verdict.reason for word in ("far", " or ", "flaw"))


def test_places_are_read_one_by_one():
    checker, scene = Checker(WORLD), Scene((Thing((0, 0), "circle", "red", "large"),))
    image = drawn(WORLD, [scene])
    image[:, :, 16:, 16:] = 0.0
    (places,) = checker.places(image)
    assert places[0, 0] == scene.things[0]
    assert places[0, 1] is None
    assert isinstance(places[1, 1], Unreadable)
    with pytest.raises(ValueError, match="3 32 32"):
        checker.read(torch.zeros(1, 3, 64, 64))
