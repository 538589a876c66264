"""`unify sample RUN`: images of a trained run, for prompts, source images, or sums of prompts.

B rows, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unify.assembly.assemble import open_run
from unify.config.cross_checks import sampling_words
from unify.data.adapters.images import BadImage, decode
from unify.data.module import Data
from unify.data.source import to_tensor
from unify.metrics.metric import Grid
from unify.paradigm import ImageRequest, Paradigm
from unify.runs.folder import autocast
from unify.schema.experiment import Recipe


@dataclass
class Ask:
    """What to draw, `count` times: each prompt, with the source images if there are any; the
    source images alone; or `arith`, a sum of prompts. `settings` are `key=value` words."""

    prompts: Sequence[str] = ()
    sources: Sequence[Path] = ()
    negative: str = ""
    arith: str = ""
    settings: Sequence[str] = ()
    seed: int = 0
    count: int = 1
    titles: list[str] = field(init=False)  # [B]

    def __post_init__(self) -> None:
        if bool(self.arith) == bool(self.prompts or self.sources):
            raise ValueError("give either --prompt or --arith, or --source with or without prompts")
        if self.arith and self.negative:
            raise ValueError("--arith subtracts what it does not want: leave --negative out")
        asked = self.prompts or [self.arith or " + ".join(path.name for path in self.sources)]
        self.titles = [text for text in asked for _ in range(self.count)]


def sample(run: Path, ask: Ask) -> Grid:
    """The images of a run; ValueError for what it cannot draw, or has not learned to."""
    _, _, recipe = open_run(run, trusted_files=True)
    model = recipe.model
    if not isinstance(model, Paradigm):
        raise ValueError(f"{run} is a {type(model).__name__}, which draws nothing from a prompt")
    settings = recipe.image_sampling | sampling_words(ask.settings, type(model), "image")
    with torch.no_grad(), autocast(recipe.machine.precision, model.device):
        images = _draw(model, recipe, ask, settings)
    return Grid("sample", images.float().cpu(), ask.titles, [None] * len(ask.titles))


def _draw(model: Paradigm, recipe: Recipe, ask: Ask, settings: dict[str, Any]) -> Tensor:
    if ask.arith:
        add = getattr(model, "generate_arithmetic", None)
        if add is None:
            raise ValueError(f"a {type(model).__name__} has no text latents to add")
        return add(ask.arith, ask.count, seed=ask.seed, **settings)
    columns = _columns(recipe.data, ask, model.copies) if ask.sources else {}
    negative = [ask.negative] * len(ask.titles) if ask.negative else None
    prompts = ask.titles if ask.prompts else None
    request = ImageRequest(prompts, negative=negative, seed=ask.seed, **columns)
    return model.generate_image(request, **settings)


def _columns(data: Data, ask: Ask, copies: bool) -> dict[str, Any]:
    """Sources as the run learned from them; those that are not given are absent in all rows."""
    rows, given = len(ask.titles), len(ask.sources)
    sides = _sides(data, given, bool(ask.prompts), copies)
    sources = [torch.zeros(rows, 3, side, side) for side in sides]
    for column, path in zip(sources, ask.sources, strict=False):
        try:
            column += to_tensor(decode(path.read_bytes(), column.shape[-1]))
        except BadImage as error:
            raise ValueError(f"{path} is not a picture that can be read: {error}") from error
    if given == len(sides):
        return {"sources": sources}
    present = [torch.full((rows,), place < given) for place in range(len(sides))]
    return {"sources": sources, "present": present}


def _sides(data: Data, given: int, prompted: bool, copies: bool) -> list[int]:
    """Sides in pixels of the source images of a task, the one with the fewest that has room.

    `copies`: what has no conditions is drawn from itself.
    """
    fits = []
    for task in data.tasks:
        *conditions, target = data.batch(task, "train", [0]).segments
        if copies and not conditions:
            conditions = [target]
        sides = [column.images.shape[-1] for column in conditions if column.kind == "image"]
        texts = [column for column in conditions if column.kind == "text"]
        if target.kind == "image" and len(sides) >= given and bool(texts) == prompted:
            fits.append(sides)
    if not fits:
        raise ValueError(
            f"the run did not learn to draw from {given} source image(s) "
            f"{'and' if prompted else 'without'} a prompt; it learned {', '.join(data.tasks)}"
        )
    return min(fits, key=len)
