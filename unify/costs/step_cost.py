"""Cost of a run before it runs, and the number of steps that a budget buys.

    steps = round((budget - charged) / cost of a step)

A step's cost is a constant of the configuration: texts are padded or cut to a length per task, so
nothing about it is left to chance and a run ends on its budget without a second rule. FLOPs are
counted by each paradigm's own formulas (frozen parts forward only, attention over the pairs of its
mask), those of the frozen tokenizers that encode its batches beside them, never within. Beside the
count stand what a dense attention kernel computes, and what is useful: not spent on padding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from unify.assembly.sharding import construct, fill
from unify.batch import Batch, Segment
from unify.config import LoadWeights, build_recipe
from unify.nn.flops import counted, dense
from unify.paradigm import Fitted, Paradigm, Trainable
from unify.runs.folder import parameter_counts
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.schema.study import Budget
from unify.support.ranges import MOST_WHOLE
from unify.tokenizer import ImageTokenizer, TextTokenizer


@dataclass
class TaskCost:
    """Cost of one task in one optimizer step."""

    rows: int
    tokens: int
    training: float  # FLOPs of what is trained, and of what it is trained through
    encoding: float  # FLOPs of frozen tokenizers
    computed: float = 0.0  # of training, by attention that scores masked pairs too
    useful: float | None = None  # of training, on what is no padding; None: not known


@dataclass
class Cost:
    """Cost of a run: of a step by task, and of the runs that had to be trained before."""

    steps: int
    tasks: dict[str, TaskCost]
    parameters: dict[str, int]
    needed: dict[str, Cost] = field(default_factory=dict)  # by name; each charged once

    @property
    def rows(self) -> int:
        return sum(task.rows for task in self.tasks.values())

    @property
    def tokens(self) -> int:
        return sum(task.tokens for task in self.tasks.values())

    @property
    def training(self) -> float:
        return sum(task.training for task in self.tasks.values())

    @property
    def encoding(self) -> float:
        return sum(task.encoding for task in self.tasks.values())

    @property
    def computed(self) -> float:
        return sum(task.computed for task in self.tasks.values())

    @property
    def useful(self) -> float | None:
        each = [task.useful for task in self.tasks.values()]
        return None if None in each else math.fsum(e for e in each if e is not None)

    @property
    def before(self) -> float:
        """FLOPs of all that had to be trained first, theirs included."""
        return sum(run.steps * (run.training + run.encoding) for run in self.needed.values())

    def total(self, quantity: str, budget: Budget | None = None) -> float:
        """Amount of `quantity` in the whole run, as the budget counts it."""
        charged = budget is not None and "needed" in budget.charge and quantity == "flops"
        return self.steps * self.step(quantity, budget) + charged * self.before

    def step(self, quantity: str, budget: Budget | None = None) -> float:
        """Amount of `quantity` in one step.

        ValueError for a budget of a task that is not trained.
        """
        if quantity == "steps":
            return 1.0
        task, charge = (budget.task, budget.charge) if budget else ("", [])
        if task and task not in self.tasks:
            raise ValueError(f"budget.task: {task} is not trained; it has {', '.join(self.tasks)}")
        costs = [cost for name, cost in self.tasks.items() if task in ("", name)]
        if quantity == "flops":
            return sum(cost.training + ("encoding" in charge) * cost.encoding for cost in costs)
        return float(sum(cost.rows if quantity == "samples" else cost.tokens for cost in costs))


def cost_of(
    config: Config,
    needed: Mapping[str, Cost] | None = None,
    load_weights: LoadWeights | None = None,
) -> Cost:
    """Cost of a completed configuration; parts are built without memory, nothing is trained.

    What texts are padded with is known where their tokenizer's vocabulary is loaded.
    """
    recipe = build_recipe(config, load_weights or (lambda part, weights: None), construct=construct)
    if isinstance(recipe.model, Trainable):
        with FakeTensorMode(allow_non_fake_inputs=True):  # shapes that can be computed with
            fill(recipe.model)
    return Cost(recipe.steps, tasks_of(recipe), parameter_counts(recipe.model), dict(needed or {}))


def tasks_of(recipe: Recipe) -> dict[str, TaskCost]:
    """Cost of one optimizer step, by task."""
    model, tasks = recipe.model, {}
    if isinstance(model, Trainable):
        for task, rows in recipe.data.tasks.items():
            batch = first_rows(recipe, task, rows)
            tasks[task] = TaskCost(
                rows,
                model.tokens(batch),
                training=float(model.flops(batch)),
                encoding=_encoding(model, batch),
                computed=_computed(model, batch),
                useful=_useful(model, batch),
            )
    return tasks


def encoding_of(recipe: Recipe) -> float:
    """FLOPs of frozen tokenizers in one optimizer step; those of `tasks_of`, counted alone."""
    model, tasks = recipe.model, recipe.data.tasks
    if not isinstance(model, Trainable):
        return 0.0
    return sum(_encoding(model, first_rows(recipe, task, rows)) for task, rows in tasks.items())


def first_rows(recipe: Recipe, task: str, rows: int) -> Batch:
    """The first rows of the training split, on the model's device."""
    assert isinstance(recipe.model, Trainable)
    size = recipe.data.source.size(task, "train")
    batch = recipe.data.batch(task, "train", [index % size for index in range(rows)])
    return batch.to(next(recipe.model.parameters()).device)


@torch.no_grad()
def _encoding(model: Trainable, batch: Batch) -> float:
    """FLOPs of the frozen image tokenizers over the batch, counted in a pass over one row."""
    if not isinstance(model, Paradigm):
        return 0.0
    parts: list[Any] = [t for t in model.tokenizers().values() if isinstance(t, ImageTokenizer)]
    sizes = Counter(model.encoded(batch))
    # like an image of the batch: parameters may be shards, which a tokenizer's are not
    images = [column.images for column in batch.segments if column.kind == "image"]
    each = [
        times * counted(partial(part.encode, images[0].new_zeros(1, 3, *size)))
        for part in parts
        for size, times in sizes.items()
    ]
    return sum(each) * len(batch)


def _computed(model: Trainable, batch: Batch) -> float:
    with dense():
        return float(model.flops(batch))


def _useful(model: Trainable, batch: Batch) -> float | None:
    """FLOPs with each row cut to its own texts, and without the images that it lacks.

    None where a text tokenizer's vocabulary is not known yet.
    """
    parts = model.tokenizers().values() if isinstance(model, Paradigm) else ()
    tokenizer = next((part for part in parts if isinstance(part, TextTokenizer)), None)
    columns = [_sizes(column, tokenizer) for column in batch.segments]
    if None in columns:
        return None
    flops = 0.0
    for sizes, rows in Counter(zip(*filter(None, columns), strict=True)).items():
        row = [
            replace(column.rows(slice(0, 1)), length=size)
            for column, size in zip(batch.segments, sizes, strict=True)
            if size
        ]
        flops += rows * model.flops(Batch(batch.task, row, batch.keys[:1]))
    return flops


def _sizes(column: Segment, tokenizer: TextTokenizer | None) -> list[int] | None:
    """Per row, the tokens of a text, or 1 where there is an image; None if not known."""
    if column.kind == "image":
        return column.present.int().tolist()
    if tokenizer is None or (isinstance(tokenizer, Fitted) and not tokenizer.fitted):
        return None
    return tokenizer.encode(column.texts, column.length)[1].sum(1).tolist()


def steps_for(budget: Budget, cost: Cost) -> int:
    """Optimizer steps that spend the budget. ValueError where it does not reach for one."""
    quantity, amount = budget.stated
    each, before = cost.step(quantity, budget), ("needed" in budget.charge) * cost.before
    if not each:
        raise ValueError(
            f"budget.{quantity}: its model counts none; write {quantity}(batch) for it"
        )
    steps = round((amount - before) / each)
    if steps > MOST_WHOLE:
        raise ValueError(f"budget.{quantity}: {amount:.3g} is {steps:.3g} steps; lower it")
    if steps < 1:
        raise ValueError(
            f"budget.{quantity}: {amount:.3g} does not reach for one step of {each:.3g}"
            + (f" after {before:.3g} of what is trained first" if before else "")
        )
    return steps
