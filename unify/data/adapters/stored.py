"""Reading by an index: its four files, a row of it, the bytes of a picture.

Opening is cheap and grows with the columns alone: index.json has a digest of itself and of
columns.npz, and the sizes of records.jsonl and of every shard, all of which are compared. What is
left is compared where it is read: a line of records.jsonl with its crc32 in the columns, a picture
with its crc32 in the line. So no damage gives another record than was indexed. The whole of it is
read by `unify data check`.

An index from before these digests is opened too: all rows are then read once, and compared with
the columns.
"""

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

from unify.data.adapters.columns import CHUNK, NEEDED, StoredArray, agree, read_columns
from unify.support.atomic_files import sha256

FORMAT, OLDER = "unify-shards-2", "unify-shards-1"
Row = dict[str, Any]


class Damaged(RuntimeError):
    """A record that was good when the index was built and is not any more."""


class DamagedIndex(Damaged, ValueError):
    """An index, or a folder of shards, that is not what it was when it was written."""


def damaged(folder: Path, what: str = "") -> DamagedIndex:
    """The one message about an index that cannot be trusted, with the remedy."""
    found = f" ({what})" if what else ""
    return DamagedIndex(
        f"the index of {folder} is damaged, or of another version than {FORMAT}{found}; "
        f"build it anew with `unify data check {folder} --repair`"
    )


def digest(summary: dict[str, Any]) -> str:
    """SHA-256 of what index.json says, without the digest itself."""
    rest = {key: value for key, value in summary.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_summary(folder: Path) -> dict[str, Any]:
    """`index.json`. ValueError, with the remedy, if there is none; DamagedIndex if it changed."""
    if not (folder / "index.json").is_file():
        raise ValueError(
            f"{folder} has no index.json; build it with `unify data check {folder} --repair`, "
            f"or make shards with `unify data import SRC {folder}`"
        )
    try:
        summary = json.loads((folder / "index.json").read_bytes())
        older = summary["format"] == OLDER
        if not older and (summary["format"] != FORMAT or summary["digest"] != digest(summary)):
            raise ValueError("index.json changed")
        for name, shard in summary["shards"].items():
            if Path(name).name != name or not isinstance(shard["bytes"], int):
                raise ValueError(f"{name!r} is no shard")
        if not isinstance(summary["sha256"], str) or not isinstance(summary["left_out"], dict):
            raise ValueError("index.json changed")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(folder, _said(error)) from error
    return summary


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, OSError | ValueError) else "index.json is incomplete"


class Index:
    """An opened index: N rows by number, and their columns.

    Attributes:
        summary: index.json.
        columns: arrays in columns.npz, by name.
    """

    def __init__(self, folder: Path):
        """ValueError if there is no index, DamagedIndex if it or a shard is not what it was."""
        self.folder, self.summary = folder, read_summary(folder)
        try:
            self._compare()
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise damaged(folder, str(error)) from error
        for name, shard in self.summary["shards"].items():
            if (found := size(folder / name)) != shard["bytes"]:
                have = (
                    "missing" if found is None else f"{found:,} bytes instead of {shard['bytes']:,}"
                )
                raise DamagedIndex(
                    f"{folder / name}: {have}; leave its lost records out with "
                    f"`unify data check {folder} --repair`, or restore the shard"
                )

    def _compare(self) -> None:
        """Compare the files with index.json, and the columns with each other."""
        folder, summary = self.folder, self.summary
        columns, records = folder / "columns.npz", folder / "records.jsonl"
        if summary["format"] == OLDER:
            if sha256(records) != summary["sha256"]:
                raise ValueError("records.jsonl changed")
            if not agree(folder):
                raise ValueError("columns.npz changed")
        elif sha256(columns) != summary["columns"]["sha256"]:
            raise ValueError("columns.npz changed")
        self.columns = read_columns(columns)
        self._start, self._crc = self.columns["start"], self.columns.get("crc")
        lengths = {name: len(array) - (name == "start") for name, array in self.columns.items()}
        if set(lengths.values()) != {summary["records"]} or not lengths.keys() >= NEEDED:
            raise ValueError(f"columns.npz has {lengths} records instead of {summary['records']:,}")
        self._records = records.open("rb", buffering=0)  # closed with this object
        _check_lines(self._start, os.fstat(self._records.fileno()).st_size)

    def __len__(self) -> int:
        return len(self._start) - 1

    def row(self, n: int) -> Row:
        """Row n, parsed from its line; Damaged if this is not the line that was indexed."""
        try:
            first, last = map(int, self._start.read(n, n + 2))
            line = os.pread(self._records.fileno(), last - first, first)
            intact = self._crc is None or zlib.crc32(line) == self._crc.read(n, n + 1)[0]
            row = json.loads(line) if intact else {}
            intact = intact and isinstance(row["shard"], str) and isinstance(row["key"], str)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            intact = False
        if not intact:
            raise damaged(self.folder, f"record {n:,}")
        return row

    def image(self, row: Row, part: str = "") -> bytes:
        """The bytes of a row's image (of its `source` if that is the `part`), or Damaged."""
        if row.get("shard") not in self.summary["shards"]:  # nor is it opened
            raise Damaged(_named(self.folder, row, "the shard is missing"))
        return read_image(self.folder, row, part)


def _check_lines(start: StoredArray, total: int) -> None:
    """ValueError if lines do not begin at 0, follow each other and end with the file."""
    last = 0
    for first in range(0, len(start), CHUNK):
        some = start.read(first, first + CHUNK)
        if (some[1:] < some[:-1]).any() or some[0] < last or (first == 0 and some[0] != 0):
            raise ValueError("columns.npz: lines of records.jsonl do not follow each other")
        last = int(some[-1])
    if last != total:
        raise ValueError(f"records.jsonl has {total:,} bytes instead of {last:,}")


def size(path: Path) -> int | None:
    """Bytes of a plain file; None where there is none."""
    return path.stat().st_size if path.is_file() else None


def read_image(folder: Path, row: Row, part: str = "") -> bytes:
    """The bytes of a record's image (of its `source` if that is the `part`), or Damaged."""
    # Opened for each read: thousands of shards stay below the limit on open files, and a forked
    # loader process shares no file position.
    try:
        place = row[part] if part else row
        offset, length, crc = place["offset"], place["bytes"], place["crc32"]
        file = os.open(folder / row["shard"], os.O_RDONLY)
    except FileNotFoundError as error:
        raise Damaged(_named(folder, row, "the shard is missing")) from error
    except (LookupError, TypeError, ValueError) as error:
        raise Damaged(_named(folder, row, "its row is incomplete")) from error
    try:
        total = os.fstat(file).st_size
        numbers = all(type(value) is int and value >= 0 for value in (offset, length))
        if not numbers or offset + length > total:
            raise Damaged(
                _named(folder, row, f"{length!r} bytes at {offset!r} are not in the shard")
            )
        data = os.pread(file, length, offset)
    finally:
        os.close(file)
    if zlib.crc32(data) != crc:
        raise Damaged(_named(folder, row, "its bytes changed since the index was built"))
    return data


def _named(folder: Path, row: Row, what: str) -> str:
    return (
        f"record {row.get('key')} of {folder / str(row.get('shard'))}: {what}; "
        f"leave it out with `unify data check {folder} --repair`, or restore the shard"
    )
