"""Plots as inline SVG: coloured by CSS class, so that they follow the page's light or dark scheme.

x is samples seen, shared by all panels; y is logarithmic where positive values span a decade.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from unify.answers.curves import Point
from unify.answers.words import short
from unify.report.html import Html, tag

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 26
MOST_POINTS = 240  # of one line: more would not be seen


@dataclass
class Curve:
    """One arm in one panel: `points` drawn bold, `raw` faintly behind it."""

    index: int  # colour and dash
    points: list[Point]
    raw: list[list[Point]] = field(default_factory=list)


def panel(
    curves: Sequence[Curve], x_most: float, y_range: tuple[float, float] | None = None
) -> Html:
    """One plot with x from 0 to `x_most`; `y_range` fixes the axis that several panels share."""
    values = [y for c in curves for line in (c.points, *c.raw) for _, y in line if math.isfinite(y)]
    low, high = y_range or (min(values), max(values))
    log = is_log(low, high)
    low, high = _widen(low, high, log)
    up = math.log10 if log else float
    floor, ceiling = up(low), up(high)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / (x_most or 1)

    def y(value: float) -> float:
        share = (up(value) - floor) / (ceiling - floor)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, 0.0), 1.0)

    parts = _axes(ticks(low, high, log), ticks(0, x_most, False), x, y)
    for curve in curves:
        for line in curve.raw:
            parts.append(_path(thin(line), x, y, f"raw arm-{curve.index % 8}", log))
    for curve in curves:
        kind = f"line arm-{curve.index % 8}"
        parts.append(_path(thin(curve.points), x, y, kind, log))
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="plot", role="img")


def is_log(low: float, high: float) -> bool:
    """True if an axis from low to high is logarithmic."""
    return low > 0 and high / low >= 10


def _widen(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        return low / 1.1, high * 1.1
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return (low - room if low < 0 or low - room > 0 else 0.0), high + room


def _axes(
    y_ticks: Sequence[float],
    x_ticks: Sequence[float],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> list[Html]:
    parts = []
    for value in y_ticks:
        height = _n(y(value))
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=height, y2=height, class_="rule"))
        label = tag("text", short(value), x=LEFT - 6, y=_n(y(value) + 3.5), class_="tick end")
        parts.append(label)
    for value in x_ticks:
        where = "tick middle" if x(value) < WIDTH - RIGHT - 12 else "tick end"
        at = min(x(value), WIDTH - 1)
        parts.append(tag("text", short(value), x=_n(at), y=HEIGHT - 9, class_=where))
    base = HEIGHT - BOTTOM
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"))
    return parts


def _path(
    points: Sequence[Point],
    x: Callable[[float], float],
    y: Callable[[float], float],
    kind: str,
    log: bool,
) -> Html:
    """A line that breaks where a value is not finite (or, on a log axis, not positive)."""
    steps, pen = [], "M"
    for px, py in points:
        if not math.isfinite(py) or (log and py <= 0):
            pen = "M"
            continue
        steps.append(f"{pen}{_n(x(px))} {_n(y(py))}")
        pen = "L"
    return tag("path", d="".join(steps), class_=kind)


def interval_plot(
    marks: Sequence[tuple[int, float, tuple[float, float] | None]], large: bool = False
) -> Html:
    """Dots with intervals, one arm under another, on an axis from 0 to 1; `large` labels it.

    `marks`: (index of the arm, value, interval) of each.
    """
    width, pitch, edge = (440, 15, 10) if large else (168, 9, 6)
    height = pitch * len(marks) + 5
    foot = 18 if large else 0

    def x(value: float) -> str:
        return _n(edge + (width - 2 * edge) * value)

    parts = []
    for at in (0, 0.25, 0.5, 0.75, 1):
        parts.append(tag("line", x1=x(at), x2=x(at), y1=0, y2=height, class_="rule"))
        if large:
            parts.append(tag("text", at, x=x(at), y=height + 14, class_="tick middle"))
    for place, (index, value, span) in enumerate(marks):
        y, kind = _n(pitch * (place + 0.5) + 2.5), f"arm-{index % 8}"
        if span is not None:
            bar = tag("line", x1=x(span[0]), x2=x(span[1]), y1=y, y2=y, class_=f"whisker {kind}")
            parts.append(bar)
        parts.append(tag("circle", cx=x(value), cy=y, r=4 if large else 3, class_=f"dot {kind}"))
    size = {} if large else {"width": width, "height": height}
    return tag("svg", *parts, viewBox=f"0 0 {width} {height + foot}", class_="intervals", **size)


def difference_plot(
    mean: float,
    ends: tuple[float, float],
    dots: Sequence[float],
    most: float,
    told: bool,
    text: str,
) -> Html:
    """One difference on an axis from -most to most: interval, mean, and a dot for each seed.

    `told`: whether it is a verdict, drawn full; else drawn soft. `text`: said to screen readers.
    """
    width, height, edge = 320, 22, 8

    def x(value: float) -> str:
        return _n(width / 2 + (width / 2 - edge) * value / most)

    kind = "told" if told else "untold"
    parts = [tag("title", text)]
    parts.append(tag("line", x1=x(0), x2=x(0), y1=0, y2=height, class_="axis"))
    parts += [tag("circle", cx=x(dot), cy=height - 4, r=2, class_="seed") for dot in dots]
    low, high = map(x, ends)
    parts.append(tag("line", x1=low, x2=high, y1=9, y2=9, class_=f"span {kind}"))
    parts.append(tag("circle", cx=x(mean), cy=9, r=4, class_=f"mean {kind}"))
    box = f"0 0 {width} {height}"
    return tag("svg", *parts, viewBox=box, class_="difference", role="img")


def probability_plot(p: float, ends: tuple[float, float] | None, text: str) -> Html:
    """A probability with its interval on an axis from 0 to 1, with a stroke at 0.5.

    `text`: said to screen readers.
    """
    width, height, edge = 124, 12, 5

    def x(value: float) -> str:
        return _n(edge + (width - 2 * edge) * value)

    parts = [tag("title", text)]
    parts.append(tag("line", x1=x(0), x2=x(1), y1=6, y2=6, class_="rule"))
    parts += [tag("line", x1=x(at), x2=x(at), y1=1, y2=11, class_="axis") for at in (0, 0.5, 1)]
    if ends is not None:
        low, high = map(x, ends)
        parts.append(tag("line", x1=low, x2=high, y1=6, y2=6, class_="span"))
    parts.append(tag("circle", cx=x(p), cy=6, r=4, class_="mean"))
    size = {"width": width, "height": height}
    return tag("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", **size)


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers inside [low, high]: 1-2-5 steps, or 1-2-5 of each decade."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for stride, lead in ((1, (1, 2, 5)), (1, (1, 3)), (1, (1,)), (2, (1,)), (4, (1,))):
            marks = [m * 10.0**d for d in decades if d % stride == 0 for m in lead]
            marks = [v for v in marks if low <= v <= high]
            if len(marks) <= 6:
                return marks
        return [low, high]
    rough = (high - low) / 5 or 1.0
    size = 10 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points: means over neighbouring ones."""
    if len(points) <= most:
        return list(points)
    cuts = [round(i * len(points) / most) for i in range(most + 1)]
    groups = [points[a:b] for a, b in pairwise(cuts)]
    return [(g[-1][0], math.fsum(y for _, y in g) / len(g)) for g in groups]


def _n(value: float) -> str:
    """A coordinate in at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
