"""A grid over several arms: does the arm decide, the condition, or their combination?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unify.analysis.variance_shares import VarianceShares, variance_shares
from unify.report.differences import is_known
from unify.report.html import Html, Node, join, tag
from unify.report.study_records import StudyRecord
from unify.report.tables import Cell, Line, facts
from unify.report.words import number, plural

READING = (
    "Means over seeds; rows are conditions, columns arms. Shares are of the sum of squares over "
    "all runs; p by F against what seeds leave unexplained. Kendall's tau compares the order of "
    "the arms under every two conditions: 1 where no two arms change places."
)
NAMES = {
    "arm": "between arms",
    "condition": "between conditions",
    "both": "in their combination",
    "seed": "between seeds",
}


def section(study: StudyRecord, found: Sequence[Line]) -> Html | None:
    """For each primary outcome; None without a grid over two arms at least."""
    arms = dict.fromkeys(study.factors[arm][0] for arm in study.arms)
    points = dict.fromkeys(study.factors[arm][1] for arm in study.arms)
    if min(len(arms), len(points)) < 2:
        return None
    parts: list[Node] = [tag("p", READING, class_="quiet")]
    for line in found:
        if line.metric in study.primary and not line.note:
            parts += _outcome(study, line, list(arms), list(points))
    return join(parts) if len(parts) > 1 else None


def _outcome(study: StudyRecord, line: Line, arms: list[str], points: list[str]) -> list[Node]:
    names = {place: arm for arm, place in study.factors.items()}
    cells = {(a, p): line.cells.get(names.get((a, p), "")) for a in arms for p in points}
    rows: list[list[Node]] = [
        [p or "as it is", *(number(c.value) if (c := cells[a, p]) else "n/a" for a in arms)]
        for p in points
    ]
    values = _complete(cells, arms, points)
    found = None if values is None else variance_shares(values)
    words = "Not every arm has a score under every condition." if found is None else sentence(found)
    return [tag("h3", line.metric), facts(["", *arms], rows), tag("p", words)]


def _complete(
    cells: dict[tuple[str, str], Cell | None], arms: list[str], points: list[str]
) -> np.ndarray | None:
    """Scores [A P S] over the seeds that every cell has; None if there are none."""
    scores = {
        place: {seed: row["value"] for seed, row in cell.rows.items() if is_known(row)}
        for place, cell in cells.items()
        if cell is not None
    }
    seeds = sorted(set.intersection(*(set(each) for each in scores.values())))
    if len(scores) < len(cells) or not seeds:
        return None
    return np.array([[[scores[a, p][s] for s in seeds] for p in points] for a in arms])


def sentence(found: VarianceShares) -> str:
    """Of the variance, 62% lies between arms (p < 0.001), 30% between conditions ..."""
    said = []
    for name, words in NAMES.items():
        p = found.p.get(name)
        note = "" if p is None else f" (p {'< 0.001' if p < 1e-3 else f'= {p:.3f}'})"
        said.append(f"{found.shares[name]:.0%} {words}{note}")
    text = f"Of the variance, {', '.join(said)}; the rest is chance."
    if found.agreement:
        low, mean = min(found.agreement), sum(found.agreement) / len(found.agreement)
        pairs = plural(len(found.agreement), "pair")
        text += f" Order of the arms: tau {mean:.2f} on average over {pairs} of conditions"
        text += f", {low:.2f} at least."
    return text
