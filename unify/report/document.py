"""The frame of a page that is one file: no script, no network, styles inline."""

from collections.abc import Sequence

from unify.report.html import Html, tag
from unify.report.own_files import TITLE_END
from unify.report.style import CSS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
Section = tuple[str, str, Html]  # its id, its title, and what is in it


def document(title: str, header: Html, sections: Sequence[Section], footer: str) -> str:
    """The page as text."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}{TITLE_END}"),
        tag("style", Html(CSS)),
    )
    contents = tag("nav", *(tag("a", name, href=f"#{key}") for key, name, _ in sections))
    main = tag("main", *(tag("section", tag("h2", n), part, id=k) for k, n, part in sections))
    page = tag("body", header, contents, main, tag("footer", footer))
    return "<!doctype html>\n" + tag("html", head, page, lang="en") + "\n"
