"""The section Copies and overlap: what is there twice, or nearly, within and across splits."""

from collections.abc import Mapping, Sequence
from typing import Any

from unify.data.describe.describe import Description, Shown
from unify.data.describe.entries import SPLITS
from unify.report.html import Html, Node, facts, fold, join, tag
from unify.report.shown_records import record_card
from unify.report.titles import SHOWN_LETTERS, limited


def copies_section(description: Description) -> Html:
    """Counts first, then pictures, then texts."""
    told = description.facts
    parts: list[Node] = [_overlap(told), tag("h3", "Within all splits"), _within(told)]
    copied = [
        record_card(shown, _names(shown), f"{n:,} records")
        for n, shown in description.copied_pictures
        if shown
    ]
    if copied:
        parts += [tag("h3", "Pictures in most records"), _grid(copied)]
    near = [
        record_card(pair, _names(pair), " and ".join(shown.entry.split for shown in pair))
        for pair in description.near_pictures
    ]
    if near:
        parts += [tag("h3", "Pictures that look nearly the same"), _grid(near)]
    parts += [_repeated_texts(name, found) for name, found in told["texts"].items()]
    return join(parts)


def _names(records: Sequence[Shown]) -> list[str]:
    return [shown.entry.name for shown in records]


def _grid(cards: list[Html]) -> Html:
    return tag("div", *cards, class_="cards of-2")


def _measures(told: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    """What is compared: its name, the facts, and the key of those across splits."""
    out: list[tuple[str, Mapping[str, Any], str]] = []
    if told["pictures"]:
        out.append(("picture, equal bytes", told["pictures"], "in_train"))
    for name, found in told["texts"].items():
        out.append((f"{name}, letter for letter", found, "in_train"))
        out.append((f"{name}, but for case and signs", found, "alike_in_train"))
    return out


def _overlap(told: Mapping[str, Any]) -> Html:
    """Records of the other splits that training has, too, by split."""
    splits = [s for s in SPLITS[1:] if any(sizes.get(s) for sizes in told["counts"].values())]
    if not splits:
        return tag("p", "There is no split beside train.", class_="quiet")
    rows: list[list[Node]] = []
    for name, found, key in _measures(told):
        cells = [found[key].get(split) for split in splits]
        rows.append([name, *(_share(c["in_train"], c["records"]) if c else "" for c in cells)])
    nearly = [("picture, nearly", told["pictures"])] if told["pictures"] else []
    nearly += [(f"{name}, nearly", found) for name, found in told["texts"].items()]
    for name, found in nearly:
        near = found["near"]
        among = f" ({near['compared'].get('train', 0):,} of train compared)"
        cells = [_near_share(near, split) for split in splits]
        rows.append([name + among, *cells])
    said = "Records of a split whose picture, or text, a training record has as well:"
    return join([tag("p", said), facts(["", *splits], rows)])


def _near_share(near: Mapping[str, Any], split: str) -> str:
    if not near["compared"].get(split):
        return ""
    return _share(near["paired_with_train"].get(split, 0), near["compared"][split])


def _share(count: int, of: int) -> str:
    return f"{count:,} of {of:,}"


def _within(told: Mapping[str, Any]) -> Html:
    rows: list[list[Node]] = []
    for name, found, key in _measures(told):
        copies = found["alike" if key == "alike_in_train" else "copies"]
        rows.append([name, f"{copies['values']:,}", f"{copies['copies']:,}"])
    nearly: list[list[Node]] = []
    each = {"picture": told["pictures"]} if told["pictures"] else {}
    for name, found in {**each, **told["texts"]}.items():
        near = found["near"]
        compared, paired = (sum(near[key].values()) for key in ("compared", "paired"))
        nearly.append([f"{name}, nearly", f"{compared:,}", f"{paired:,}", f"{near['pairs']:,}"])
    return join(
        [
            facts(["", "are there more than once", "records beyond the first"], rows),
            facts(["", "compared", "are in a pair", "pairs"], nearly),
        ]
    )


def _repeated_texts(name: str, found: Mapping[str, Any]) -> Html | None:
    most: list[list[Node]] = [
        [f"{row['times']:,}", _quoted(row.get("text", "")), ", ".join(row["first"])]
        for row in found["alike"]["most"]
    ]
    near: list[list[Node]] = [
        [" and ".join(row["splits"]), *map(_quoted, row["texts"])]
        for row in found["near"]["closest"]
    ]
    parts = []
    if most:
        parts.append(
            fold(
                f"{name.capitalize()}s that are there most often",
                facts(["times", "text", "first"], most),
            )
        )
    if near:
        parts.append(
            fold(f"{name.capitalize()}s nearly the same", facts(["splits", "text", "text"], near))
        )
    return join(parts) if parts else None


def _quoted(text: str) -> Html:
    return tag("span", limited(text, SHOWN_LETTERS), dir="auto")
