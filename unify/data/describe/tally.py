"""What is counted over all records, in memory that does not grow with their number.

Lengths and scripts are counted by value. What may be another in every record (a picture, a text, a
size) is a row of a private database on disk, which sorts there and is gone with its connection.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from unify.data.describe.entries import Entry, digest
from unify.data.describe.texts import script, words

TOGETHER = 1000  # entries that are written at once
TokenCounts = Callable[[list[str]], list[int]]  # of texts -> how many tokens each has
PICTURE, SIZE = "picture", "size"  # what values are of; texts: the two below, and the field
SAME, ALIKE = "same ", "alike "  # as it is; without case, punctuation and white space


@dataclass
class FieldCounts:
    """The texts of a field: how many by characters, by tokens, by script; how many mix scripts."""

    characters: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    mixed: int = 0


class Tally:
    """Entries are added; after `finish` it answers. Values are compared within a group.

    Attributes:
        described: entries by group and split.
        fields: counts of the texts by field.
    """

    def __init__(self, token_counts: TokenCounts | None = None):
        self.described: Counter[tuple[str, str]] = Counter()
        self.fields: dict[str, FieldCounts] = {}
        self._token_counts, self._waiting = token_counts, list[Entry]()
        self._data = sqlite3.connect("")
        self._data.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE facts (of, grp, value INTEGER, split, place INTEGER);"
        )

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.described[entry.group, entry.split] += 1
        self._waiting.append(entry)
        if len(self._waiting) == TOGETHER:
            self._write()

    def finish(self) -> None:
        """No more entries come."""
        self._write()
        self._data.execute("CREATE INDEX sorted ON facts (of, grp, value, split, place)")

    def _write(self) -> None:
        entries, self._waiting = self._waiting, []
        rows: list[tuple[str, str, int, str, int]] = []
        for entry in entries:
            for of, value, _ in values(entry):
                rows.append((of, entry.group, value, entry.split, entry.place))
        self._data.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?)", rows)
        texts = [(name.partition("#")[0], t) for e in entries for name, t in e.texts.items()]
        for name, text in texts:
            counts = self.fields.setdefault(name, FieldCounts())
            counts.characters[len(text)] += 1
            main, mixed = script(text)
            counts.scripts[main] += 1
            counts.mixed += mixed
        if self._token_counts is not None and texts:
            tokens = self._token_counts([text for _, text in texts])
            for (name, _), count in zip(texts, tokens, strict=True):
                self.fields[name].tokens[count] += 1

    def sizes(self) -> Iterator[tuple[int, int, int]]:
        """(width, height, count), the most frequent first."""
        rows = self._data.execute(
            "SELECT value, count(*) AS n FROM facts WHERE of = ? GROUP BY value "
            "ORDER BY n DESC, value",
            [SIZE],
        )
        for value, n in rows:
            yield value >> 32, value & 0xFFFFFFFF, n

    def copies(self, of: str) -> tuple[int, int]:
        """How many values occur again, and in how many records beyond their first."""
        return self._data.execute(
            "SELECT count(*), coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM facts "
            "WHERE of = ? GROUP BY grp, value HAVING n > 1)",
            [of],
        ).fetchone()

    def most_copied(self, of: str, most: int) -> list[tuple[int, int, list[int]]]:
        """(value, how often it is there, the first two places) of the most frequent values."""
        groups = self._data.execute(
            "SELECT grp, value, count(*) AS n, min(place) AS first FROM facts WHERE of = ? "
            "GROUP BY grp, value HAVING n > 1 ORDER BY n DESC, first LIMIT ?",
            [of, most],
        ).fetchall()
        two = (
            "SELECT DISTINCT place FROM facts WHERE of = ? AND grp = ? AND value = ? "
            "ORDER BY place LIMIT 2"
        )
        return [
            (value, n, [place for (place,) in self._data.execute(two, [of, grp, value])])
            for grp, value, n, _ in groups
        ]

    def in_train(self, of: str) -> dict[str, tuple[int, int]]:
        """By split but train: in how many records a value is one of a training record; of all."""
        rows = self._data.execute(
            "SELECT split, sum(EXISTS (SELECT 1 FROM facts AS train WHERE train.of = one.of AND "
            "train.grp = one.grp AND train.value = one.value AND train.split = 'train')), count(*) "
            "FROM facts AS one WHERE of = ? AND split != 'train' GROUP BY split",
            [of],
        )
        return {split: (seen, n) for split, seen, n in rows}


def values(entry: Entry) -> Iterator[tuple[str, int, str]]:
    """What may be in other records too: of what it is, its value, and the text if it is one."""
    if entry.picture is not None:
        yield PICTURE, entry.picture, ""
    if entry.height:
        yield SIZE, entry.width << 32 | entry.height, ""
    for name, text in entry.texts.items():
        own = name.partition("#")[0]
        yield SAME + own, digest(text), text
        yield ALIKE + own, digest(" ".join(words(text)) or text), text
