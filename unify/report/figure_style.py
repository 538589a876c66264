"""Style of figures for papers: matplotlib's settings, colours, axes, files of equal bytes.

The page's own plots are svg_plots.py: they follow the reader's light or dark scheme, which a figure
in a file cannot.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from unify.answers.words import short
from unify.report.style import ARMS_LIGHT
from unify.report.svg_plots import ticks

MAKER = "unify"  # in the metadata of every figure, by which it is known again
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


def arm_colour(index: int) -> str:
    """Colour of the arm of this index, as on the page."""
    return ARMS_LIGHT[index % len(ARMS_LIGHT)]


def arm_look(index: int) -> dict[str, Any]:
    """Colour and marker of an arm, as arguments of `scatter`; 64 arms have 64 looks."""
    turn = index // len(ARMS_LIGHT)  # the colours begin anew, each with another marker
    return {"color": arm_colour(index), "marker": MARKERS[(index + turn) % len(MARKERS)]}


def log_axis(axes: Any) -> None:
    """Make x logarithmic, with the few round numbers that its range holds as labels."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    marks = ticks(low, high, log=True)
    marks = marks if len(marks) > 1 else ticks(low, high, log=False)  # less than a decade
    labels = {short(mark): mark for mark in marks}  # nearly equal ones look alike
    axes.set_xticks(list(labels.values()), list(labels))
    axes.set_xticks([], minor=True)
    axes.set_xlim(low, high)


def legend_below(figure: Figure, axes: Any, columns: int | None = None) -> None:
    """Put the legend under the axes, in two columns where names are short, and fix the layout."""
    handles, labels = axes.get_legend_handles_labels()
    fitting = 2 if max(map(len, labels), default=0) <= 18 else 1
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns or fitting, fontsize=8.5,
        columnspacing=1.2, handletextpad=0.5, handlelength=1.4, borderaxespad=0.2,
    )  # fmt: skip
    figure.set_layout_engine("constrained")
    figure.draw_without_rendering()  # axes of another size may have other ticks, so other labels
    fix_layout(figure)


def fix_layout(figure: Figure) -> None:
    """Lay out once: a second drawing would move things again, and change the bytes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def file_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as `svg` or `pdf`, without a date."""
    out = io.BytesIO()
    nothing = {"Date": None} if kind == "svg" else {"CreationDate": None, "ModDate": None}
    nothing["Creator"] = MAKER  # type: ignore[assignment]
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format=kind, metadata=nothing)
    return out.getvalue()


def is_our_figure(path: Path, older: bool = False) -> bool:
    """True for a file that `file_bytes` made; `older`: or may have, before it left its mark."""
    data = path.read_bytes() if path.is_file() else b""
    marks = [f"<dc:title>{MAKER}</dc:title>", f"/Creator ({MAKER})", *(["Matplotlib"] * older)]
    return any(mark.encode() in data for mark in marks)
