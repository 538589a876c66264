"""What a run costs, known before it runs; and the steps that a budget buys.

    steps = round((budget - charged) / cost of a step)

A step's cost is a constant of the configuration: texts are padded or cut to a length per task, so
nothing about it is left to chance and a run ends on its budget without a second rule. FLOPs are
counted by each paradigm's own formulas (frozen parts forward only, attention over the pairs of its
mask), those of the frozen tokenizers that encode its batches beside them, never within.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from unify.batch import Batch
from unify.config import build_recipe
from unify.nn.flops import counted
from unify.paradigm import Paradigm, Trainable
from unify.recipe import Budget, Recipe
from unify.runs import parameter_counts
from unify.tokenizer import ImageTokenizer

Config = dict[str, Any]


@dataclass
class TaskCost:
    """Of one task in one optimizer step."""

    rows: int
    tokens: int
    training: float  # FLOPs of what is trained, and of what it is trained through
    encoding: float  # FLOPs of frozen tokenizers


@dataclass
class Cost:
    """Of a run: what a step takes of each task, and what had to be trained before."""

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
    def before(self) -> float:
        """FLOPs of all that had to be trained first, theirs included."""
        return sum(run.steps * (run.training + run.encoding) for run in self.needed.values())

    def total(self, quantity: str, charge: tuple[str, ...] = ()) -> float:
        """Of the whole run; FLOPs with what else is charged."""
        before = self.before if quantity == "flops" and "needed" in charge else 0.0
        return self.steps * self.step(quantity, charge) + before

    def step(self, quantity: str, charge: tuple[str, ...] = ()) -> float:
        each = {
            "steps": 1.0,
            "samples": float(self.rows),
            "tokens": float(self.tokens),
            "flops": self.training + ("encoding" in charge) * self.encoding,
        }
        return each[quantity]


def cost_of(config: Config, needed: Mapping[str, Cost] | None = None) -> Cost:
    """Of a completed configuration; its parts are built, and nothing is trained or loaded."""
    recipe = build_recipe(config, lambda part, weights: None)
    return Cost(recipe.steps, tasks_of(recipe), parameter_counts(recipe.model), dict(needed or {}))


def tasks_of(recipe: Recipe) -> dict[str, TaskCost]:
    """Of one optimizer step."""
    model, tasks = recipe.model, {}
    if isinstance(model, Trainable):
        for task, rows in recipe.data.tasks.items():
            batch = first_rows(recipe, task, rows)
            flops = float(model.flops(batch))
            tasks[task] = TaskCost(rows, model.tokens(batch), flops, _encoding(model, batch))
    return tasks


def first_rows(recipe: Recipe, task: str, rows: int) -> Batch:
    """Of the training split, on the model's device."""
    assert isinstance(recipe.model, Trainable)
    there = recipe.data.source.size(task, "train")
    batch = recipe.data.batch(task, "train", [index % there for index in range(rows)])
    return batch.to(next(recipe.model.parameters()).device)


@torch.no_grad()
def _encoding(model: Trainable, batch: Batch) -> float:
    """FLOPs of the frozen image tokenizers over the batch, counted in a pass over one row."""
    if not isinstance(model, Paradigm):
        return 0.0
    parts: list[Any] = [t for t in model.tokenizers().values() if isinstance(t, ImageTokenizer)]
    columns = [column for column in batch.segments if column.kind == "image"]
    each = [
        counted(partial(part.encode, column.images[:1])) for part in parts for column in columns
    ]
    return sum(each) * len(batch)


def steps_for(budget: Budget, cost: Cost) -> int:
    """Optimizer steps that spend the budget. ValueError where it does not reach for one."""
    (quantity, amount), charge = budget.stated, tuple(budget.charge)
    left = amount - ("needed" in charge) * cost.before
    steps = round(left / cost.step(quantity, charge)) if cost.step(quantity, charge) else 0
    if steps < 1:
        raise ValueError(
            f"budget.{quantity}: {amount:.3g} does not reach for one step of "
            f"{cost.step(quantity, charge):.3g}"
            + (f" after {cost.before:.3g} of what is trained first" if "needed" in charge else "")
        )
    return steps
