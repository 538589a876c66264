"""Counts as bars: upright over a number line, or lying, one for each name."""

from collections.abc import Mapping
from typing import Any

from unify.report.html import Html, Node, facts, tag

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 360, 170, 8, 8, 8, 22
LABELS = 7  # of the number line, at most


def histogram(found: Mapping[str, Any]) -> Html:
    """The `edges` and `counts` of a distribution: a bar from each edge to the next."""
    edges, counts = found["edges"], found["counts"]
    most, pitch = max(counts), (WIDTH - LEFT - RIGHT) / len(counts)
    base, parts = HEIGHT - FOOT, list[Html]()
    for n, (count, low, high) in enumerate(zip(counts, edges, edges[1:], strict=False)):
        height = (base - TOP) * count / most
        told = f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}"
        bar = tag(
            "rect",
            tag("title", f"{told}: {count:,}"),
            x=f"{LEFT + n * pitch + 0.5:.2f}",
            y=f"{base - height:.2f}",
            width=f"{max(pitch - 1, 0.5):.2f}",
            height=f"{height:.2f}",
            class_="bar arm-0",
        )
        parts.append(bar)
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"))
    stride = -(-len(counts) // LABELS)
    for n in range(0, len(counts), stride):
        at = LEFT + (n + 0.5) * pitch
        label = tag("text", f"{edges[n]:,}", x=f"{at:.2f}", y=HEIGHT - 6, class_="tick middle")
        parts.append(label)
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="plot", role="img")


def panels(found: Mapping[str, Mapping[str, Any]]) -> Html | None:
    """A histogram for each distribution, by name; none of one that has a single value."""
    many = [_panel(name, each) for name, each in found.items() if each["least"] < each["most"]]
    return tag("div", *many, class_="panels") if many else None


def _panel(title: str, found: Mapping[str, Any]) -> Html:
    said = f"half at most {found['median']:,}, {found['least']:,} to {found['most']:,}"
    caption = tag("figcaption", tag("span", title), tag("span", said, class_="quiet"))
    return tag("figure", caption, histogram(found))


def quantile_table(rows: Mapping[str, Mapping[str, Any]]) -> Html:
    """A row for each distribution, by name."""
    header = ["", "records", "least", "half at most", "90%", "99%", "most", "mean"]
    names = ("records", "least", "median", "p90", "p99", "most")
    body: list[list[Node]] = [
        [name, *(f"{found[key]:,}" for key in names), f"{found['mean']:,.1f}"]
        for name, found in rows.items()
    ]
    return facts(header, body, "numbers")


def bars(counts: Mapping[str, int]) -> Html:
    """A lying bar for each name, and its share."""
    total = sum(counts.values())
    rows = []
    for name, count in counts.items():
        solid = tag("span", style=f"width:{100 * count / max(total, 1):.2f}%", class_="solid")
        figure = tag("span", f"{count:,}, {_percent(count, total)}", class_="quiet")
        rows.append(tag("li", tag("span", name), tag("span", solid, class_="share"), figure))
    return tag("ul", *rows, class_="shares tallies")


def _percent(count: int, total: int) -> str:
    share = count / max(total, 1)
    if not count:
        return "0%"
    return "under 0.1%" if share < 0.001 else f"{share:.1%}"
