"""Markup in which every string is escaped unless it is markup already.

`tag("td", "a < b", class_="n")` gives `<td class="n">a &lt; b</td>`: what comes from data (names,
captions, answers of a model) cannot become markup, because only `tag` and `join` make `Html`.
"""

from collections.abc import Iterable, Sequence
from html import escape as escape_text

from unify.support.terminal import printable

OPEN = ("meta", "img", "br", "input")  # void in HTML; the others are SVG's
VOID = {*OPEN, "line", "path", "circle", "rect", "link"}


class Html(str):
    """Text that is markup: never escaped again."""


Node = Html | str | float | int | None


def escape(node: Node) -> Html:
    """The node as markup; None is nothing."""
    if isinstance(node, Html):
        return node
    return Html("" if node is None else escape_text(printable(str(node))))


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
        written += f" {key}" if value is True else f' {key}="{escape_text(printable(str(value)))}"'
    if name in VOID and not children:
        return Html(f"<{name}{written}>" if name in OPEN else f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def fold(title: str, content: Html) -> Html:
    """Content under a title, shut until the reader opens it."""
    return tag("details", tag("summary", title), content)


def swatch(index: int) -> Html:
    """The colour and dash of the arm of this index, as in every plot."""
    mark = tag("line", x1=1, y1=5, x2=21, y2=5, class_=f"line arm-{index % 8}")
    return tag("svg", mark, class_="swatch", viewBox="0 0 22 10", width=22, height=10)


def facts(header: Sequence[str], rows: Sequence[Sequence[Node]], kind: str = "") -> Html:
    """A plain table whose first column names the rows; `kind`: its class in the style sheet."""
    head = tag("thead", tag("tr", *(tag("th", h, scope="col") for h in header)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    return tag(
        "div", tag("table", head, tag("tbody", *body), class_=f"facts {kind}"), class_="scroll"
    )
