"""The section Figures, and its files: quality against cost, failures, scores by category.

Written to figures/ as SVG and PDF. Equal input gives equal bytes: no date, no random id. Nothing in
a name is read as mathematics.
"""

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unify.answers.failures import MEASURE
from unify.answers.score_lines import MANY, Cell, Line
from unify.answers.study_answers import Answers
from unify.answers.study_records import StudyRecord
from unify.report.drawing import SMALL, Drawing, counted, spoken
from unify.report.failure_bars import failure_bars
from unify.report.figure_style import STYLE, arm_colour, file_bytes, fix_layout, is_our_figure
from unify.report.html import Html, join, tag
from unify.report.own_figures import KINDS, own_figures
from unify.report.scaling_figures import scaling_figures
from unify.report.trade_offs import trade_offs
from unify.support.atomic_files import write_atomically

SEVERAL = 2  # categories, or arms, that make a figure
WIDE = 10.0  # inches of a figure's bars: wider ones would be shrunk until nothing can be read


def section(answers: Answers) -> Html | None:
    """The figures that were written, as images within the page; None without any.

    The study's own come last, each with its caption, or a note where it could not be drawn.
    """
    study, made = answers.study, drawings(answers)
    own = own_figures(study)
    drawn = {figure.name: figure.caption for figure in own if figure.files}
    paths = [p for p in sorted((study.folder / "figures").glob("*.svg")) if is_our_figure(p)]
    order = {name: place for place, name in enumerate(made)}
    paths.sort(key=lambda path: order.get(path.stem, len(order)))
    shown = [_image(path, made.get(path.stem)) for path in paths if path.stem not in drawn]
    for name, caption in drawn.items():
        path = study.folder / "figures" / f"{name}.svg"
        shown += [_image(path, None, caption)] if path.is_file() else []
    shown += [tag("p", figure.note, class_="note") for figure in own if figure.note]
    return tag("div", join(shown), class_="plots") if shown else None


def _image(path: Path, drawing: Drawing | None, caption: str = "") -> Html:
    data = base64.b64encode(path.read_bytes()).decode()
    source, name = f"data:image/svg+xml;base64,{data}", path.stem.replace("-", " ")
    if drawing is None:
        image = tag("img", src=source, alt=name)
        return tag("figure", image, tag("figcaption", caption) if caption else None)
    image = tag("img", src=source, alt=f"{drawing.title}. {drawing.text}.")
    words = tag("figcaption", tag("b", f"{drawing.title}. "), drawing.caption)
    return tag("figure", tag("div", image, class_="wide"), words)


def write_figures(answers: Answers) -> list[Path]:
    """Write figures/<name>.svg and .pdf in the study's folder; of others there, remove our own."""
    study = answers.study
    files = {
        f"{name}.{kind}": file_bytes(figure, kind)
        for name, figure in figures(answers).items()
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


def figures(answers: Answers) -> dict[str, Figure]:
    """The report's figures by name, drawn."""
    with matplotlib.rc_context(STYLE):
        return {name: one.draw() for name, one in drawings(answers).items()}


def drawings(answers: Answers) -> dict[str, Drawing]:
    """The report's figures by name; only those that the study has numbers for."""
    study, lines = answers.study, answers.lines
    made = {**trade_offs(answers), **failure_bars(answers), **scaling_figures(study, lines)}
    return made | (_categories(study, lines) if len(study.arms) <= MANY else {})


def _categories(study: StudyRecord, lines: Sequence[Line]) -> dict[str, Drawing]:
    """A measure's categories side by side, arms in colours."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        kinds = line.measure == MEASURE  # parts of what is wrong: failure_bars.py draws them
        if line.category and not (line.reference or line.note or kinds) and _is_proportion(line):
            groups.setdefault(f"{line.task}/{line.measure}", []).append(line)
    return {
        name.replace("/", "-"): _of_group(study, name, group)
        for name, group in groups.items()
        if len(group) >= SEVERAL
    }


def _of_group(study: StudyRecord, name: str, group: Sequence[Line]) -> Drawing:
    trials = ", ".join(f"{spoken(line.category)} {line.trials}" for line in group if line.trials)
    counts = f"n {trials}; {study.seeds_in_words} an arm"
    caption = f"Mean of each category. {_spread(study)}. {counts if trials else counted(study)}."
    text = "; ".join(
        f"{line.category}: "
        + ", ".join(
            f"{arm} {line.cells[arm].value:.3f}"
            for arm in study.compared_arms
            if _has_value(line.cells.get(arm))
        )
        for line in group
    )
    title = f"{spoken(name)} by category"
    return Drawing(title, caption, text, partial(_bars, study, group))


def _is_proportion(line: Line) -> bool:
    """True if all means are from 0 to 1."""
    values = [cell.value for cell in line.cells.values() if cell.value is not None]
    return bool(values) and all(0 <= value <= 1 for value in values)


def _bars(study: StudyRecord, group: Sequence[Line]) -> Figure:
    """Bars of means in rows of as many categories as stay legible, with the spread over seeds."""
    arms = study.compared_arms
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
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=SMALL)
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
    if several:
        return "Lines: lowest and highest seed, which is no interval"
    return "Lines: 95% interval over prompts, of one model"


def _has_value(cell: Cell | None) -> bool:
    return cell is not None and cell.value is not None
