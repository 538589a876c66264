"""Interaction of arms and conditions: does the arm decide, the grid point, or their combination?

The shares of the sum of squares and the agreement of orders are those of analysis/eta_squared.py;
their p are corrected together, over all primary outcomes (Holm).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unify.analysis.eta_squared import EtaSquared, eta_squared
from unify.analysis.multiple_tests import holm
from unify.answers.score_lines import Cell, Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural
from unify.runs.study_files import has_value

NAMES = {
    "arm": "between arms",
    "condition": "between conditions",
    "both": "in their combination",
    "seed": "between seeds",
}


@dataclass
class Interaction:
    """One primary outcome of a grid: cells by (base arm, grid point), and a sentence on them."""

    line: Line
    arms: list[str]
    points: list[str]
    cells: dict[tuple[str, str], Cell | None]
    shares: EtaSquared | None = None  # None where a score is missing
    adjusted: dict[str, float | None] = field(default_factory=dict)  # p, by effect

    @property
    def sentence(self) -> str:
        """Shares of the sum of squares; or that a score is missing."""
        if self.shares is None:
            return "Not every arm has a score under every condition, or nothing varies."
        return shares_sentence(self.shares, self.adjusted)


def interactions(study: StudyRecord, lines: Sequence[Line]) -> list[Interaction]:
    """One for each primary outcome; none without a grid of two arms and two points at least."""
    names = {place: arm for arm, place in study.factors.items()}
    arms = list(dict.fromkeys(study.factors[arm][0] for arm in study.own_arms))
    points = list(dict.fromkeys(study.factors[arm][1] for arm in study.own_arms))
    if min(len(arms), len(points)) < 2:
        return []
    made = []
    for line in lines:
        if line.metric in study.primary and not line.note:
            cells = {(a, p): line.cells.get(names.get((a, p), "")) for a in arms for p in points}
            values = _scores(cells, arms, points)
            shares = None if values is None else eta_squared(values)
            made.append(Interaction(line, arms, points, cells, shares))
    if not study.preset:  # its p would be verdicts on what no family names
        _correct(made)
    return made


def _correct(made: Sequence[Interaction]) -> None:
    """Adjust the p of all effects on all outcomes together."""
    tests = [(one, name, p) for one in made if one.shares for name, p in one.shares.p.items()]
    for (one, name, _), p in zip(tests, holm([p for _, _, p in tests]), strict=True):
        one.adjusted[name] = p


def _scores(
    cells: dict[tuple[str, str], Cell | None], arms: list[str], points: list[str]
) -> np.ndarray | None:
    """Scores [A P S] over the seeds that every cell has; None if there are none."""
    scores = {
        place: {seed: row["value"] for seed, row in cell.rows.items() if has_value(row)}
        for place, cell in cells.items()
        if cell is not None
    }
    seeds = sorted(set.intersection(*(set(each) for each in scores.values()))) if scores else []
    if len(scores) < len(cells) or not seeds:
        return None
    return np.array([[[scores[a, p][s] for s in seeds] for p in points] for a in arms])


def shares_sentence(result: EtaSquared, adjusted: dict[str, float | None]) -> str:
    """`Of the sum of squares (eta squared), 62% between arms (p < 0.001), 30% between ...`"""
    parts = []
    for name, words in NAMES.items():
        p = adjusted.get(name)
        note = "" if p is None else f" (p {'< 0.001' if p < 1e-3 else f'= {p:.3f}'})"
        parts.append(f"{result.shares[name]:.0%} {words}{note}")
    text = f"Of the sum of squares (eta squared), {', '.join(parts)}; the rest is chance."
    if result.agreement:
        low, mean = min(result.agreement), sum(result.agreement) / len(result.agreement)
        pairs = plural(len(result.agreement), "pair")
        text += f" Order of the arms: tau {mean:.2f} on average over {pairs} of conditions"
        text += f", {low:.2f} at least."
    return text
