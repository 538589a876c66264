"""Grids of pictures: every picture can be read back, and verdicts show."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from unify.data.source import to_uint8
from unify.evaluation.image_grids import check_own_grid, free_grid, save_grid
from unify.metrics.metric import Grid


def pictures(count: int, side: int) -> Grid:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, side, side, generator=generator) * 2 - 1
    titles = ["a red circle left of a blue square, " * (i + 1) + "größer" for i in range(count)]
    return Grid("text_to_image", images, titles, [True, False, None, True, None][:count])


@pytest.mark.parametrize(("count", "side"), [(1, 16), (5, 16), (3, 40), (2, 200)])
def test_every_picture_can_be_cut_out_of_its_grid_again(tmp_path, count, side):
    grid = pictures(count, side)
    save_grid(grid, tmp_path / "new" / "grid.png")
    facts = json.loads((tmp_path / "new" / "grid.json").read_text())
    assert (facts["name"], facts["titles"]) == (grid.name, grid.titles)
    assert facts["verdicts"] == grid.verdicts
    sheet = Image.open(tmp_path / "new" / "grid.png")
    assert len(facts["boxes"]) == count
    for box, image in zip(facts["boxes"], grid.images, strict=True):
        shown = np.asarray(sheet.crop(box))[:: facts["factor"], :: facts["factor"]]
        assert (shown == to_uint8(image)).all()
    if side < 100:
        assert 84 <= side * facts["factor"] <= 140


def test_verdicts_are_drawn_green_and_red(tmp_path):
    def colours(verdict: bool | None) -> set:
        grid = Grid("x", torch.zeros(1, 3, 16, 16), [""], [verdict])
        save_grid(grid, tmp_path / "x.png")
        result = Image.open(tmp_path / "x.png").getcolors(10_000)
        assert result is not None
        return {c for _, c in result}

    assert any(g > 2 * r for r, g, _ in colours(True) if g > 100)  # type: ignore[misc]
    assert any(r > 2 * g for r, g, _ in colours(False) if r > 100)  # type: ignore[misc]
    assert all(r == g == b for r, g, b in colours(None))  # type: ignore[misc]


@pytest.mark.fault(42, times=4)
def test_a_picture_of_another_s_and_what_stands_beside_it_are_not_drawn_over(tmp_path):
    grid, path = pictures(1, 16), tmp_path / "grid.png"
    check_own_grid(path)
    save_grid(grid, path)
    check_own_grid(path)
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(ValueError, match=r"grid\.png is there, and unify did not draw it"):
        check_own_grid(path)
    for name, content in (("holiday.json", "{}"), ("notes.txt", "mine")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name} is there, and unify did not draw it"):
            check_own_grid((tmp_path / name).with_suffix(".png" if "json" in name else ".txt"))
    with pytest.raises(ValueError, match=r"end in \.png"):
        check_own_grid(tmp_path / "new.json")


def test_a_name_that_is_taken_is_counted_on(tmp_path):
    for name in ("samples", "samples-2", "samples-3"):
        assert free_grid(tmp_path / "samples.png") == tmp_path / f"{name}.png"
        save_grid(pictures(1, 16), free_grid(tmp_path / "samples.png"))
