"""Draws docs/shapes2.png: full prompts of the world of studies, each with several right pictures.

PYTHONPATH=tests python tests/world_picture.py
"""

import random

import numpy as np
import yaml
from PIL import Image
from places import ROOT

from unify.data.shapes import Shapes

COLUMNS, SCALE, GAP = 10, 2, 4
ONE_OF_EACH = (1, 2, 3)  # things


def pictures(world):
    """[rows columns H W 3]: a row for a prompt, in columns the looks of some records."""
    rows = []
    for things in ONE_OF_EACH:
        looks = random.Random(things)
        plain = world.board.draw(looks, count=things)
        rows.append([world.render(world.looks.dress(plain, looks)) for _ in range(COLUMNS)])
    return np.array(rows)


def sheet(images):
    """The pictures side by side, enlarged, with white between them."""
    images = images.repeat(SCALE, 2).repeat(SCALE, 3)
    padded = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows, columns, h, w, _ = padded.shape
    return padded.transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, 3)[:-GAP, :-GAP]


if __name__ == "__main__":
    data = yaml.safe_load((ROOT / "experiments" / "data" / "shapes2.yaml").read_text())["data"]
    source = dict(data["source"])
    del source["class"]
    picture = Image.fromarray(sheet(pictures(Shapes(**source))))
    picture.quantize(128).save(ROOT / "docs" / "shapes2.png", optimize=True)
