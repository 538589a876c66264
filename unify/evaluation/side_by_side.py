"""What tells paradigms apart before any training, read off built experiments.

Parts start with random weights, in place of those that runs would give: shapes, passes and FLOPs
are the same. A vocabulary is fitted on the experiment's own texts.
"""

import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
from torch import nn

from unify.batch import Batch
from unify.config import build_recipe
from unify.costs.step_cost import first_rows
from unify.data.source import TASKS
from unify.evaluation.paradigm_card import outermost, recorded_masks
from unify.nn.denoiser import Denoiser
from unify.nn.flops import counted
from unify.nn.flow_head import FlowHead
from unify.nn.init import initialise
from unify.nn.masks import Mask
from unify.nn.trunk import Backbone
from unify.noise import Noise
from unify.paradigm import Fitted, ImageRequest, Paradigm, TextRequest
from unify.sampling import AnswerLength
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.tokenizer import ContinuousTokenizer, DiscreteTokenizer, ImageTokenizer

TEXTS = 2000  # that a vocabulary is fitted on
DRAWS, READS = "text_to_image", ("vqa", "caption")
ASKED = [task for task in TASKS if task != "image"]  # that one is for tokenizers to learn from


@dataclass(frozen=True)
class Facts:
    """One experiment; what does not apply is empty or None."""

    name: str
    title: str  # the first sentence of its module, without what is in brackets
    objective: str  # the L there
    image: str  # what a picture is to it
    bits: str  # of one token of that
    parameters: int
    trained: int  # of the parameters
    text_terms: str  # exact, bound or none: what its likelihood of a text is
    tokens: int | None  # of a row of `text_to_image` in training
    passes: dict[str, int]  # calls of each network to draw one picture
    drawn: float | None  # FLOPs of that
    read: float | None  # FLOPs of one picture and question, up to the first token of the answer
    cannot: tuple[str, ...]  # shipped tasks that it does not learn
    masks: dict[str, Mask]  # of the first row of `text_to_image`, by backbone


def facts_of(config: Config) -> Facts | None:
    """Facts of a completed experiment; None if its model is no paradigm."""
    recipe = build_recipe(config, lambda part, weights: None)
    model = recipe.model
    if not isinstance(model, Paradigm):
        return None
    _fill(recipe)
    first = {task: first_rows(recipe, task, 1) for task in recipe.data.tasks}
    title, objective = described(type(model))
    draws = DRAWS in first
    passes, drawn = _drawing(recipe, first[DRAWS]) if draws else ({}, None)
    return Facts(
        name=config["name"],
        title=title,
        objective=objective,
        **_picture(model, first),
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        text_terms=model.likelihood if "text_ce" in model.terms else "none",
        tokens=model.tokens(first[DRAWS]) if draws else None,
        passes=passes,
        drawn=drawn,
        read=_reading(model, recipe),
        cannot=tuple(task for task in ASKED if task not in model.tasks | model.answers),
        masks=_masks(model, recipe) if draws else {},
    )


def described(kind: type[Paradigm]) -> tuple[str, str]:
    """(first sentence, the line of L without its remark) of the docstring of a paradigm's module.

    The class's own docstring serves where the module's has no L; "" where neither has one.
    """
    module = inspect.getdoc(sys.modules[kind.__module__]) or ""
    texts = [module, inspect.getdoc(kind) or ""]
    title = next(filter(None, texts), "").split("\n\n")[0].replace("\n", " ")
    title = re.sub(r" *\([^)]*\)", "", title).split(". ")[0].rstrip(".")
    for text in texts:
        for line in text.splitlines():
            if line.strip().startswith("L = "):
                return title, re.split(r" {4,}", line.strip())[0]
    return title, ""


def _fill(recipe: Recipe) -> None:
    """First weights, and a vocabulary for each tokenizer that has to be fitted."""
    model = recipe.model
    assert isinstance(model, Paradigm)
    initialise(model, 0)  # tokenizers are built with first values
    for part in model.tokenizers().values():
        if isinstance(part, Fitted) and not part.fitted:
            part.fit(recipe.data.texts(TEXTS))
    model.eval()


def _picture(model: Paradigm, first: dict[str, Batch]) -> dict[str, str]:
    """In words: a picture's grid, and what one cell of it holds."""
    image = model.draws_with or next(
        (t for t in model.tokenizers().values() if isinstance(t, ImageTokenizer)), None
    )
    if image is None:
        return {"image": "", "bits": ""}
    columns = (s for batch in first.values() for s in batch.segments if s.kind == "image")
    h, w = image.grid(*next(columns).images.shape[-2:])
    if isinstance(image, DiscreteTokenizer):
        return {
            "image": f"{h} x {w} codes of {image.vocab_size}",
            "bits": f"{log2(image.vocab_size):.3g}",
        }
    assert isinstance(image, ContinuousTokenizer)
    kind = "pixels" if image.stride == 1 else "latents"
    return {"image": f"{h} x {w} {kind} of {image.channels} numbers", "bits": "real numbers"}


def _drawing(recipe: Recipe, batch: Batch) -> tuple[dict[str, int], float]:
    """(calls of each network, FLOPs) to draw the picture of the batch's one prompt."""
    model = recipe.model
    assert isinstance(model, Paradigm)
    prompts = next((s.texts for s in batch.segments if s.kind == "text"), None)
    request = ImageRequest(prompts, seed=0)

    def draw() -> Any:
        return model.generate_image(request, **recipe.image_sampling)

    with _calls(model) as calls:
        flops = counted(draw)
    return dict(calls), flops


def _reading(model: Paradigm, recipe: Recipe) -> float | None:
    """FLOPs up to the first token of a text about an image."""
    can = model.tasks | model.answers
    task = next((t for t in READS if t in can and t in recipe.data.source.tasks), None)
    if task is None or not issubclass(model.text_sampler, AnswerLength):
        return None
    columns = first_rows(recipe, task, 1).segments
    images = next(s.images for s in columns if s.kind == "image")
    asked = [s.texts for s in columns[:-1] if s.kind == "text"]
    request = TextRequest(images, asked[0] if asked else None)
    return counted(lambda: model.generate_text(request, max_length=1))


@contextmanager
def _calls(model: Paradigm) -> Iterator[Counter[str]]:
    """Counts the calls of each network: trunks, denoisers, heads that draw."""
    networks: list[tuple[str, Any]] = [*outermost(model, Backbone | Denoiser | FlowHead)]
    for name, part in model.tokenizers().items():  # a decoder that is a flow is called many times
        if isinstance(part, nn.Module):
            inside = part.named_modules(prefix=name)
            networks += [(inner, flow) for inner, flow in inside if isinstance(flow, Denoiser)]
    calls: Counter[str] = Counter()
    with ExitStack() as hooks:
        for name, module in networks:
            if isinstance(module, Denoiser):  # is called by `velocity`, its network as a module
                module = module.model

            def count(*_: Any, name: str = name) -> None:
                calls[name] += 1

            hooks.callback(module.register_forward_pre_hook(count).remove)
        yield calls


@torch.no_grad()
def _masks(model: Paradigm, recipe: Recipe) -> dict[str, Mask]:
    batch = first_rows(recipe, DRAWS, model.group)
    with recorded_masks(model) as masks:
        model.loss(batch, Noise.for_batch(0, 0, batch, model.device))
    return {name: mask.rows(slice(0, 1)) for name, mask in masks.items()}
