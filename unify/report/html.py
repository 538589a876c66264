"""Markup in which every string is escaped unless it is markup already.

`tag("td", "a < b", class_="n")` gives `<td class="n">a &lt; b</td>`: what comes from data (names,
captions, answers of a model) cannot become markup, because only `tag` and `join` make `Html`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as escape_text

OPEN = ("meta", "img", "br", "input")  # void in HTML; the others are SVG's
VOID = {*OPEN, "line", "path", "circle", "rect", "link"}


class Html(str):
    """Text that is markup: never escaped again."""


Node = Html | str | float | int | None


def escape(node: Node) -> Html:
    """The node as markup; None is nothing."""
    if isinstance(node, Html):
        return node
    return Html("" if node is None else escape_text(str(node)))


def join(nodes: Iterable[Node], separator: Node = "") -> Html:
    """Nodes one after another, with `separator` between."""
    return Html(escape(separator).join(escape(node) for node in nodes))


def tag(name: str, /, *children: Node, **attributes: str | float | int | bool | None) -> Html:
    """An element: `class_` is class, `stroke_width` stroke-width; None and False are left out."""
    written = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written += f" {key}" if value is True else f' {key}="{escape_text(str(value))}"'
    if name in VOID and not children:
        return Html(f"<{name}{written}>" if name in OPEN else f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def fold(title: str, content: Html) -> Html:
    """Content under a title, shut until the reader opens it."""
    return tag("details", tag("summary", title), content)
