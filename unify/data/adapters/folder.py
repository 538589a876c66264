"""A folder of pictures, tars or Parquet tables: what lies in it, in order, and what is left out.

The listing waits in a private database on disk: memory does not grow with the number of files.
Links to files are followed, links to folders are not, for they may lead in circles.
"""

import hashlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unify.data.adapters.grouping import PARTS, Groups, Sample, to_bytes, to_text
from unify.data.adapters.names import hidden, split_name
from unify.data.adapters.verdicts import Verdict


class Listing:
    """All files below a folder by their path from it, in the order of the path's parts.

    `digest` changes with names, sizes and times of change, so an import that goes on knows that it
    reads the same files.
    """

    def __init__(self, folder: Path, ignored: Path | None = None):
        """`ignored`: a folder that is not looked into. OSError if the folder cannot be read."""
        self.folder = folder
        self._ignored = (os.path.realpath(ignored), ignored.name) if ignored else ("", "")
        self.extensions: Counter[str] = Counter()  # of files that are read in no case
        self._data = sqlite3.connect("")
        self._data.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE files (name BLOB, kind TEXT, state TEXT);"
            "CREATE TABLE bad (name BLOB, reason, why)"
        )
        self._walk()
        content = hashlib.sha256()
        for kind in (*PARTS, "tar", "parquet"):
            for name, state in self._rows(kind):
                content.update(f"{kind} {_name(name)} {state}\0".encode("utf-8", "surrogatepass"))
        for bad in self.verdicts():
            content.update(f"{bad.reason} {bad.shard}\0".encode("utf-8", "surrogatepass"))
        self.digest = content.hexdigest()

    def _walk(self) -> None:
        folders = [""]
        while folders:
            at = folders.pop()
            try:
                with os.scandir(self.folder / at) as entries:
                    for entry in entries:
                        name = os.path.join(at, entry.name)
                        if self._add(name, entry):
                            folders.append(name)
            except OSError as error:
                if not at:
                    raise
                self._left_out(at, "unreadable_folder", str(error))

    def _add(self, name: str, entry: os.DirEntry[str]) -> bool:
        """List a file; True for a folder to look into."""
        if entry.name == self._ignored[1] and os.path.realpath(entry.path) == self._ignored[0]:
            return False
        if hidden(name):
            self._left_out(name, "hidden", "hidden, or left there by a program")
            return False
        if entry.is_dir(follow_symlinks=False):
            return True
        _, part = split_name(name)
        kind = part if part in (*PARTS, "tar", "parquet") and "." in entry.name else ""
        if entry.is_symlink() and os.path.isdir(entry.path):
            why = "links to folders are not followed; import the folder itself"
            self._left_out(name, "linked_folder", why)
        elif not kind:
            self.extensions[Path(entry.name).suffix.lower() or "without extension"] += 1
        elif reason := _no_file(entry):
            self._left_out(name, *reason)
        else:
            found = entry.stat()
            state = f"{found.st_size} {found.st_mtime_ns}"
            self._data.execute("INSERT INTO files VALUES (?, ?, ?)", [_ordered(name), kind, state])
        return False

    def _left_out(self, name: str, reason: str, why: str) -> None:
        self._data.execute("INSERT INTO bad VALUES (?, ?, ?)", [_ordered(name), reason, why])

    def count(self, kind: str) -> int:
        """Number of files of a kind: a part of a sample, `tar`, `parquet`."""
        query = "SELECT count(*) FROM files WHERE kind = ?"
        return int(self._data.execute(query, [kind]).fetchone()[0])

    def names(self, kind: str) -> Iterator[str]:
        """Their paths from the folder, in order."""
        return (_name(name) for name, _ in self._rows(kind))

    def _rows(self, kind: str) -> Iterator[tuple[bytes, str]]:
        query = "SELECT name, state FROM files WHERE kind = ? ORDER BY name"
        yield from self._data.execute(query, [kind])

    def verdicts(self) -> Iterator[Verdict]:
        """What is hidden, no plain file, or cannot be read; a hidden folder has one."""
        for name, reason, why in self._data.execute("SELECT * FROM bad ORDER BY name"):
            yield Verdict(_name(name), "", reason, why)

    def samples(self) -> Iterator[Sample | Verdict]:
        """Pictures in the order of their names, with the files that share their key."""
        groups = Groups(self.folder)
        for part in PARTS:
            for name in self.names(part):
                key, _ = split_name(name)
                if not groups.add(key, part, name):
                    why = f"the first {part} of this key is kept; give the other a name of its own"
                    yield Verdict(name, key, "duplicate_key", why)
        yield from groups.samples(of_file=True)


def _ordered(name: str) -> bytes:
    """A path in whose order a folder's files stand together: by parts, as `Path` compares."""
    return to_bytes(name.replace(os.sep, "\0"))


def _name(ordered: bytes) -> str:
    return to_text(ordered).replace("\0", os.sep)


def _no_file(entry: os.DirEntry[str]) -> tuple[str, str] | None:
    """Why an entry that is named like a file is none to read; None if it is one."""
    try:
        if entry.is_file():
            return None
        entry.stat()
    except OSError as error:  # a link into nothing, or in a circle
        return "unreadable", str(error)
    return "not_a_file", "a pipe, a socket or a device"


def facts(path: Path) -> list[Any]:
    """What tells whether a file is still the one that an import began to read."""
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]
