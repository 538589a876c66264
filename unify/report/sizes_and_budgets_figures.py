"""Figures of sizes at budgets: loss against size, and scores against the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from unify.analysis.scaling_laws import fit_polynomial
from unify.report import sizes_and_budgets
from unify.report.plots import log_axis
from unify.report.study_records import StudyRecord
from unify.report.style import ARMS_LIGHT
from unify.report.tables import Line
from unify.report.words import si

POINTS = 60  # of a curve


def scaling_figures(study: StudyRecord, found: Sequence[Line]) -> dict[str, Figure]:
    """By name; empty for a study with one budget."""
    known = sizes_and_budgets.series(study)
    if not any(one.optima for one in known.values()):
        return {}
    made = {"scaling-loss": _losses(known)}
    for line in found:
        if line.metric in study.primary and not line.note and line.is_share:
            made[f"scaling-{line.metric.replace('/', '-')}"] = _scores(known, line)
    return made


def _losses(known: dict[str, sizes_and_budgets.Series]) -> Figure:
    """A panel for each arm: runs, the parabola of each budget, its lowest point."""
    figure = Figure(figsize=(3.4 * len(known), 3.0), layout="constrained")
    for index, (arm, one) in enumerate(known.items()):
        axes = figure.add_subplot(1, len(known), index + 1)
        for shade, (budget, best) in enumerate(one.optima.items()):
            colour = ARMS_LIGHT[shade % len(ARMS_LIGHT)]
            there = [p for p in one.places if p.budget == budget]
            xs = [p.size for p in there for _ in p.losses]
            ys = [y for p in there for y in p.losses]
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
        axes.legend(fontsize=8)
    return _still(figure)


def _scores(known: dict[str, sizes_and_budgets.Series], line: Line) -> Figure:
    """Scores of the sizes nearest to the best, and the lines through their log odds."""
    figure = Figure(figsize=(4.5, 3.1), layout="constrained")
    axes = figure.add_subplot()
    for index, (arm, one) in enumerate(known.items()):
        xs, ys = sizes_and_budgets.scores(one, line)
        if not xs:
            continue
        look: dict[str, Any] = {"color": ARMS_LIGHT[index % len(ARMS_LIGHT)]}
        axes.scatter(np.exp(xs), [_share(y) for y in ys], s=24, label=arm, **look)
        through = fit_polynomial(xs, ys, 1)
        if through is not None:
            at = np.linspace(min(xs), max(xs), POINTS)
            a, b = through.coefficients
            axes.plot(np.exp(at), [_share(a + b * x) for x in at], linewidth=0.9, **look)
    log_axis(axes)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("budget")
    axes.set_title(line.metric.replace("_", " "), loc="left", fontsize=10)
    axes.legend(fontsize=8)
    return _still(figure)


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def _still(figure: Figure) -> Figure:
    """Laid out once: a second drawing would move things again."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure
