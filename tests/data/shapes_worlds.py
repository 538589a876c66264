"""Embedded worlds, the quickstart's and harder ones, and how tests look at their records."""

import numpy as np
import pytest
import torch

from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.scene import COLORS, SHAPES

WORLD = Shapes()

HARD = Shapes(
    size=64,
    grid=3,
    shapes=list(SHAPES),
    colors=list(COLORS),
    sizes=["small", "large"],
    objects=(1, 4),
    heldout=["yellow triangle", "black star"],
    questions=["count", "color", "shape", "position", "exists", "relation", "size"],
)

# Ranges of looks that a study's world has, and worlds with them
LOOKS = {"offset": 0.1375, "radius": 0.17, "shade": 22, "background": 40}
STUDY = Shapes(objects=(1, 3), heldout_keys=0.2, **LOOKS)
HARD_LOOKS = Shapes(
    size=48,
    grid=3,
    shapes=list(SHAPES),
    colors=list(COLORS),
    sizes=["small", "large"],
    objects=(1, 4),
    heldout=["yellow triangle", "black star"],
    heldout_keys=0.2,
    **LOOKS,
)

WORLDS = [pytest.param(WORLD, id="default"), pytest.param(HARD, id="hard")]
LEARNT = ("train", "validation", "test")


def drawn(world, scenes):
    return torch.stack([to_tensor(world.render(scene)) for scene in scenes])


def texts_of(record):
    return [value for value in record.fields.values() if isinstance(value, str)]


def images_of(record):
    """Every image of a record, those of a list too."""
    values = [v if isinstance(v, list) else [v] for v in record.fields.values()]
    return [image for some in values for image in some if isinstance(image, np.ndarray)]
