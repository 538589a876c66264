"""The section Gradients: cosines between gradients of two losses, by block, over training."""

from collections.abc import Sequence

from unify.answers.curves import Point, cosine_curves, smooth
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number
from unify.report.html import Html, join, swatch, tag
from unify.report.svg_plots import Curve, panel

READING = (
    "Cosine between the gradients of two losses, weighted as trained, against samples seen; mean "
    "over seeds, and a running mean over a twentieth of the run. Below zero, a step for one undoes "
    "the other's; near zero, they use a block side by side. The last figure is the mean over the "
    "run."
)


def section(study: StudyRecord, lines: Sequence[Line]) -> Html | None:
    """A panel for each arm and pair of losses; None where none was measured."""
    measured = {arm: cosine_curves(study.runs_of(arm)) for arm in study.arms}
    values = [y for pairs in measured.values() for each in pairs.values() for _, y in _all(each)]
    if not values:
        return None
    most = max(abs(y) for y in values)
    figures = [
        _figure(f"{arm}: {pair.replace('|', ' and ')}", each, most)
        for arm, pairs in measured.items()
        for pair, each in pairs.items()
    ]
    return join([tag("p", READING, class_="quiet"), tag("div", *figures, class_="panels")])


def _all(curves: dict[str, list[Point]]) -> list[Point]:
    return [point for curve in curves.values() for point in curve]


def _figure(title: str, blocks: dict[str, list[Point]], most: float) -> Html:
    """One curve for each block, all panels on one vertical axis from -`most` to `most`."""
    legend = [
        tag("span", swatch(i), f"{block} {number(sum(y for _, y in curve) / len(curve))}")
        for i, (block, curve) in enumerate(blocks.items())
        if curve
    ]
    curves = [Curve(i, smooth(curve)) for i, curve in enumerate(blocks.values())]
    last = max(x for x, _ in _all(blocks))
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", *legend, class_="last")),
        panel(curves, last, (-most, most)),
    )
