"""Figures of a study: scores by category, and quality against what it costs. SVG and PDF.

Equal input gives equal bytes: no date, no random id. Nothing in a name is read as mathematics.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from unify.report.budget_and_data import MANY
from unify.report.html import Html, join, tag
from unify.report.plots import log_axis
from unify.report.sizes_and_budgets_figures import scaling_figures
from unify.report.study_records import StudyRecord
from unify.report.style import ARMS_LIGHT
from unify.report.tables import Cell, Line, lines
from unify.support.atomic_files import write_atomically

MARKERS = "osD^vPX*"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "unify",
    "svg.fonttype": "none",
    "pdf.compression": 6,
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3de",
    "legend.frameon": False,
}
SEVERAL = 2  # categories that make a figure


def figures(study: StudyRecord) -> dict[str, Figure]:
    """By name; only those that the study has numbers for."""
    found = lines(study.rows)
    with matplotlib.rc_context(STYLE):
        made = {**scaling_figures(study, found), **_costs(study, found)}
        if len(study.arms) <= MANY:
            made |= _categories(study, found)
    return made


def _categories(study: StudyRecord, found: Sequence[Line]) -> dict[str, Figure]:
    """A measure's categories side by side, arms in colours."""
    groups: dict[str, list[Line]] = {}
    for line in found:
        if line.category and not line.reference and not line.note and _is_share(line):
            groups.setdefault(f"{line.task}/{line.measure}", []).append(line)
    return {
        name.replace("/", "-"): _bars(study, name, group)
        for name, group in groups.items()
        if len(group) >= SEVERAL
    }


def _is_share(line: Line) -> bool:
    values = [cell.value for cell in line.cells.values() if cell.value is not None]
    return bool(values) and all(0 <= value <= 1 for value in values)


def _bars(study: StudyRecord, name: str, group: Sequence[Line]) -> Figure:
    figure = Figure(figsize=(max(4.5, 0.32 * len(group) * (len(study.arms) + 1)), 2.9))
    axes = figure.add_subplot()
    width = 0.8 / len(study.arms)
    for index, arm in enumerate(study.arms):
        cells = [line.cells.get(arm) for line in group]
        places = [i - 0.4 + (index + 0.5) * width for i, cell in enumerate(cells) if _known(cell)]
        kept = [cell for cell in cells if cell is not None and _known(cell)]
        if not kept:
            continue
        heights = [cell.value or 0.0 for cell in kept]
        axes.bar(places, heights, width * 0.92, color=_colour(index), label=arm)
        for place, cell in zip(places, kept, strict=True):
            if cell.span is not None:
                axes.plot([place, place], cell.span, color="#191b1f", linewidth=0.9)
    axes.set_ylim(0, 1.02)
    axes.grid(axis="x", visible=False)
    axes.set_xticks(range(len(group)), [line.category.replace("_", " ") for line in group])
    axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
    _finish(figure, axes)
    return figure


def _known(cell: Cell | None) -> bool:
    return cell is not None and cell.value is not None


def _costs(study: StudyRecord, found: Sequence[Line]) -> dict[str, Figure]:
    """Each primary outcome against FLOPs of training, and against seconds for an image."""
    seconds = {
        (r["arm"], r["seed"]): 1 / r["value"]
        for r in study.rows
        if r["metric"] == "generate/images_per_s" and r["value"]
    }
    flops = {(run.arm, run.seed): run.flops for run in study.runs if run.flops}
    made = {}
    for line in found:
        if line.metric not in study.primary or line.note:
            continue
        for key, label, cost in (
            ("flops", "FLOPs of training", flops),
            ("seconds", "seconds for an image", seconds),
        ):
            figure = _against(study, line, label, cost)
            if figure is not None:
                made[f"{line.metric.replace('/', '-')}-by-{key}"] = figure
    return made


def _against(
    study: StudyRecord, line: Line, label: str, cost: dict[tuple[str, int], float]
) -> Figure | None:
    """A point per seed, a large one per arm, and the front of arms that none beats at its cost."""
    figure = Figure(figsize=(4.5, 3.1))
    axes = figure.add_subplot()
    means: list[tuple[float, float]] = []
    for index, arm in enumerate(study.arms):
        rows = line.cells[arm].rows if arm in line.cells else {}
        points = [
            (cost[arm, seed], row["value"])
            for seed, row in rows.items()
            if (arm, seed) in cost and row["value"] is not None
        ]
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        look: dict[str, Any] = {"color": _colour(index), "marker": MARKERS[index % len(MARKERS)]}
        axes.scatter(xs, ys, s=14, alpha=0.35, linewidths=0, **look)
        means.append((sum(xs) / len(xs), sum(ys) / len(ys)))
        axes.scatter(*means[-1], s=52, label=arm, **look)
    if len(means) < SEVERAL:
        return None
    front = pareto(means)
    axes.step(*zip(*front, strict=True), where="post", color="#5d6169", linewidth=0.8, zorder=0)
    log_axis(axes)
    axes.set_xlabel(label)
    axes.set_title(line.metric.replace("_", " "), loc="left", fontsize=10)
    _finish(figure, axes)
    return figure


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, quality): those that are better than all that cost no more."""
    front: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or quality > front[-1][1]:
            front.append((cost, quality))
    return front


def _colour(index: int) -> str:
    return ARMS_LIGHT[index % len(ARMS_LIGHT)]


def _finish(figure: Figure, axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    figure.set_layout_engine("constrained")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # once: a second drawing would move things again


def drawn(figure: Figure, kind: str) -> bytes:
    """`svg` or `pdf`, without a date."""
    out = io.BytesIO()
    nothing = {"Date": None} if kind == "svg" else {"CreationDate": None, "ModDate": None}
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format=kind, metadata=nothing)
    return out.getvalue()


def write_figures(study: StudyRecord) -> list[Path]:
    """figures/<name>.svg and .pdf in the study's folder, and no others."""
    paths: list[Path] = []
    for name, figure in figures(study).items():
        for kind in ("svg", "pdf"):
            path = study.folder / "figures" / f"{name}.{kind}"
            write_atomically(path, drawn(figure, kind))
            paths.append(path)
    for old in set((study.folder / "figures").glob("*.*")) - set(paths):
        old.unlink()
    return paths


def section(study: StudyRecord) -> Html | None:
    """The figures that were written, as images within the page; None without any."""
    shown = []
    for path in sorted((study.folder / "figures").glob("*.svg")):
        data = base64.b64encode(path.read_bytes()).decode()
        image = tag("img", src=f"data:image/svg+xml;base64,{data}", alt=path.stem.replace("-", " "))
        shown.append(tag("figure", image))
    return tag("div", join(shown), class_="plots") if shown else None
