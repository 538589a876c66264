"""The prompts of the embedded world that drawing is scored by, and what is drawn from them.

B prompts of one kind, H x W pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import Split, to_tensor
from unify.data.world.language import Prompt
from unify.metrics.metric import Subject, available_records
from unify.metrics.shapes_drawing import generate

PROMPT_SEED = 0  # of the prompt streams; outside any run's seeds


class Asked(NamedTuple):
    """`n` prompts of a category of `Prompts.prompts`, from a split."""

    category: str
    n: int
    split: Split


def full_prompts(world: Shapes, prompts: int, heldout: int, split: Split) -> dict[str, Asked]:
    """What is asked by the end of its scores' names: full captions, as many of each object count,
    and `heldout` ones of held-out pairs. As many as there are distinct ones, where keys are held
    out."""
    each = math.ceil(prompts / len(world.complete))
    asked = {category: Asked(category, each, split) for category in world.complete}
    if heldout and world.board.heldout:
        asked["heldout"] = Asked("full", heldout, "heldout")
    most = {name: world.distinct_prompts(a.category, a.split) for name, a in asked.items()}
    return {
        name: a if (limit := most[name]) is None else a._replace(n=min(a.n, limit))
        for name, a in asked.items()
    }


def open_prompts(world: Shapes, n: int, split: Split) -> dict[str, Asked]:
    """The same of `n` prompts of each category that leaves something open."""
    loose = [category for category in world.categories if category not in world.complete]
    return {f"geneval/{category}": Asked(category, n, split) for category in loose}


def pictures_of(
    subject: Subject, world: Shapes, asked: Asked
) -> tuple[list[Prompt], Tensor, Tensor]:
    """The prompts, what the model draws from them and their true images, 2 x [B 3 H W].

    ValueError for a split without records.
    """
    category, n, split = asked
    available_records(world, "text_to_image", split)
    prompts = world.prompts(category, n, PROMPT_SEED, split)
    texts = [prompt.text for prompt in prompts]
    drawn = generate(subject, f"text_to_image/{split}/{category}", texts)
    truth = torch.stack([to_tensor(world.render(prompt.scene)) for prompt in prompts])
    return prompts, drawn, truth
