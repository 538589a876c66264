"""An import while it is written: shards, index, and how far it is, in a folder beside the target.

    .OUT.partial/data          what becomes OUT by one rename at the end
    .OUT.partial/state.sqlite  after every shard, in one transaction: inputs that are done, bytes of
                               records, verdicts and origins, shards with their digests, keys in use

What was written after the last transaction is written again, so an import that was killed at any
moment and called again ends with the bytes of one that was not.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from unify.data.adapters.index import IndexWriter, placed
from unify.data.adapters.names import SOURCE
from unify.data.adapters.report import Report
from unify.data.adapters.target import (
    DATA,
    JOURNAL,
    KEYS,
    LOCK,
    STATE,
    check_target,
    locked,
    remove_partial,
    staging,
)
from unify.support.atomic_files import flush_to_disk
from unify.support.stop_protocol import PlainError

EXTENSIONS = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"RIFF", "webp"))
BLOCK = 512  # of a tar: a header is one, content is padded to whole ones


class Unfinished:
    """A context manager: a ValueError removes the folder, any other end keeps it.

    Attributes:
        done: items that an earlier call has dealt with.
        records: in all shards so far.
        in_shard, shard_size: records and content bytes of the open shard.
        index: what rows and verdicts are added to.
        notes: lines for the report.
    """

    def __init__(self, out: Path, settings: Any):
        """ValueError for what `check_target` refuses; PlainError if another imports into `out`."""
        check_target(out)
        self.out, self.folder = out, staging(out)
        self.data = self.folder / DATA
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = locked(self.folder / LOCK)
        if lock is None:
            raise PlainError(f"another process is importing into {out}; wait for it, or end it")
        self._lock = lock
        settings = json.dumps(settings)
        state = _state(self.folder)
        if state is None or state["settings"] != settings:
            self._begin_anew()
            state = {"settings": settings, "done": 0, "records": 0, "shards": 0, "notes": []}
            state |= {"kept": [0, 0], "origins": 0}
        self._state, self._db = state, _database(self.folder)
        self.done, self.records, self.notes = state["done"], state["records"], state["notes"]
        self._take_back(state["kept"])
        self.index = IndexWriter(self.data, tuple(state["kept"]))
        origins = self.data / "origins.jsonl"
        origins.touch()
        self._check_whole(origins, origins.stat().st_size >= state["origins"])
        os.truncate(origins, state["origins"])
        self._origins = origins.open("ab")
        self._shard: _Shard | None = None

    def __enter__(self) -> "Unfinished":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._db.close()
        self._origins.close()
        if kind is not None and issubclass(kind, ValueError):
            remove_partial(self.folder)
        self._lock.close()

    def _begin_anew(self) -> None:
        """Empty the folder. At every moment it is one of ours, and its state is void first."""
        (self.folder / JOURNAL).unlink(missing_ok=True)
        (self.folder / STATE).write_bytes(b"")
        if self.data.exists():
            shutil.rmtree(self.data)
        _database(self.folder).close()
        self.data.mkdir()

    def _take_back(self, kept: list[int]) -> None:
        """Undo what was done after the last transaction; PlainError if less is there than it
        says."""
        known = dict(self._db.execute("SELECT name, bytes FROM shards"))
        for path in self.data.glob("*.tar"):
            if path.name not in known:
                path.unlink()
        for name, size in known.items():
            path = self.data / name
            self._check_whole(path, path.is_file() and path.stat().st_size == size)
        for name, size in zip(("records.jsonl", "verdicts.jsonl"), kept, strict=True):
            waiting = self.data / f".{name}.partial"
            if (self.data / name).exists():  # the index was being put in its place
                (self.data / name).replace(waiting)
            there = waiting.is_file() and waiting.stat().st_size >= size
            self._check_whole(waiting, there or not size)
        for name in ("index.json", "columns.npz"):
            (self.data / name).unlink(missing_ok=True)

    def _check_whole(self, path: Path, whole: bool) -> None:
        """PlainError unless a file of the folder is `whole`."""
        if not whole:
            raise PlainError(
                f"{path} is gone or not what was written: remove {self.folder}, and the same "
                "command imports from the beginning"
            )

    @property
    def in_shard(self) -> int:
        return self._shard.records if self._shard else 0

    @property
    def shard_size(self) -> int:
        return self._shard.size if self._shard else 0

    def add(self, key: str, origin: str, parts: dict[str, bytes], row: dict[str, Any]) -> None:
        """Write a good sample under a key of its own, and its row."""
        if self._shard is None:
            self._shard = _Shard(self.data / f"shard-{self._state['shards']:06d}.tar")
        key = self._unique(key)
        offsets = self._shard.write(key, parts)
        self.index.add(placed(key, self._shard.path.name, offsets, parts, row))
        told = {"shard": self._shard.path.name, "key": key, "origin": origin}
        self._origins.write(json.dumps(told).encode() + b"\n")
        self.records += 1

    def _unique(self, key: str) -> str:
        """A key that is safe as a file's name and that no sample has had.

        In the webdataset layout a key ends at its first dot, and a ustar name holds 100 bytes,
        extension included. Two names may become one key: the later gets a number.
        """
        key = re.sub(r"[^A-Za-z0-9_-]+", "_", key).strip("_")[-80:] or "image"
        while (times := self._counted(key)) > 1:
            key = f"{key}_{times}"
        return key

    def _counted(self, key: str) -> int:
        """Count a key; how often it was there, this time included."""
        count = "INSERT INTO keys VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET n = n + 1"
        self._db.execute(count, [key])
        return int(self._db.execute("SELECT n FROM keys WHERE key = ?", [key]).fetchone()[0])

    def close_shard(self, done: int) -> None:
        """Write the open shard to the disk and note that `done` items are dealt with."""
        if self._shard is None:
            return
        self._db.execute("INSERT INTO shards VALUES (?, ?, ?)", self._shard.closed())
        self._shard = None
        self._origins.flush()
        os.fsync(self._origins.fileno())
        self._state |= {"done": done, "records": self.records, "notes": self.notes}
        self._state |= {"shards": self._state["shards"] + 1, "origins": self._origins.tell()}
        self._state["kept"] = self.index.saved()
        if done >= 0:  # the last shard is followed by the index at once
            self._db.execute("REPLACE INTO state VALUES (0, ?)", [json.dumps(self._state)])
            self._db.commit()

    def finish(self) -> Report:
        """Write the index and give the folder its name."""
        self._origins.flush()
        rows = self._db.execute("SELECT name, bytes, sha256 FROM shards ORDER BY name")
        shards = {name: {"bytes": size, "sha256": sha} for name, size, sha in rows}
        report = self.index.finish(shards)
        report.folder, report.notes = str(self.out), [*self.notes, *report.notes]
        self._state["finished"] = True
        self._db.execute("REPLACE INTO state VALUES (0, ?)", [json.dumps(self._state)])
        self._db.commit()
        if self.out.exists():
            self.out.rmdir()
        self.data.rename(self.out)
        flush_to_disk(self.out.parent)
        remove_partial(self.folder)
        return report


def completed(out: Path, settings: Any) -> bool:
    """True for an import that was whole when it was killed: what was left to do is done."""
    folder = staging(out)
    lock = locked(folder / LOCK) if (folder / STATE).exists() else None
    if lock is None:  # none is there, or another process writes it
        return False
    with lock:
        state = _state(folder)
        if not state or not state.get("finished") or state["settings"] != json.dumps(settings):
            return False
        if (folder / DATA).exists():
            if out.exists():
                out.rmdir()
            (folder / DATA).rename(out)
        remove_partial(folder)
    return True


class _Hashed:
    """A file that takes the digest of what is written to it."""

    def __init__(self, path: Path):
        self.file, self.sha = path.open("wb"), hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        return self.file.write(data)


class _Shard:
    """A shard while it is written."""

    def __init__(self, path: Path):
        from webdataset import TarWriter

        self.path, self.records, self.size = path, 0, 0
        self._file = _Hashed(path)
        self._tar = TarWriter(self._file, encoder=False, mtime=0)

    def write(self, key: str, parts: dict[str, bytes]) -> dict[str, int]:
        """Write a sample; where its images are in the shard, by part."""
        members, names = dict(parts), {}
        for part, before in (("image", ""), ("source", f"{SOURCE[1:]}.")):
            if part in members:
                names[part] = before + _extension(members[part])
                members[names[part]] = members.pop(part)
        places, end = {}, self._tar.tarstream.offset
        for name in sorted(members):  # the order in which TarWriter writes them
            places[name] = end + BLOCK
            end = places[name] + -(-len(members[name]) // BLOCK) * BLOCK
        self.size += self._tar.write({"__key__": key, **members})
        if self._tar.tarstream.offset != end:
            raise RuntimeError(f"{self.path}: {key} is not where its row would say")
        self.records += 1
        return {part: places[name] for part, name in names.items()}

    def closed(self) -> tuple[str, int, str]:
        """Write all of it to the disk; its name, bytes and SHA-256."""
        self._tar.close()
        with self._file.file as file:
            file.flush()
            os.fsync(file.fileno())
            return self.path.name, file.tell(), self._file.sha.hexdigest()


def _extension(image: bytes) -> str:
    return next(name for magic, name in EXTENSIONS if image.startswith(magic))


def _database(folder: Path) -> sqlite3.Connection:
    # Without SQLite's own locks, which some network file systems do not have: LOCK is ours.
    uri = f"{(folder / STATE).absolute().as_uri()}?nolock=1"
    database = sqlite3.connect(uri, uri=True)
    database.execute("PRAGMA cache_size = -65536")  # KiB
    for table in (
        KEYS,
        "shards (name TEXT PRIMARY KEY, bytes INTEGER, sha256 TEXT)",
        "state (n INTEGER PRIMARY KEY, json TEXT)",
    ):
        database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
    database.commit()
    return database


def _state(folder: Path) -> dict[str, Any] | None:
    """What an earlier call noted; None if there is none that can be read."""
    if not (folder / STATE).exists():
        return None
    try:
        with closing(_database(folder)) as database:
            row = database.execute("SELECT json FROM state").fetchone()
            return json.loads(row[0]) if row else None
    except (sqlite3.Error, ValueError):
        return None
