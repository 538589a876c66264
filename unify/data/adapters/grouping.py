"""Files that share a key -> samples, in memory that does not grow with their number.

What is waiting to be grouped lies in a private database on disk, which is gone with its connection.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("image", "source", "txt", "json")


@dataclass(frozen=True)
class Place:
    """Where the bytes of a part are: a whole file, or `size` bytes at `offset` of an archive."""

    path: Path
    offset: int = 0
    size: int | None = None
    name: str = ""  # of the file or member, as a verdict names it


@dataclass
class Sample:
    """Files or members that share a key, by part (PARTS)."""

    key: str
    parts: dict[str, Place] = field(default_factory=dict)


class Groups:
    """Parts are added in any order; samples come out in the order of their first part."""

    def __init__(self, path: Path):
        self.path = path  # that all parts lie in: a folder, or an archive
        self._data = sqlite3.connect("")
        self._data.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE samples (n INTEGER PRIMARY KEY, key BLOB UNIQUE, doubt TEXT);"
            "CREATE TABLE parts (n, part, name BLOB, offset, size, PRIMARY KEY (n, part))"
            "WITHOUT ROWID;"
        )

    def add(self, key: str, part: str, name: str, offset: int = 0, size: int | None = None) -> bool:
        """Add a part; False if the key has this part already."""
        self._data.execute("INSERT OR IGNORE INTO samples (key) VALUES (?)", [to_bytes(key)])
        (n,) = self._data.execute("SELECT n FROM samples WHERE key = ?", [to_bytes(key)]).fetchone()
        row = (n, PARTS.index(part), to_bytes(name), offset, size)
        done = self._data.execute("INSERT OR IGNORE INTO parts VALUES (?, ?, ?, ?, ?)", row)
        return done.rowcount == 1

    def doubt(self, key: str, reason: str) -> None:
        """Leave a sample out: it may lack a part."""
        self._data.execute("UPDATE samples SET doubt = ? WHERE key = ?", [reason, to_bytes(key)])

    def doubtful(self) -> Iterator[tuple[str, str]]:
        """(key, reason) of the samples that are left out."""
        rows = "SELECT key, doubt FROM samples WHERE doubt IS NOT NULL ORDER BY n"
        for key, reason in self._data.execute(rows):
            yield to_text(key), reason

    def samples(self, of_file: bool = False) -> Iterator[Sample]:
        """The other samples; `of_file`: each part is a file of its own below the folder."""
        rows = self._data.execute(
            "SELECT n, key, part, name, offset, size FROM samples JOIN parts USING (n) "
            "WHERE doubt IS NULL ORDER BY n, part"
        )
        number, sample = 0, Sample("")
        for n, key, part, name, offset, size in rows:
            if n != number:
                if number:
                    yield sample
                number, sample = n, Sample(to_text(key))
            name = to_text(name)
            path = self.path / name if of_file else self.path
            sample.parts[PARTS[part]] = Place(path, offset, size, name)
        if number:
            yield sample


def to_bytes(text: str) -> bytes:
    """A name for the database, in whose order names sort as texts do, odd bytes included."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """The name again."""
    return data.decode("utf-8", "surrogatepass")
