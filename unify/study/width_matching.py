"""Widths solved to a number of parameters, so that an arm is as large as another or as said.

    widths: {wide: {like: dual_tower}}                            trainable parameters, as that arm
    widths: {wide: {parameters: 2.0e6, key: model.trunk.dim}}     this number

Parameters grow with a width, so bisection over its multiples finds it, on built models that are
never trained. The nearest multiple is taken; `unify plan` shows how near its count is.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from unify.config import build_recipe, load_study
from unify.runs.folder import parameter_counts
from unify.schema.completed import Config
from unify.schema.study import Study, Width
from unify.study.jobs import StudyRequest

LARGEST_MULTIPLE = 1 << 20  # a width beyond it comes from a key that changes no count


def study_and_arms(
    request: StudyRequest, one_arm: Mapping[str, Sequence[str]] | None = None
) -> tuple[Study, dict[str, Config]]:
    """A study and its completed arms, at the widths that it asks for.

    `one_arm` holds overrides of single arms, by arm; they are applied before widths are solved.
    ValueError names an arm whose width has no solution.
    """

    def load(overrides: Mapping[str, Sequence[str]]) -> tuple[Study, dict[str, Config]]:
        return load_study(request.path, request.overrides, request.tiny, overrides)

    given = {arm: list(own) for arm, own in (one_arm or {}).items()}
    study, arms = load(given)
    if not study.widths:
        return study, arms
    solved_overrides = dict(given)
    for arm, width in study.widths.items():
        target = width.parameters or trainable(arms[width.like])

        def count(value: int, arm: str = arm, key: str = width.key) -> int:
            return trainable(load({**given, arm: [*given.get(arm, ()), f"{key}={value}"]})[1][arm])

        try:
            override = f"{width.key}={solve_width(target, width, count)}"
        except ValueError as error:
            raise ValueError(f"widths.{arm}: {error}") from error
        solved_overrides[arm] = [*given.get(arm, ()), override]
    return load(solved_overrides)


def trainable(config: Config) -> int:
    """The number of trainable parameters of an arm, which is built without any weights."""
    return parameter_counts(build_recipe(config, lambda part, weights: None).model)["trainable"]


def solve_width(target: float, width: Width, count: Callable[[int], int]) -> int:
    """The multiple of `width.multiple` whose number of parameters is nearest to `target`.

    `count` gives that number for a width, and must grow with it; ValueError if it does not.
    """
    size = cache(lambda n: count(n * width.multiple))
    high = 1
    while size(high) < target:
        high *= 2
        if high > LARGEST_MULTIPLE:
            raise ValueError(f"{width.key} does not change the number of trainable parameters")
    low = high // 2  # size(low) < target <= size(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    nearest = min((n for n in (low, high) if n), key=lambda n: abs(size(n) - target))
    return nearest * width.multiple
