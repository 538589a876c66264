"""One page about data before anything is trained on them: `write_data_page(description, path)`.

Texts and keys come from anywhere: `tag` escapes all of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unify.data.describe.describe import Description, Shown
from unify.data.describe.entries import SPLITS
from unify.data.describe.looks import CELLS, MOST_BITS, MOST_LEVELS
from unify.data.describe.texts import SHARE
from unify.report.data_copies import copies_section
from unify.report.document import Section, document
from unify.report.histogram import bars, panels, quantile_table
from unify.report.html import Html, Node, facts, join, tag
from unify.report.own_files import check_own_page
from unify.report.shown_records import record_card
from unify.report.titles import limited
from unify.support.atomic_files import write_atomically

SCRIPTS = (
    "By the Unicode script of most of their letters. A script is no language: Latin letters write "
    "English, French, Vietnamese and hundreds more; Han is Chinese and, with kana, Japanese."
)


def write_data_page(description: Description, path: Path) -> None:
    """Write the page. ValueError if the file is there and none of ours."""
    check_own_page(path)
    write_atomically(path, page(description).encode("utf-8", "replace"))


def page(description: Description) -> str:
    """The page as text."""
    told = description.facts
    made = [
        ("examples", "Examples", _examples(description)),
        ("counts", "Counts", _counts(told)),
        ("pictures", "Pictures", _pictures(told["pictures"])),
        ("texts", "Texts", _texts(told)),
        ("copies", "Copies and overlap", copies_section(description)),
        ("bad", "Bad records", _bad(told)),
        ("measured", "How this was counted", _measured(told)),
    ]
    sections: list[Section] = [(k, name, part) for k, name, part in made if part is not None]
    return document(told["name"], _header(told), sections, "Made by unify data describe.")


def _header(told: Mapping[str, Any]) -> Html:
    notable = [tag("li", sentence) for sentence in told["notable"]]
    found = tag("ul", *notable, class_="unmatched") if notable else tag("p", "Nothing stands out.")
    return tag(
        "header",
        tag("p", "unify data describe", " · ", told["kind"], class_="kicker"),
        tag("h1", told["name"]),
        tag("p", _said(told), class_="question"),
        tag("div", tag("p", tag("b", "Worth a look")), found, class_="summary"),
    )


def _said(told: Mapping[str, Any]) -> str:
    records = f"{told['records']:,} records" + ("" if told["whole"] else ", a sample of them")
    texts = sum(found["characters"]["records"] for found in told["texts"].values())
    pictures = told["pictures"]["shorter_side"]["records"] if told["pictures"] else 0
    return f"{records}: {pictures:,} pictures, {texts:,} texts."


def _examples(description: Description) -> Html | None:
    if not description.examples:
        return None
    said = tag("p", "Drawn by a digest of their keys, and not selected.", class_="quiet")
    cards = [record_card([shown], _captions(shown)) for shown in description.examples]
    return join([said, tag("div", *cards, class_="cards of-1")])


def _captions(shown: Shown) -> list[str]:
    return [*shown.entry.texts.values()][:2]


def _counts(told: Mapping[str, Any]) -> Html:
    header = ["task", *SPLITS]
    rows: list[list[Node]] = [
        [task.replace("_", " "), *(f"{sizes.get(split, 0):,}" for split in SPLITS)]
        for task, sizes in told["counts"].items()
    ]
    parts: list[Node] = [facts(header, rows)]
    if not told["whole"]:
        drawn = ", ".join(
            f"{row['records']:,} {row['split']} of {row['task'].replace('_', ' ')}"
            for row in told["described"]
        )
        parts.append(tag("p", f"Described here: {drawn}.", class_="quiet"))
    return join(parts)


def _pictures(found: Mapping[str, Any] | None) -> Html | None:
    if found is None:
        return None
    sides = {
        "shorter side, pixels": found["shorter_side"],
        "longer side, pixels": found["longer_side"],
    }
    rows: list[list[Node]] = [
        [f"{size['width']:,} × {size['height']:,}", f"{size['records']:,}"]
        for size in found["sizes"]
    ]
    shapes = {name: count for name, count in found["shapes"].items() if count}
    return join(
        [
            panels(sides),
            quantile_table(sides),
            tag("h3", "Width to height"),
            bars(shapes),
            tag("h3", "Most frequent sizes"),
            facts(["width × height", "records"], rows, "numbers"),
        ]
    )


def _texts(told: Mapping[str, Any]) -> Html | None:
    if not told["texts"]:
        return None
    parts: list[Node] = []
    for name, found in told["texts"].items():
        lengths = {"characters": found["characters"]}
        if found["tokens"]:
            lengths["tokens"] = found["tokens"]
        parts += [
            tag("h3", f"{name}s".capitalize()),
            panels(lengths),
            quantile_table(lengths),
            bars(found["scripts"]),
        ]
        if found["mixed_scripts"]:
            parts.append(tag("p", f"{found['mixed_scripts']:,} mix scripts.", class_="quiet"))
    tokens = told["tokenizer"] or "none was named (--tokenizer)"
    parts.append(tag("p", f"{SCRIPTS} Tokens: {tokens}.", class_="quiet"))
    return join(parts)


def _bad(told: Mapping[str, Any]) -> Html:
    bad = told["bad"]
    if not bad["records"]:
        return tag("p", "None was found.")
    rows: list[list[Node]] = [
        [each["reason"], limited(each["shard"]), limited(each["key"]), limited(each["detail"], 200)]
        for each in bad["first"]
    ]
    left = bad["records"] - len(rows)
    more = f"The first {len(rows):,}; {left:,} more are counted above." if left > 0 else None
    return join(
        [
            bars(bad["reasons"]),
            facts(["reason", "shard or file", "key", "detail"], rows, "numbers bad"),
            tag("p", more, class_="quiet") if more else None,
        ]
    )


def _measured(told: Mapping[str, Any]) -> Html:
    return join([tag("p", text) for text in _how(told)])


def _how(told: Mapping[str, Any]) -> Sequence[str]:
    sample = f"{told['sample']:,}"
    whole = (
        "Counts, lengths, scripts, sizes and copies are of all records that the index lists."
        if told["whole"]
        else f"Of a source that draws its records, {sample} of each split at most were drawn, an "
        "equal part of each task, chosen by a keyed permutation; all counts are of these."
    )
    return (
        whole,
        "Copies of pictures are equal in their bytes, by two checksums and their number (of a "
        "source that draws them, by a digest of the pixels). Texts are copies as they are, or "
        "without case, punctuation and white space.",
        f"What is nearly the same was looked for among {sample} records of each split at most, "
        "chosen by a digest of their keys: a pair is seen only if both are among these. Pictures: "
        f"a difference hash of {CELLS} × {CELLS} cells of the central square, at most {MOST_BITS} "
        f"of {CELLS * CELLS} bits apart, and no cell's colour more than {MOST_LEVELS} of 255 "
        f"levels. Texts: at least {SHARE:.0%} of the words in common, in any order.",
        "Pictures were read of that sample alone. `unify data check` reads every byte of shards.",
        f"Fingerprint of the data: {told['fingerprint']}.",
    )
