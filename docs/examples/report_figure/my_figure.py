"""A figure of one metric: every seed of every arm as a dot, their mean as a line."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from unify.answers.score_lines import score_lines
from unify.answers.study_records import StudyRecord
from unify.schema.figure import ReportFigure


@dataclass
class SeedStrip(ReportFigure):
    """`metric` on the vertical axis, arms across."""

    metric: str
    name: str = "seed-strip"  # figures/seed-strip.svg and .pdf
    caption: str = "Every seed as a dot, the mean over seeds as a line."

    def draw(self, study: StudyRecord) -> Figure | None:
        # A line has one cell for each arm, a cell one score for each seed.
        lines = [line for line in score_lines(study.rows) if line.metric == self.metric]
        if not lines:
            return None  # no numbers, no figure
        figure = Figure(figsize=(4.5, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for place, arm in enumerate(study.arms):
            cell = lines[0].cells.get(arm)
            if cell is None or cell.value is None:
                continue
            axes.scatter([place] * len(cell.values), cell.values, s=18)
            axes.plot([place - 0.2, place + 0.2], [cell.value] * 2, color="black", linewidth=1)
        axes.set_xticks(range(len(study.arms)), study.arms)
        axes.set_ylabel(self.metric)
        return figure
