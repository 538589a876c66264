"""Widths solved to a number of parameters: what an arm would be, were it as large as another.

    widths: {wide: {like: dual_tower}}                            trainable parameters, as that arm
    widths: {wide: {parameters: 2.0e6, key: model.trunk.dim}}     this number

Parameters grow with a width, so it is found by bisection over multiples, on built models that are
never trained. What comes nearest is taken; `unify plan` shows how near that is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from unify.config import build_recipe, load_study
from unify.runs.folder import parameter_counts
from unify.schema.completed import Config
from unify.schema.study import Study, Width

MOST = 1 << 20  # multiples: a width beyond them is a key that changes nothing


def study_and_arms(
    path: str,
    overrides: list[str],
    tiny: bool = False,
    one_arm: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Study, dict[str, Config]]:
    """A study and its completed arms, at the widths that it asks for.

    Overrides of `one_arm` change that arm alone, before widths are solved.
    """
    words = {arm: list(its) for arm, its in (one_arm or {}).items()}
    study, arms = load_study(path, overrides, tiny, words)
    if not study.widths:
        return study, arms
    solved_words = dict(words)
    for arm, width in study.widths.items():
        target = width.parameters or trainable(arms[width.like])

        def count(value: int, arm: str = arm, key: str = width.key) -> int:
            tried = {**words, arm: [*words.get(arm, ()), f"{key}={value}"]}
            return trainable(load_study(path, overrides, tiny, tried)[1][arm])

        try:
            found = f"{width.key}={solved(target, width, count)}"
        except ValueError as error:
            raise ValueError(f"widths.{arm}: {error}") from error
        solved_words[arm] = [*words.get(arm, ()), found]
    return load_study(path, overrides, tiny, solved_words)


def trainable(config: Config) -> int:
    """Parameters that an arm trains; it is built, and nothing is loaded."""
    return parameter_counts(build_recipe(config, lambda part, weights: None).model)["trainable"]


def solved(target: float, width: Width, count: Callable[[int], int]) -> int:
    """The multiple of `width.multiple` at which `count` is nearest to `target`."""
    size = cache(lambda n: count(n * width.multiple))
    high = 1
    while size(high) < target:
        high *= 2
        if high > MOST:
            raise ValueError(f"{width.key} does not change the number of trainable parameters")
    low = high // 2  # size(low) < target <= size(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    nearest = min((n for n in (low, high) if n), key=lambda n: abs(size(n) - target))
    return nearest * width.multiple
