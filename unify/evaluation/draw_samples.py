"""`unify sample RUN`: images of a trained run, for prompts, source images, or sums of prompts.

B rows, H x W pixels.
"""

from collections.abc import Callable, Sequence
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
from unify.nn.prefix import MAX_PROMPT
from unify.paradigm import ImageRequest, Paradigm
from unify.schema.experiment import Recipe
from unify.support.precision import autocast
from unify.support.stop_protocol import kept_if_interrupted
from unify.support.terminal import echo
from unify.tokenizer import TextTokenizer

SHOWN = 40  # letters of a prompt in a message


@dataclass
class SampleRequest:
    """A request to draw each prompt, with the sources if any; the sources alone; or `arith`.

    Raises ValueError for a request that mixes them.
    """

    prompts: Sequence[str] = ()
    sources: Sequence[Path] = ()  # image files, in the order of the task's columns
    negative: str = ""  # prompt to be steered away from
    arith: str = ""  # a sum of prompts, as "a red square - red + blue"
    settings: Sequence[str] = ()  # `key=value` of the sampler
    seed: int = 0
    count: int = 1  # images of each prompt
    titles: list[str] = field(init=False)  # [B]

    def __post_init__(self) -> None:
        if bool(self.arith) == bool(self.prompts or self.sources):
            raise ValueError("give either --prompt or --arith, or --source with or without prompts")
        if self.arith and self.negative:
            raise ValueError("--arith subtracts what it does not want: leave --negative out")
        asked = self.prompts or [self.arith or " + ".join(path.name for path in self.sources)]
        self.titles = [text for text in asked for _ in range(self.count)]


def sample(run: Path, request: SampleRequest, say: Callable[[str], object] = echo) -> Grid:
    """Draw images with a trained run; ValueError for what it cannot draw, or has not learned to.

    `say` is told of prompts that are longer than what the run was trained on, or can read.
    """
    _, _, recipe = open_run(run, trusted_files=True)
    model = recipe.model
    if not isinstance(model, Paradigm):
        raise ValueError(f"{run} is a {type(model).__name__}, which draws nothing from a prompt")
    settings = recipe.image_sampling | sampling_words(request.settings, type(model), "image")
    kept = kept_if_interrupted("nothing was written, and the same command draws it")
    with torch.no_grad(), autocast(recipe.machine.precision, model.device), kept:
        images = _draw(model, recipe, request, settings)
    for note in too_long(model, recipe.data, [*request.prompts, request.negative]):
        say(note)
    return Grid("sample", images.float().cpu(), request.titles, [None] * len(request.titles))


def too_long(model: Paradigm, data: Data, prompts: Sequence[str]) -> list[str]:
    """A sentence for each prompt that is cut, or goes on where the texts of training were cut."""
    parts = {id(part): part for part in model.tokenizers().values()}.values()  # each once
    lengths = [
        column.length
        for task in data.tasks
        for column in data.batch(task, "train", [0]).segments
        if column.kind == "text" and column.role == "condition"
    ]
    learned = max(lengths, default=MAX_PROMPT)
    notes = []
    for text in filter(None, dict.fromkeys(prompts)):
        for tokenizer in (part for part in parts if isinstance(part, TextTokenizer)):
            tokenizer.cut = 0
            tokens = int(tokenizer.encode([text], MAX_PROMPT)[1].sum())
            shown = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
            if tokenizer.cut:
                notes.append(f"{shown!r} was cut after token {MAX_PROMPT}")
            elif tokens > learned:
                notes.append(
                    f"{shown!r} has {tokens} tokens, and in training texts were cut after "
                    f"{learned} (data.lengths): what follows was never learned"
                )
    return notes


def _draw(
    model: Paradigm, recipe: Recipe, request: SampleRequest, settings: dict[str, Any]
) -> Tensor:
    """Images [B 3 H W] in [-1, 1], by the sampler's settings."""
    if request.arith:
        add = getattr(model, "generate_arithmetic", None)
        if add is None:
            raise ValueError(f"a {type(model).__name__} has no text latents to add")
        return add(request.arith, request.count, seed=request.seed, **settings)
    columns = _columns(recipe.data, request, model.copies) if request.sources else {}
    negative = [request.negative] * len(request.titles) if request.negative else None
    prompts = request.titles if request.prompts else None
    asked = ImageRequest(prompts, negative=negative, seed=request.seed, **columns)
    return model.generate_image(asked, **settings)


def _columns(data: Data, request: SampleRequest, copies: bool) -> dict[str, Any]:
    """Sources [B 3 S S] sized as the run learned from them; those not given are marked absent."""
    rows, given = len(request.titles), len(request.sources)
    sides = _sides(data, given, bool(request.prompts), copies)
    sources = [torch.zeros(rows, 3, side, side) for side in sides]
    for column, path in zip(sources, request.sources, strict=False):
        try:
            column += to_tensor(decode(path.read_bytes(), column.shape[-1]))
        except BadImage as error:
            raise ValueError(f"{path} is not a picture that can be read: {error}") from error
    if given == len(sides):
        return {"sources": sources}
    present = [torch.full((rows,), place < given) for place in range(len(sides))]
    return {"sources": sources, "present": present}


def _sides(data: Data, given: int, prompted: bool, copies: bool) -> list[int]:
    """Side in pixels of each source image of the task with the fewest that has room for `given`.

    `prompted`: the task must have a text; else none. `copies`: the model draws the target of a task
    without conditions from that target itself.
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
