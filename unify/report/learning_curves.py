"""The section Learning curves: small multiples, one per loss term, arms overlaid."""

import math
from collections.abc import Sequence
from typing import Any

from unify.answers import curves
from unify.answers.learned import Learning, learning
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, signed
from unify.report.html import Html, Node, facts, fold, join, swatch, tag
from unify.report.svg_plots import Curve, panel

READING = (
    "Unweighted loss terms on training batches against samples seen, all panels on one horizontal "
    "axis. Bold: running mean over a twentieth of the run, averaged over seeds; faint: as logged. "
    "A term that two arms share by name is the same quantity only if it is defined alike (text: "
    "cross-entropy in nats)."
)
SCORES = (
    "On validation prompts, with the averaged weights and the arm's own sampler, at a few steps; "
    "bold: mean over seeds. Whether an arm has learned yet is a rule of the study, applied before "
    "any test: where not, no verdict is given against it."
)
BINS = "t = 0 is the source (noise), t = 1 the data; one vertical axis."


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """Panels of the loss terms, those by flow time, and optimization and speed folded below."""
    keys = curves.logged_keys(study)
    terms = curves.loss_terms(keys)
    if not terms:
        return tag("p", "No losses were logged.")
    logged = [arm for arm in study.arms if not study.is_published(arm)]
    legend = [tag("li", swatch(study.arms.index(arm)), tag("b", arm)) for arm in logged]
    parts: list[Node] = [
        tag("p", READING, class_="quiet"),
        tag("ul", *legend, class_="key"),
        tag("div", *(_figure(study, term, term[5:]) for term in terms), class_="panels"),
    ]
    parts += _scores(study, lines)
    parts += [_time_bins(study, term[5:], names) for term, names in curves.time_bins(keys).items()]
    rest = {"loss": "weighted sum", "lr": "learning rate", "grad_norm": "gradient norm"}
    panels = [_figure(study, name, title) for name, title in rest.items() if name in keys]
    speed = _figure(study, "samples_per_s", "training speed, samples/s", lambda run: run.health)
    parts.append(fold("Optimization and speed", tag("div", *panels, speed, class_="panels")))
    return join(parts)


def _scores(study: StudyRecord, lines: Sequence[Line]) -> list[Node]:
    """Panels of scores over training, and whether arms had learned when it ended."""
    keys = dict.fromkeys(key for run in study.runs for r in run.curve for key in r if "/" in key)
    rows = [_learned(study, one) for one in learning(study, lines)]
    names = ["", "metric", "half to all of its steps", "replicates", "learned"]
    panels = [_figure(study, key, key, lambda run: run.curve) for key in keys]
    parts: list[Node] = [tag("div", *panels, class_="panels")] if keys else []
    parts += [facts(names, rows)] if rows else []
    head: list[Node] = [tag("h3", "Scores over training"), tag("p", SCORES, class_="quiet")]
    return [*head, *parts] if parts else []


def _learned(study: StudyRecord, one: Learning) -> list[Html | str]:
    gain = "not recorded" if one.gain is None else signed(one.gain)
    spread = f"{number(one.lowest)} – {number(one.highest)}"
    learned = f"not yet: {one.why}" if one.why else "yes"
    arm = join([swatch(study.arms.index(one.arm)), one.arm])
    return [arm, one.metric, gain, spread, learned]


def _time_bins(study: StudyRecord, term: str, names: Sequence[str]) -> Html:
    """One panel per bin of flow time, on one vertical axis."""
    edges = [f"t in [{i / len(names):g}, {(i + 1) / len(names):g})" for i in range(len(names))]
    drawn = [curve for name in names for curve in _curves(study, name, _train)]
    values = [y for curve in drawn for _, y in curve.points if math.isfinite(y)]
    if not values:
        return Html("")
    span = (min(values), max(values))
    figures = [
        _figure(study, name, edge, y_range=span) for name, edge in zip(names, edges, strict=True)
    ]
    return join(
        [
            tag("h3", f"{term} by flow time"),
            tag("p", BINS, class_="quiet"),
            tag("div", *figures, class_="panels small"),
        ]
    )


def _train(run: RunRecord) -> list[dict[str, Any]]:
    return run.train


def _figure(
    study: StudyRecord,
    key: str,
    title: str,
    records: curves.Records = _train,
    y_range: tuple[float, float] | None = None,
) -> Html | None:
    """A panel with its title and last values; None where no arm logged `key`."""
    drawn = [c for c in _curves(study, key, records) if any(math.isfinite(y) for _, y in c.points)]
    if not drawn:
        return None
    last = []
    for curve in drawn:
        value = next(y for _, y in reversed(curve.points) if math.isfinite(y))
        last.append(tag("span", swatch(curve.index), number(value)))
    most = max(
        curves.samples_at(run, record) for run in study.runs for record in run.train + run.health
    )
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", *last, class_="last")),
        panel(drawn, most, y_range),
    )


def _curves(study: StudyRecord, key: str, records: curves.Records) -> list[Curve]:
    """One curve per arm that logged `key`: every seed faint, their mean bold."""
    drawn = []
    for index, arm in enumerate(study.arms):
        raw = curves.seed_curves(study.runs_of(arm), key, records)
        if raw:
            drawn.append(
                Curve(index, curves.mean_curve([curves.smooth(curve) for curve in raw]), raw)
            )
    return drawn
