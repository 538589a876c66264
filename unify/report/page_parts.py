"""Parts that several sections of the page share: an arm's mark, and a plain table."""

from __future__ import annotations

from collections.abc import Sequence

from unify.report.html import Html, Node, tag


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
