"""How often one arm does better than another: over seeds and prompts, and over seeds alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.analysis.best_of_trials import SIGNS
from unify.analysis.improvement import improvement, probability_of_improvement
from unify.analysis.paired_differences import LEVEL, Difference


@dataclass(frozen=True)
class Improvement:
    """How often the first of two arms does better, ties counted half.

    Args:
        over_prompts: P(A > B) at a prompt, as its `mean`; None without outcomes by prompt.
        over_seeds: share of the pairs of seeds, one of each arm, in which A has the better score.
        pairs: how many such pairs there are.
    """

    over_prompts: Difference | None
    over_seeds: float
    pairs: int

    @classmethod
    def of(
        cls,
        better: str | None,
        scores: tuple[Sequence[float], Sequence[float]],
        outcomes: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None,
    ) -> Improvement | None:
        """From the scores by seed of both arms and, where kept, their outcomes and trials.

        Args:
            better: `higher` or `lower`; None, which is what the result then is, if neither.
            scores: [S] and [S], in the order of seeds.
            outcomes: [S N], [S N] and [N], as of `crossed`.
        """
        if better is None:
            return None
        sign, over_prompts = SIGNS[better], None
        if outcomes is not None:
            one, other, trials = outcomes
            over_prompts = improvement(sign * one, sign * other, trials)
        first, second = (sign * np.array(each) for each in scores)
        won = probability_of_improvement(first, second)
        return cls(over_prompts, won, first.size * second.size)

    def interval(self, tests: int = 1) -> tuple[float, float] | None:
        """Interval of P(A > B) at a prompt; with those of all `tests` it holds in 95%."""
        often = self.over_prompts
        ends = None if often is None else often.interval_at(1 - (1 - LEVEL) / tests)
        return ends and (max(0.0, ends[0]), min(1.0, ends[1]))
