"""Titles of pictures: captions may be whole files, and a page repeats each for every arm."""

from typing import Any

from unify.report.html import Html, tag

MOST_LETTERS = 400  # of a title, in all
SHOWN_LETTERS = 120  # of a title, before a reader points at it


def limited(text: str, most: int = MOST_LETTERS) -> str:
    """The text on one line, of at most so many letters; what is left out is counted."""
    text = " ".join(text.split())
    left = len(text) - most
    return text if left <= 0 else f"{text[:most]}… ({left:,} more letters)"


def titled(name: str, title: str, **more: Any) -> Html:
    """An element with a title: a long one is cut, and whole where a reader points."""
    short = limited(title, SHOWN_LETTERS) if len(title) > SHOWN_LETTERS + 24 else title
    whole = None if short == title else title.rstrip()
    return tag(name, short, title=whole, **more)
