"""Learning curves of a study: small multiples, one per loss term, arms overlaid."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from unify.report.html import Html, Node, fold, join, tag
from unify.report.plots import Curve, Point, mean_curve, panel, smooth
from unify.report.study_records import RunRecord, StudyRecord
from unify.report.tables import swatch
from unify.report.words import number

READING = (
    "Unweighted loss terms on training batches against samples seen, all panels on one horizontal "
    "axis. Bold: running mean over a twentieth of the run, averaged over seeds; faint: as logged. "
    "A term that two arms share by name is the same quantity only if it is defined alike (text: "
    "cross-entropy in nats)."
)
TIME_BIN = re.compile(r"(?P<term>loss/.+)/t(?P<bin>\d+)")


def learning_curves(study: StudyRecord) -> Html:
    keys = dict.fromkeys(key for run in study.runs for record in run.train for key in record)
    terms = [k for k in keys if k.startswith("loss/") and not TIME_BIN.fullmatch(k)]
    if not terms:
        return tag("p", "No losses were logged.")
    key = [tag("li", swatch(i), tag("b", arm)) for i, arm in enumerate(study.arms)]
    parts: list[Node] = [
        tag("p", READING, class_="quiet"),
        tag("ul", *key, class_="key"),
        tag("div", *(_figure(study, term, term[5:]) for term in terms), class_="panels"),
    ]
    bins: dict[str, list[str]] = {}
    for name in keys:
        if match := TIME_BIN.fullmatch(name):
            bins.setdefault(match["term"], []).append(name)
    for term, names in bins.items():
        parts.append(_time_bins(study, term[5:], sorted(names)))
    rest = {"loss": "weighted sum", "lr": "learning rate", "grad_norm": "gradient norm"}
    panels = [_figure(study, name, title) for name, title in rest.items() if name in keys]
    speed = _figure(study, "samples_per_s", "training speed, samples/s", lambda run: run.health)
    parts.append(fold("Optimization and speed", tag("div", *panels, speed, class_="panels")))
    return join(parts)


def _time_bins(study: StudyRecord, term: str, names: Sequence[str]) -> Html:
    """One panel per bin of flow time, on one vertical axis."""
    edges = [f"t in [{i / len(names):g}, {(i + 1) / len(names):g})" for i in range(len(names))]
    curves = [_curves(study, name, _train) for name in names]
    seen = [y for each in curves for c in each for _, y in c.points if math.isfinite(y)]
    if not seen:
        return Html("")
    span = (min(seen), max(seen))
    figures = [
        _figure(study, name, edge, y_range=span) for name, edge in zip(names, edges, strict=True)
    ]
    return join(
        [
            tag("h3", f"{term} by flow time"),
            tag(
                "p",
                "t = 0 is the source (noise), t = 1 the data; one vertical axis.",
                class_="quiet",
            ),
            tag("div", *figures, class_="panels small"),
        ]
    )


def _train(run: RunRecord) -> list[dict]:
    return run.train


def _figure(
    study: StudyRecord,
    key: str,
    title: str,
    records: Callable[[RunRecord], list[dict]] = _train,
    y_range: tuple[float, float] | None = None,
) -> Html | None:
    """A panel with its title and last values; None where no arm logged `key`."""
    curves = [c for c in _curves(study, key, records) if any(math.isfinite(y) for _, y in c.points)]
    if not curves:
        return None
    last = []
    for curve in curves:
        value = next(y for _, y in reversed(curve.points) if math.isfinite(y))
        last.append(tag("span", swatch(curve.index), number(value)))
    most = max(samples_at(run, record) for run in study.runs for record in run.train + run.health)
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", *last, class_="last")),
        panel(curves, most, y_range),
    )


def _curves(
    study: StudyRecord, key: str, records: Callable[[RunRecord], list[dict]]
) -> list[Curve]:
    """One curve per arm that logged `key`: every seed faint, their mean bold."""
    curves = []
    for index, arm in enumerate(study.arms):
        raw: list[list[Point]] = []
        for run in study.runs_of(arm):
            line = [(samples_at(run, r), _finite(r[key])) for r in records(run) if key in r]
            if line:
                raw.append(line)
        if raw:
            curves.append(Curve(index, mean_curve([smooth(line) for line in raw]), raw))
    return curves


def samples_at(run: RunRecord, record: dict) -> float:
    """Samples seen; steps where the rows of a step are not known."""
    return float(record["step"] * (run.rows_per_step or 1))


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)
