"""The order of the arms on an outcome, with braces around those that cannot be told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from unify.analysis.paired_differences import HIGHER, LOWER
from unify.answers.comparison import Comparison
from unify.answers.score_lines import Line
from unify.answers.words import plural

MOST_GROUPS = 8  # arms of one line; more are counted


@dataclass(frozen=True)
class Ranking:
    """Arms by their mean, the best first, and the pairs of them that were told apart.

    Args:
        arms: those that stand on the outcome's line.
        apart: (better, worse) of every pair with a verdict, where the scores state a direction.
        tried: how many pairs have one verdict or the other.
        whole: whether every two of the arms are compared for a verdict; not with a baseline, of
            published arms, or in a confirmatory study that names some of the pairs.
    """

    metric: str
    arms: tuple[str, ...]
    apart: frozenset[tuple[str, str]]
    tried: int
    whole: bool = True

    @property
    def groups(self) -> list[list[str]] | None:
        """Groups within which no pair, and between which every pair is told apart, in order.

        None where the verdicts do not fall into groups: to be not told apart is no equality, so A
        and B may not be, B and C may not be, and A and C may. None, too, where a pair was not
        compared: a group would say that it was, and not told apart.
        """
        if not self.whole:
            return None
        groups: list[list[str]] = [[arm] for arm in self.arms[:1]]
        for before, arm in pairwise(self.arms):
            if (before, arm) in self.apart:
                groups.append([arm])
            else:
                groups[-1].append(arm)
        within = any(
            pair in self.apart or pair[::-1] in self.apart
            for group in groups
            for pair in combinations(group, 2)
        )
        between = all(
            (a, b) in self.apart
            for one, other in combinations(groups, 2)
            for a in one
            for b in other
        )
        return groups if between and not within else None

    @property
    def text(self) -> str:
        """`ar_vq > {dual_tower, transfusion} > crossflow`; or how many pairs were told apart."""
        if not self.tried:
            return "no verdict"
        if not self.apart and not self.whole:
            return f"none of {plural(self.tried, 'pair')} told apart"
        if not self.apart:
            few = " and ".join(self.arms) if len(self.arms) == 2 else ""
            return f"{few or plural(len(self.arms), 'arm')} not told apart"
        groups = self.groups
        if groups is not None and len(self.arms) <= MOST_GROUPS:
            return " > ".join(g[0] if len(g) == 1 else f"{{{', '.join(g)}}}" for g in groups)
        worse = {arm: [b for a, b in self._ordered if a == arm] for arm in self.arms}
        if len(self.apart) <= MOST_GROUPS:
            clear = [f"{arm} > {', '.join(under)}" for arm, under in worse.items() if under]
            return f"{'; '.join(clear)}; otherwise no verdict"
        return f"{self.arms[0]} first; {len(self.apart)} of {self.tried} pairs told apart"

    @property
    def _ordered(self) -> list[tuple[str, str]]:
        return sorted(self.apart, key=lambda pair: tuple(map(self.arms.index, pair)))


def ranking(line: Line, compared: Sequence[Comparison]) -> Ranking | None:
    """The ranking by the comparisons of one line; None where its scores state no direction."""
    if line.better is None:
        return None
    arms = {arm for one in compared for arm in (one.first, one.second) if arm in line.cells}
    values = {arm: value for arm in arms if (value := line.cells[arm].value) is not None}
    best_first = sorted(values, key=lambda arm: (values[arm], arm), reverse=line.better == "higher")
    apart = set()
    for one in compared:
        if one.verdict in (HIGHER, LOWER):
            first_wins = one.verdict == line.better
            apart.add((one.first, one.second) if first_wins else (one.second, one.first))
    tried = sum(bool(one.verdict) for one in compared)
    pairs = {frozenset((one.first, one.second)) for one in compared if not one.unjudged}
    whole = len(pairs) >= len(arms) * (len(arms) - 1) // 2
    return Ranking(line.metric, tuple(best_first), frozenset(apart), tried, whole)
