"""Batches of three small pictures."""

import pytest
import torch
from small import PROMPTS, SIDE

from unify.batch import Batch


@pytest.fixture
def images():
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def drawing(images):
    return Batch.text_to_image(PROMPTS, images, ["a", "b", "c"], 16)


@pytest.fixture
def reading(images):
    return Batch.image_to_text(images, ["red", "blue", "no"], ["a", "b", "c"], lengths=(8, 8))
