"""Describe records: counts, sizes, lengths, scripts, copies, what is nearly the same, what is bad.

All records are gone through once, and counted. What compares pairs of records sees a sample of
each split: those whose keys have the smallest digests, so it is the same in every order. Equal
records give equal descriptions, with any number of jobs.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from PIL import Image

from unify.data.adapters.verdicts import Verdict
from unify.data.describe.distributions import distribution, shapes
from unify.data.describe.entries import Entry, Reader, digest
from unify.data.describe.looks import Look, alike
from unify.data.describe.near import Near, near, within_groups
from unify.data.describe.notable import notable
from unify.data.describe.tally import ALIKE, PICTURE, SAME, Tally, TokenCounts, values
from unify.data.describe.texts import similar, words

MOST_BAD, MOST_PAIRS, MOST_SIZES, EXAMPLES = 20, 8, 10, 24
SHOWN_SIDE = 128  # pixels that a shown picture is scaled to, at most
EVERY = 1000  # records, or a tenth of all if that is more, from one line of progress to the next
Say = Callable[[str], None]


@dataclass
class Shown:
    """A record on the page; without an image if it has none, or none that can be read."""

    entry: Entry
    image: Image.Image | None


@dataclass
class Description:
    """`facts` is plain data, and all that is said; the rest is what is shown with it."""

    facts: dict[str, Any]
    examples: list[Shown] = field(default_factory=list)
    copied_pictures: list[tuple[int, list[Shown]]] = field(default_factory=list)
    near_pictures: list[list[Shown]] = field(default_factory=list)


class Sample:
    """Of each group and split, the `most` entries whose keys have the smallest digests."""

    def __init__(self, most: int):
        self.most, self._kept = most, dict[tuple[str, str], list[tuple[int, int, Entry]]]()

    def add(self, entry: Entry) -> None:
        """Keep an entry, if it is one of those so far."""
        kept = self._kept.setdefault((entry.group, entry.split), [])
        item = (-digest(entry.shard, entry.key), -entry.place, entry)
        if len(kept) < self.most:
            heapq.heappush(kept, item)
        else:
            heapq.heappushpop(kept, item)

    def entries(self) -> list[Entry]:
        """What was kept, by digest."""
        items = [item for kept in self._kept.values() for item in kept]
        return [entry for *_, entry in sorted(items, key=lambda item: item[:2], reverse=True)]


class Describer:
    """Goes through the records of a reader."""

    def __init__(self, reader: Reader, sample: int, token_counts: TokenCounts | None, say: Say):
        self.reader, self.say = reader, say
        self.tally, self.sample = Tally(token_counts), Sample(sample)
        self.found: Counter[str] = Counter()  # what is bad beside what was left out before
        self.shown_bad: list[Verdict] = []

    def describe(self, jobs: int) -> Description:
        """All of it."""
        for number, item in enumerate(self.reader.entries(jobs), 1):
            if isinstance(item, Verdict):
                self._note(item)
            else:
                self.tally.add(item)
                self.sample.add(item)
            if number % max(self.reader.total // 10, EVERY) == 0:
                self.say(f"{number:,} of {self.reader.total:,} records")
        self.tally.finish()
        entries = self.sample.entries()
        self.say(
            f"{sum(self.tally.described.values()):,} records; reading {len(entries):,} of them"
        )
        looks, pictured = self._looks([e for e in entries if e.picture is not None], jobs)
        self.say(f"comparing {len(pictured):,} pictures and their texts")
        codes = [entry.picture or 0 for entry in pictured]
        pairs = near(pictured, codes, within_groups(pictured, looks, alike), MOST_PAIRS)
        copied = self.tally.most_copied(PICTURE, MOST_PAIRS)
        description = Description(
            {},
            [self._shown(entry) for entry in pictured[:EXAMPLES] or entries[:EXAMPLES]],
            [(n, [self._shown(e) for e in self._entries(places)]) for _, n, places in copied],
            [[self._shown(entry) for entry in pair] for pair in pairs.closest],
        )
        description.facts = self._facts(entries, pairs)
        return description

    def _note(self, bad: Verdict) -> None:
        self.found[bad.reason] += 1
        if len(self.shown_bad) < MOST_BAD:
            self.shown_bad.append(bad)

    def _looks(self, entries: Sequence[Entry], jobs: int) -> tuple[list[Look], list[Entry]]:
        """The looks of entries, and the entries whose picture could be read."""
        looks, pictured = list[Look](), list[Entry]()
        for entry, item in zip(entries, self.reader.looks(entries, jobs), strict=True):
            if isinstance(item, Verdict):
                self._note(item)
            else:
                looks.append(item)
                pictured.append(entry)
        return looks, pictured

    def _entries(self, places: Sequence[int]) -> list[Entry]:
        return [e for e in map(self.reader.entry, places) if isinstance(e, Entry)]

    def _shown(self, entry: Entry) -> Shown:
        if entry.picture is None:
            return Shown(entry, None)
        try:
            image = Image.fromarray(self.reader.pixels(entry))
            image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        except Exception:  # it is counted as bad where it is looked at
            return Shown(entry, None)
        return Shown(entry, image)

    def _facts(self, entries: Sequence[Entry], pairs: Near) -> dict[str, Any]:
        reader, described = self.reader, self.tally.described
        left_out = islice(reader.left_out(), MOST_BAD - len(self.shown_bad))
        bad = Counter(reader.bad) + self.found
        facts: dict[str, Any] = {
            "counts": reader.counts,
            "described": [
                {"task": group, "split": split, "records": n}
                for (group, split), n in sorted(described.items())
            ],
            "records": sum(described.values()),
            "whole": reader.is_whole,
            "sample": self.sample.most,
            "bad": {
                "records": sum(bad.values()),
                "reasons": dict(bad.most_common()),
                "first": [asdict(verdict) for verdict in [*self.shown_bad, *left_out]],
            },
            "pictures": self._pictures(pairs),
            "texts": {name: self._texts(name, entries) for name in sorted(self.tally.fields)},
        }
        return facts | {"notable": notable(facts)}

    def _pictures(self, pairs: Near) -> dict[str, Any] | None:
        shorter, longer, most = Counter[int](), Counter[int](), list[dict[str, int]]()

        def noted() -> Iterator[tuple[int, int, int]]:
            for width, height, n in self.tally.sizes():
                shorter[min(width, height)] += n
                longer[max(width, height)] += n
                if len(most) < MOST_SIZES:
                    most.append({"width": width, "height": height, "records": n})
                yield width, height, n

        by_shape = shapes(noted())
        if not shorter:
            return None
        return {
            "shorter_side": distribution(shorter),
            "longer_side": distribution(longer),
            "shapes": by_shape,
            "sizes": most,
            "copies": self._copies(PICTURE),
            "near": _near_facts(pairs),
            "in_train": self._in_train(PICTURE),
        }

    def _texts(self, name: str, entries: Sequence[Entry]) -> dict[str, Any]:
        counts = self.tally.fields[name]
        return {
            "characters": distribution(counts.characters),
            "tokens": distribution(counts.tokens) if counts.tokens else None,
            "scripts": dict(sorted(counts.scripts.items(), key=lambda item: (-item[1], item[0]))),
            "mixed_scripts": counts.mixed,
            "copies": self._copies(SAME + name),
            "alike": self._copies(ALIKE + name),
            "near": _near_facts(_near_texts(name, entries), name),
            "in_train": self._in_train(SAME + name),
            "alike_in_train": self._in_train(ALIKE + name),
        }

    def _copies(self, of: str) -> dict[str, Any]:
        different, more = self.tally.copies(of)
        most = []
        for value, n, places in self.tally.most_copied(of, MOST_PAIRS):
            first = self._entries(places)
            texts = [text for entry in first for *own, text in values(entry) if own == [of, value]]
            told = {"times": n, "first": [entry.name for entry in first]}
            most.append(told | ({"text": texts[0]} if any(texts) else {}))
        return {"values": different, "copies": more, "most": most}

    def _in_train(self, of: str) -> dict[str, dict[str, int]]:
        found = self.tally.in_train(of)
        return {s: {"in_train": seen, "records": n} for s, (seen, n) in sorted(found.items())}


def _near_texts(name: str, entries: Sequence[Entry]) -> Near:
    """Pairs of the texts of a field; texts that are alike in group and split count once."""
    firsts: dict[tuple[str, str, int], tuple[Entry, list[str]]] = {}
    for entry in entries:
        if spoken := words(_text(entry, name)):
            key = (entry.group, entry.split, digest(" ".join(spoken)))
            firsts.setdefault(key, (entry, spoken))
    alike_values = [value for *_, value in firsts]
    compared, spoken_words = [e for e, _ in firsts.values()], [w for _, w in firsts.values()]
    pairs = within_groups(compared, spoken_words, similar)
    return near(compared, alike_values, pairs, MOST_PAIRS)


def _near_facts(found: Near, name: str = "") -> dict[str, Any]:
    pairs = []
    for pair in found.closest:
        told: dict[str, Any] = {"first": pair[0].name, "second": pair[1].name}
        told |= {"splits": [entry.split for entry in pair]}
        pairs.append(told | ({"texts": [_text(e, name) for e in pair]} if name else {}))
    return {
        "compared": found.compared,
        "paired": found.paired,
        "paired_with_train": found.with_train,
        "pairs": found.pairs,
        "closest": pairs,
    }


def _text(entry: Entry, name: str) -> str:
    """The text of a field, the first of several; "" without one."""
    return entry.texts.get(name) or entry.texts.get(f"{name}#0", "")


def describe(
    reader: Reader,
    sample: int,
    jobs: int = 1,
    token_counts: TokenCounts | None = None,
    say: Say = lambda text: None,
) -> Description:
    """The description of a reader's records.

    Args:
        sample: records of each group and split that are compared in pairs.
        jobs: processes that read pictures; below 2, this one does.
        token_counts: texts -> tokens of each.
        say: takes lines of progress.
    """
    return Describer(reader, sample, token_counts, say).describe(jobs)
