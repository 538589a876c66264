"""`grid` of a study: every arm with every point of it, each an arm of its own.

    grid: {model.trunk.depth: [2, 4], optimizer.lr: [1e-3, 3e-3]}      all combinations
    grid: [{model.trunk.depth: 2, optimizer.lr: 3e-3}, {...}]          these points

    grid: {model.trunk.dim: [64, 128], budget.flops: [1e12, 4e12]}     sizes at budgets

An arm is named by what differs: `transfusion,depth=2,lr=0.001`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import product
from typing import Any

from unify.config.yaml_tree import Node, Problem
from unify.schema.study import QUANTITIES

Point = dict[str, Any]  # dotted key -> value


def points(grid: Node | None, problems: list[Problem]) -> list[Point]:
    """One empty point where there is no grid."""
    if grid is None or not grid.value:
        return [{}]
    if isinstance(grid.value, list):
        found = []
        for index, item in enumerate(grid.value):
            if isinstance(item.value, dict):
                found.append({key: child.plain() for key, child in item.value.items()})
            else:
                problems.append(item.problem(f"grid.{index}", "expected `key: value` pairs"))
        return found or [{}]
    if not isinstance(grid.value, dict):
        problems.append(grid.problem("grid", "expected `key: [values]`, or a list of points"))
        return [{}]
    for key, child in grid.value.items():
        if not isinstance(child.value, list) or not child.value:
            problems.append(child.problem(f"grid.{key}", "expected a list of values to try"))
    if problems:
        return [{}]
    for key in grid.value:
        if key.startswith(BUDGET) and key.removeprefix(BUDGET) not in QUANTITIES:
            said = f"a budget is of {', '.join(QUANTITIES)}"
            problems.append(grid.value[key].problem(f"grid.{key}", said))
    if problems:
        return [{}]
    values = [[item.plain() for item in child.value] for child in grid.value.values()]
    return [dict(zip(grid.value, point, strict=True)) for point in product(*values)]


BUDGET = "budget."  # of the arm, in the study, and not a key of the experiment


def of_budget(point: Point) -> Point:
    """What the point says of the budget, by the names there."""
    return {k.removeprefix(BUDGET): v for k, v in point.items() if k.startswith(BUDGET)}


def of_arm(point: Point) -> Point:
    """What the point says of the experiment."""
    return {key: value for key, value in point.items() if not key.startswith(BUDGET)}


def words(point: Point) -> list[str]:
    """The point as overrides of the command line."""
    return [f"{key}={json.dumps(value)}" for key, value in point.items()]


def _short(value: Any) -> str:
    """As JSON; a number in the fewest digits that tell it apart: 4e+12, not 4000000000000.0."""
    if isinstance(value, float):
        return next(said for n in range(1, 18) if float(said := f"{value:.{n}g}") == value)
    return json.dumps(value)


def named(arm: str, point: Point, all_points: Sequence[Point]) -> str:
    """Keys by their last word, unless two keys share it."""
    keys = {key for each in all_points for key in each}
    short = {key: key.rpartition(".")[2] for key in keys}
    twice = {name for name in short.values() if list(short.values()).count(name) > 1}
    parts = [arm]
    for key, value in point.items():
        name = key if short[key] in twice else short[key]
        said = value if isinstance(value, str) else _short(value)
        parts.append(f"{name}={re.sub(r'[^A-Za-z0-9_.+-]+', '_', said)}")
    return ",".join(parts)
