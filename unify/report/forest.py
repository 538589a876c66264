"""The figure of the answer: every primary difference with its interval, and each seed as a dot."""

from collections.abc import Sequence

from unify.analysis.paired_differences import SAME
from unify.answers.answer_block import MOST_OUTCOMES
from unify.answers.comparison import Comparison, interval_text
from unify.answers.judged import EXPLORATORY
from unify.answers.study_answers import Answers
from unify.report.html import Html, fold, join, swatch, tag
from unify.report.svg_plots import difference_plot

MOST_ROWS = 12  # pairs of one outcome; the others are folded
READING = (
    "First arm minus second. Line: simultaneous 95% interval, corrected for all pairs. Small dots: "
    "one seed each, where seeds are paired. Zero is the upright line."
)


def forest(answers: Answers) -> Html | None:
    """A table for each primary outcome that has differences over seeds; None without any."""
    study = answers.study
    tables = [
        table
        for metric in study.primary[:MOST_OUTCOMES]
        if (table := _table(answers, metric)) is not None
    ]
    if not tables:
        return None
    return tag("div", *tables, tag("p", READING, class_="quiet"), class_="forests")


def _table(answers: Answers, metric: str) -> Html | None:
    some = [
        one
        for one in answers.primary
        if one.metric == metric and one.difference is not None and one.simultaneous is not None
    ]
    if not some:
        return None
    ends = [x for one in some for x in (*_ends(one), *_dots(one))]
    most = max(map(abs, ends)) or 1.0
    direction = " (lower is better)" if some[0].line and some[0].line.better == "lower" else ""
    rows = [_row(answers, one, most) for one in some]
    head = tag("h3", metric, tag("span", direction, class_="quiet"))
    rest = fold(f"{len(rows) - MOST_ROWS} other pairs", _rows(rows[MOST_ROWS:]))
    return tag(
        "section",
        join([head, _rows(rows[:MOST_ROWS]), rest if len(rows) > MOST_ROWS else None]),
        class_="forest-of",
    )


def _rows(rows: Sequence[Html]) -> Html:
    return tag("table", tag("tbody", *rows), class_="pairs")


def _row(answers: Answers, one: Comparison, most: float) -> Html:
    """A pair of arms, its plot on the axis [-most, most], and the numbers."""
    arms = answers.study.arms
    names = [
        tag("span", swatch(arms.index(one.first)), one.first, " − "),
        tag("span", swatch(arms.index(one.second)), one.second),
    ]
    told = bool(one.verdict) and one.verdict != SAME
    assert one.difference is not None
    plot = difference_plot(one.difference.mean, _ends(one), _dots(one), most, told, one.mean_text)
    words = "told apart" if told else "" if answers.study.preset == EXPLORATORY else one.words
    numbers = tag("span", f"{one.mean_text} {interval_text(_ends(one))}", class_="estimate")
    cells = [tag("th", *names, scope="row"), tag("td", plot, class_="plot-of")]
    cells.append(tag("td", numbers, tag("span", words, class_="said" if not told else "quiet")))
    return tag("tr", *cells)


def _ends(one: Comparison) -> tuple[float, float]:
    assert one.simultaneous is not None
    return one.simultaneous


def _dots(one: Comparison) -> list[float]:
    assert one.difference is not None
    return [float(value) for value in one.difference.by_seed]
