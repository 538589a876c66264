"""Cosines between gradients of two losses, by block, over training."""

from __future__ import annotations

from collections.abc import Sequence

from unify.report.curves import samples_at
from unify.report.html import Html, join, tag
from unify.report.plots import Curve, Point, mean_curve, panel, smooth
from unify.report.study_records import RunRecord, StudyRecord
from unify.report.tables import swatch
from unify.report.words import number

READING = (
    "Cosine between the gradients of two losses, weighted as trained, against samples seen; mean "
    "over seeds, and a running mean over a twentieth of the run. Below zero, a step for one undoes "
    "the other's; near zero, they use a block side by side. The last figure is the mean over the "
    "run."
)


def section(study: StudyRecord) -> Html | None:
    """A panel for each arm and pair of losses; None where none was measured."""
    measured = {arm: _by_pair(study.runs_of(arm)) for arm in study.arms}
    seen = [y for pairs in measured.values() for each in pairs.values() for _, y in _all(each)]
    if not seen:
        return None
    most = max(abs(y) for y in seen)
    figures = [
        _figure(f"{arm}: {pair.replace('|', ' and ')}", each, most)
        for arm, pairs in measured.items()
        for pair, each in pairs.items()
    ]
    return join([tag("p", READING, class_="quiet"), tag("div", *figures, class_="panels")])


def _by_pair(runs: Sequence[RunRecord]) -> dict[str, dict[str, list[Point]]]:
    """Losses -> block -> curve, over the seeds that have it."""
    names = dict.fromkeys(name for run in runs for r in run.gradients for name in r)
    found: dict[str, dict[str, list[Point]]] = {}
    for name in names:
        if name.startswith("cosine/"):
            _, pair, block = name.split("/", 2)
            lines = [
                [(samples_at(run, r), r[name]) for r in run.gradients if r.get(name) is not None]
                for run in runs
            ]
            if any(lines):
                found.setdefault(pair, {})[block] = mean_curve([line for line in lines if line])
    return found


def _all(curves: dict[str, list[Point]]) -> list[Point]:
    return [point for curve in curves.values() for point in curve]


def _figure(title: str, blocks: dict[str, list[Point]], most: float) -> Html:
    """One curve for each block, all panels on one vertical axis around zero."""
    key = [
        tag("span", swatch(i), f"{block} {number(sum(y for _, y in curve) / len(curve))}")
        for i, (block, curve) in enumerate(blocks.items())
        if curve
    ]
    curves = [Curve(i, smooth(curve)) for i, curve in enumerate(blocks.values())]
    last = max(x for x, _ in _all(blocks))
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", *key, class_="last")),
        panel(curves, last, (-most, most)),
    )
