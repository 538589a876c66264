"""The `grid` of a study: every arm at every point of it is an arm of its own.

    grid: {model.trunk.depth: [2, 4], optimizer.lr: [1e-3, 3e-3]}      all combinations
    grid: [{model.trunk.depth: 2, optimizer.lr: 3e-3}, {...}]          these points

    grid: {model.trunk.dim: [64, 128], budget.flops: [1e12, 4e12]}     sizes at budgets

Such an arm is named by the values of its point: `transfusion,depth=2,lr=0.001`.
"""

import json
import re
from collections.abc import Sequence
from itertools import product
from typing import Any

from unify.config.yaml_tree import Node, Problem

Point = dict[str, Any]  # dotted key -> value
BUDGET = "budget."  # begins keys of the study's budget for an arm; others are the experiment's


def points(grid: Node | None, problems: list[Problem]) -> list[Point]:
    """The points of a study's `grid`; one empty point if there is none."""
    if grid is None or not grid.value:
        return [{}]
    if isinstance(grid.value, list):
        listed = []
        for index, item in enumerate(grid.value):
            if isinstance(item.value, dict):
                listed.append({key: child.plain() for key, child in item.value.items()})
            else:
                problems.append(item.problem(f"grid.{index}", "expected `key: value` pairs"))
        return listed or [{}]
    if not isinstance(grid.value, dict):
        problems.append(grid.problem("grid", "expected `key: [values]`, or a list of points"))
        return [{}]
    for key, child in grid.value.items():
        if not isinstance(child.value, list) or not child.value:
            problems.append(child.problem(f"grid.{key}", "expected a list of values to try"))
    if problems:
        return [{}]
    values = [[item.plain() for item in child.value] for child in grid.value.values()]
    return [dict(zip(grid.value, point, strict=True)) for point in product(*values)]


def of_budget(point: Point) -> Point:
    """The fields of `Budget` that a point sets."""
    return {k.removeprefix(BUDGET): v for k, v in point.items() if k.startswith(BUDGET)}


def of_experiment(point: Point) -> Point:
    """The keys of the experiment that a point sets."""
    return {key: value for key, value in point.items() if not key.startswith(BUDGET)}


def as_overrides(point: Point) -> list[str]:
    """A point as `key=value` words of the command line."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in point.items()]


def _short(value: Any) -> str:
    """JSON, a float in the fewest digits that read back equal: 4e+12, not 4000000000000.0."""
    if isinstance(value, float):
        return next(text for n in range(1, 18) if float(text := f"{value:.{n}g}") == value)
    return json.dumps(value)


def arm_name(arm: str, point: Point, all_points: Sequence[Point]) -> str:
    """An arm's name with a point's values, each key by its last word unless two keys share it."""
    keys = {key for each in all_points for key in each}
    short = {key: key.rpartition(".")[2] for key in keys}
    twice = {name for name in short.values() if list(short.values()).count(name) > 1}
    parts = [arm]
    for key, value in point.items():
        name = key if short[key] in twice else short[key]
        text = value if isinstance(value, str) else _short(value)
        parts.append(f"{name}={re.sub(r'[^A-Za-z0-9_.+-]+', '_', text)}")
    return ",".join(parts)
