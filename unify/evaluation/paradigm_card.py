"""The card of a paradigm, read off its built objects: parts, layouts, attention masks, costs.

One loss of a few rows of each task is computed while every backbone says which mask it was given.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unify.costs.step_cost import first_rows, tasks_of
from unify.nn.masks import Mask
from unify.nn.trunk import Backbone, Tokens
from unify.noise import Noise
from unify.paradigm import Paradigm
from unify.schema.experiment import Recipe

MOST_TOKENS = 512  # of a mask that is kept as a picture


def card(recipe: Recipe) -> dict[str, Any]:
    """The card as plain data for card.json; the model stays as it is."""
    model = recipe.model
    assert isinstance(model, Paradigm)
    costs = tasks_of(recipe)
    return {
        "parts": _parts(model),
        "tokenizers": {name: type(part).__name__ for name, part in model.tokenizers().items()},
        "loss_weights": dict(recipe.loss_weights),
        "tasks": {
            task: {
                "rows": costs[task].rows,
                "tokens": costs[task].tokens // costs[task].rows,
                "flops": costs[task].training,
                "computed": costs[task].computed,
                "useful": costs[task].useful,
                "encoding": costs[task].encoding,
                "columns": [[s.kind, s.role] for s in first_rows(recipe, task, 1).segments],
                "masks": _masks(recipe, task),
            }
            for task in recipe.data.tasks
        },
    }


def _parts(model: nn.Module) -> dict[str, dict[str, int]]:
    """Numbers of parameters of each top-level part."""
    parts: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        part = parts.setdefault(name.partition(".")[0], {"total": 0, "trainable": 0})
        part["total"] += parameter.numel()
        part["trainable"] += parameter.numel() * parameter.requires_grad
    return parts


@torch.no_grad()
def _masks(recipe: Recipe, task: str) -> dict[str, dict[str, Any]]:
    """{backbone: its mask in the first row of a batch of the task, as `_picture` gives it}."""
    model = recipe.model
    assert isinstance(model, Paradigm)
    batch = first_rows(recipe, task, model.group)
    training = model.training
    with recorded_masks(model.eval()) as masks:
        model.loss(batch, Noise.for_batch(0, 0, batch, model.device))
    model.train(training)
    return {
        name: _picture(mask.rows(slice(0, 1)))
        for name, mask in masks.items()
        if mask.keys <= MOST_TOKENS
    }


@contextmanager
def recorded_masks(model: nn.Module) -> Iterator[dict[str, Mask]]:
    """Collects the first mask that each backbone within the model is called with, by its name."""
    masks: dict[str, Mask] = {}
    with ExitStack() as hooks:
        for name, module in outermost(model, Backbone):

            def keep(_: Any, args: Any, kwargs: Any, name: str = name) -> None:
                for tokens in (*args, *kwargs.values()):
                    if isinstance(tokens, Tokens):
                        masks.setdefault(name, tokens.mask)

            handle = module.register_forward_pre_hook(keep, with_kwargs=True)
            hooks.callback(handle.remove)
        yield masks


def outermost(model: nn.Module, kinds: Any) -> list[tuple[str, nn.Module]]:
    """Parts of these kinds by name, but those that are inside another one of them."""
    found: list[tuple[str, nn.Module]] = []
    for name, part in model.named_modules():  # outer ones come first
        within = any(name.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(part, kinds) and not within:
            found.append((name, part))
    return found


def _picture(mask: Mask) -> dict[str, Any]:
    """A mask of one row as text: `rows` of queries as hexadecimal numbers, keys from left to right,
    and `tokens`, a letter for each (`Mask.letters`)."""
    return {"tokens": mask.letters(), "rows": [_hexadecimal(row) for row in mask.dense()[0, 0]]}


def _hexadecimal(row: Tensor) -> str:
    bits = "".join("1" if read else "0" for read in row.tolist())
    return f"{int(bits, 2):0{-(-len(bits) // 4)}x}"
