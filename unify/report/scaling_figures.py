"""Figures of sizes at budgets: loss against size, and scores against the budget."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from unify.analysis.scaling_laws import fit_polynomial
from unify.answers.scaling import Series, odds_by_budget, series
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import si
from unify.report.drawing import Drawing, counted, spoken
from unify.report.figure_style import arm_colour, fix_layout, log_axis

POINTS = 60  # of a curve


def scaling_figures(study: StudyRecord, lines: Sequence[Line]) -> dict[str, Drawing]:
    """Figures by name; empty for a study with one budget."""
    by_arm = series(study)
    if not any(one.optima for one in by_arm.values()):
        return {}
    best = "; ".join(
        f"{arm} at {si(budget)}: best size {si(optimum.size)} ({optimum.where})"
        for arm, one in by_arm.items()
        for budget, optimum in one.optima.items()
    )
    losses = Drawing(
        "Loss against size",
        "A dot per run, the parabola in log size of each budget (colours), and a star at its "
        f"lowest point where that lies inside. {study.seeds_in_words} each.",
        best,
        partial(_losses, by_arm),
    )
    figures = {"scaling-loss": losses}
    for line in lines:
        if line.metric in study.primary and not line.note and line.is_share():
            figures[f"scaling-{line.metric.replace('/', '-')}"] = _of_line(study, by_arm, line)
    return figures


def _of_line(study: StudyRecord, by_arm: dict[str, Series], line: Line) -> Drawing:
    odds = {arm: odds_by_budget(one, line) for arm, one in by_arm.items()}
    text = "; ".join(
        f"{arm} "
        + ", ".join(f"{_share(y):.3f} at {si(math.exp(x))}" for x, y in zip(*at, strict=True))
        for arm, at in odds.items()
        if at[0]
    )
    caption = (
        f"{line.metric} of the sizes nearest to the best of each budget, and the lines through "
        f"their log odds. {counted(study, line)}."
    )
    return Drawing(
        f"{spoken(line.metric)} against budget", caption, text, partial(_scores, by_arm, line)
    )


def _losses(by_arm: dict[str, Series]) -> Figure:
    """A panel for each arm: runs, the parabola of each budget, its lowest point."""
    figure = Figure(figsize=(3.4 * len(by_arm), 3.0), layout="constrained")
    for index, (arm, one) in enumerate(by_arm.items()):
        axes = figure.add_subplot(1, len(by_arm), index + 1)
        for shade, (budget, best) in enumerate(one.optima.items()):
            colour = arm_colour(shade)
            xs = [place.size for place in one.at(budget) for _ in place.losses]
            ys = [loss for place in one.at(budget) for loss in place.losses]
            axes.scatter(xs, ys, s=14, color=colour, label=si(budget))
            logs = np.log(xs) - np.log(xs).mean()
            curve = fit_polynomial(logs.tolist(), ys, 2)
            if curve is not None:
                at = np.linspace(logs.min(), logs.max(), POINTS)
                values = np.vander(at, 3, increasing=True) @ curve.coefficients
                axes.plot(np.exp(at + np.log(xs).mean()), values, color=colour, linewidth=0.9)
            if best.where == "inside":
                axes.scatter([best.size], [best.loss], s=60, color=colour, marker="*")
        log_axis(axes)
        axes.set_xlabel("trainable parameters")
        axes.set_title(f"{arm}: loss", loc="left", fontsize=10)
        axes.legend(fontsize=8.5)
    fix_layout(figure)
    return figure


def _scores(by_arm: dict[str, Series], line: Line) -> Figure:
    """Scores of the sizes nearest to the best, and the lines through their log odds."""
    figure = Figure(figsize=(4.5, 3.1), layout="constrained")
    axes = figure.add_subplot()
    for index, (arm, one) in enumerate(by_arm.items()):
        xs, ys = odds_by_budget(one, line)
        if not xs:
            continue
        look: dict[str, Any] = {"color": arm_colour(index)}
        axes.scatter(np.exp(xs), [_share(y) for y in ys], s=24, label=arm, **look)
        through = fit_polynomial(xs, ys, 1)
        if through is not None:
            at = np.linspace(min(xs), max(xs), POINTS)
            a, b = through.coefficients
            axes.plot(np.exp(at), [_share(a + b * x) for x in at], linewidth=0.9, **look)
    log_axis(axes)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("budget")
    axes.set_ylabel(line.metric.replace("_", " "))
    axes.legend(fontsize=8.5)
    fix_layout(figure)
    return figure


def _share(odds: float) -> float:
    """The share whose log odds these are."""
    return 1 / (1 + math.exp(-odds))
