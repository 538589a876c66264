"""The section Figures, and its files: scores by category, and quality against what it costs.

Written to figures/ as SVG and PDF. Equal input gives equal bytes: no date, no random id. Nothing in
a name is read as mathematics.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unify.answers.costs import Cost, cost_points, costs, pareto
from unify.answers.score_lines import MANY, Cell, Line, score_lines
from unify.answers.study_records import StudyRecord
from unify.report.figure_style import (
    STYLE,
    arm_colour,
    arm_look,
    file_bytes,
    fix_layout,
    is_our_figure,
    legend_outside,
    log_axis,
)
from unify.report.html import Html, join, tag
from unify.report.own_figures import KINDS, own_figures
from unify.report.scaling_figures import scaling_figures
from unify.runs.study_files import Row, has_value
from unify.support.atomic_files import write_atomically

SEVERAL = 2  # categories, or arms, that make a figure
WIDE = 10.0  # inches of a figure's bars: wider ones would be shrunk until nothing can be read
DRAWING = ("text_to_image/exact", "text_to_image/exact/two_objects")  # where none is primary
ANSWERING = "vqa/accuracy"


def section(study: StudyRecord, lines: Sequence[Line]) -> Html | None:
    """The figures that were written, as images within the page; None without any.

    The study's own come last, each with its caption, or a note where it could not be drawn.
    """
    own = own_figures(study)
    drawn = {figure.name: figure.caption for figure in own if figure.files}
    paths = [p for p in sorted((study.folder / "figures").glob("*.svg")) if is_our_figure(p)]
    shown = [_image(path) for path in paths if path.stem not in drawn]
    for name, caption in drawn.items():
        path = study.folder / "figures" / f"{name}.svg"
        shown += [_image(path, caption)] if path.is_file() else []
    shown += [tag("p", figure.note, class_="note") for figure in own if figure.note]
    return tag("div", join(shown), class_="plots") if shown else None


def _image(path: Path, caption: str = "") -> Html:
    data = base64.b64encode(path.read_bytes()).decode()
    image = tag("img", src=f"data:image/svg+xml;base64,{data}", alt=path.stem.replace("-", " "))
    return tag("figure", image, tag("figcaption", caption) if caption else None)


def write_figures(study: StudyRecord) -> list[Path]:
    """Write figures/<name>.svg and .pdf in the study's folder; of others there, remove our own."""
    files = {
        f"{name}.{kind}": file_bytes(figure, kind)
        for name, figure in figures(study).items()
        for kind in KINDS
    }
    for own in own_figures(study):
        files |= {f"{own.name}.{kind}": content for kind, content in own.files.items()}
    paths = [study.folder / "figures" / name for name in files]
    for path in paths:
        if path.exists() and not is_our_figure(path, older=True):
            raise ValueError(f"{path} is not of unify's making, and is in the way; move it away")
    for path, content in zip(paths, files.values(), strict=True):
        write_atomically(path, content)
    for old in set((study.folder / "figures").glob("*.*")) - set(paths):
        if is_our_figure(old):
            old.unlink()
    return paths


def figures(study: StudyRecord) -> dict[str, Figure]:
    """The report's figures by name; only those that the study has numbers for."""
    lines = score_lines(study.rows, study.whole)
    with matplotlib.rc_context(STYLE):
        made = {**scaling_figures(study, lines), **_costs(study, lines)}
        made |= _understanding(study, lines)
        if len(study.arms) <= MANY:
            made |= _categories(study, lines)
    return made


def _categories(study: StudyRecord, lines: Sequence[Line]) -> dict[str, Figure]:
    """A measure's categories side by side, arms in colours."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        if line.category and not line.reference and not line.note and _is_proportion(line):
            groups.setdefault(f"{line.task}/{line.measure}", []).append(line)
    return {
        name.replace("/", "-"): _bars(study, name, group)
        for name, group in groups.items()
        if len(group) >= SEVERAL
    }


def _is_proportion(line: Line) -> bool:
    """True if all means are from 0 to 1."""
    values = [cell.value for cell in line.cells.values() if cell.value is not None]
    return bool(values) and all(0 <= value <= 1 for value in values)


def _bars(study: StudyRecord, name: str, group: Sequence[Line]) -> Figure:
    """Bars of means in rows of as many categories as stay legible, with the spread over seeds."""
    arms = compared_arms(study)
    across = max(SEVERAL, int(WIDE / (0.32 * (len(arms) + 1))))
    rows = [group[i : i + across] for i in range(0, len(group), across)]
    most = max(map(len, rows))
    figure = Figure(figsize=(max(4.5, 0.32 * most * (len(arms) + 1)), 2.3 * len(rows) + 0.6))
    for place, row in enumerate(rows):
        axes = figure.add_subplot(len(rows), 1, place + 1)
        for index, arm in enumerate(arms):
            _bars_of(axes, row, index, arm, len(arms))
        axes.set(ylim=(0, 1.02), xlim=(-0.6, most - 0.4), ylabel=group[0].measure)
        axes.grid(axis="x", visible=False)
        axes.set_xticks(range(len(row)), [line.category.replace("_", " ") for line in row])
        if place == 0:
            axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    figure.supxlabel(_spread(study), fontsize=8)
    figure.set_layout_engine("constrained")
    fix_layout(figure)
    return figure


def _bars_of(axes: Axes, row: Sequence[Line], index: int, arm: str, arms: int) -> None:
    """The bars of one arm, and of each the line from its lowest to its highest."""
    width = 0.8 / arms
    cells = [line.cells.get(arm) for line in row]
    places = [i - 0.4 + (index + 0.5) * width for i, c in enumerate(cells) if _has_value(c)]
    kept = [cell for cell in cells if cell is not None and _has_value(cell)]
    heights = [cell.value or 0.0 for cell in kept]
    axes.bar(places, heights, width * 0.92, color=arm_colour(index), label=arm)
    for place, cell in zip(places, kept, strict=True):
        if cell.span is not None:
            axes.plot([place, place], cell.span, color="#191b1f", linewidth=0.9)


def _spread(study: StudyRecord) -> str:
    """What the lines over bars are."""
    several = study.seeds_done[1] > 1
    return "lines: lowest and highest seed" if several else "lines: 95% interval over prompts"


def _has_value(cell: Cell | None) -> bool:
    return cell is not None and cell.value is not None


def _costs(study: StudyRecord, lines: Sequence[Line]) -> dict[str, Figure]:
    """Each primary outcome against FLOPs of training, and against the time that one takes."""
    made = {}
    for line in lines:
        if line.metric not in study.primary or line.note:
            continue
        for key, (label, cost) in costs(study, line.task).items():
            figure = _against(study, line, label, cost)
            if figure is not None:
                made[f"{line.metric.replace('/', '-')}-by-{key}"] = figure
    return made


def _against(study: StudyRecord, line: Line, label: str, cost: Cost) -> Figure | None:
    """A point per seed, a large one per arm, and the front of arms that none beats at its cost."""
    figure = Figure(figsize=(4.5, 3.1))
    axes = figure.add_subplot()
    means: list[tuple[float, float]] = []
    for index, arm in enumerate(compared_arms(study)):
        points = cost_points(line, arm, cost)
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, s=14, alpha=0.35, linewidths=0, **arm_look(index))
        means.append((sum(xs) / len(xs), sum(ys) / len(ys)))
        axes.scatter(*means[-1], s=52, label=arm, **arm_look(index))
    if len(means) < SEVERAL:
        return None
    if line.better is not None:
        front = pareto(means, line.better)
        axes.step(*zip(*front, strict=True), where="post", color="#5d6169", linewidth=0.8, zorder=0)
    log_axis(axes)
    axes.set_xlabel(label)
    axes.set_ylabel(line.measure)
    axes.set_title(f"{line.metric.replace('_', ' ')} against {label}", loc="left", fontsize=10)
    legend_outside(figure, axes)
    return figure


def _understanding(study: StudyRecord, lines: Sequence[Line]) -> dict[str, Figure]:
    """Drawing against answering: a point per seed, and a large one per arm."""
    found = {line.metric: line for line in lines if not line.note}
    drawn = next((found[m] for m in [*study.primary, *DRAWING] if m in found and _draws(m)), None)
    answered = found.get(ANSWERING)
    if drawn is None or answered is None:
        return {}
    figure = Figure(figsize=(4.5, 3.1))
    axes = figure.add_subplot()
    shown = 0
    for index, arm in enumerate(compared_arms(study)):
        seeds = {(arm, s): r["value"] for s, r in _rows(answered, arm).items() if has_value(r)}
        points = cost_points(drawn, arm, seeds)
        if points:
            xs, ys = zip(*points, strict=True)
            axes.scatter(xs, ys, s=14, alpha=0.35, linewidths=0, **arm_look(index))
            mean = sum(xs) / len(xs), sum(ys) / len(ys)
            axes.scatter(*mean, s=52, label=arm, **arm_look(index))
            shown += 1
    axes.set_xlabel(ANSWERING.replace("_", " "))
    axes.set_ylabel(drawn.metric.replace("_", " "))
    axes.set_title("generation against understanding", loc="left", fontsize=10)
    legend_outside(figure, axes)
    return {"generation-against-understanding": figure} if shown >= SEVERAL else {}


def _draws(metric: str) -> bool:
    return metric.startswith("text_to_image/")


def _rows(line: Line, arm: str) -> dict[int, Row]:
    return line.cells[arm].rows if arm in line.cells else {}


def compared_arms(study: StudyRecord) -> list[str]:
    """The arms without those of controls; they come first in the study's order."""
    return [arm for arm in study.arms if arm not in study.control_arms]
