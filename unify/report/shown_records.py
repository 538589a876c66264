"""Records on a page: their pictures side by side, their texts and keys below."""

from collections.abc import Sequence

from unify.data.describe.describe import Shown
from unify.report.html import Html, tag
from unify.report.samples import data_uri
from unify.report.titles import SHOWN_LETTERS, limited, titled


def record_card(records: Sequence[Shown], lines: Sequence[str], note: str = "") -> Html:
    """One card: the pictures of some records, lines of text, and a note below them.

    A text may be written from right to left: each has the direction of its own letters.
    """
    shots = [tag("div", _picture(shown), class_="shot") for shown in records]
    captions = [titled("figcaption", limited(line), dir="auto") for line in lines]
    below = tag("figcaption", note, class_="quiet") if note else None
    return tag("figure", tag("div", *shots, class_="shots"), *captions, below, class_="card")


def _picture(shown: Shown) -> Html:
    name = limited(shown.entry.name, SHOWN_LETTERS)
    if shown.image is None:
        return tag("p", "no picture", class_="quiet", title=name)
    return tag("img", src=data_uri(shown.image), alt=name, title=name)
