"""The columns of an index, `columns.npz`: what is asked of every record, without its line.

    start [N + 1]  where each line of records.jsonl begins, and the last one ends
    crc   [N]      crc32 of the line (an older index has none)
    hash  [N]      the picture's hash, which splits follow
    text, edit [N] has a caption; is an edit (an index from before edits has no such column)
    turns [N]      number of questions

The file is numpy's own, uncompressed. Its arrays are read in pieces from where they lie in it: no
process holds them whole, and all share the pages that the system keeps of the file.
"""

import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.lib import format as npy

COLUMNS: dict[str, Any] = {"start": np.int64, "crc": np.uint32, "hash": np.uint32}
COLUMNS |= {"text": np.bool_, "turns": np.int32, "edit": np.bool_}
NEEDED = {"start", "hash", "text", "turns"}  # those that the oldest index has
CHUNK = 1 << 16  # records at a time


def described(row: dict[str, Any]) -> dict[str, int]:
    """What the columns say of a row of the index, by column."""
    return {
        "hash": row["hash"],
        "text": "text" in row,
        "turns": len(row.get("turns", ())),
        "edit": "source" in row,
    }


class StoredArray:
    """A one-dimensional array in a file, read in pieces."""

    def __init__(self, path: Path, dtype: np.dtype, offset: int, length: int):
        self.path, self.dtype, self.offset, self.length = path, dtype, offset, length
        self._file = path.open("rb", buffering=0)  # closed with this object

    def __len__(self) -> int:
        return self.length

    def read(self, first: int, last: int) -> np.ndarray:
        """Elements [first, last), as far as there are. ValueError if the file ends before."""
        last = min(last, self.length)
        size = (last - first) * self.dtype.itemsize
        place = self.offset + first * self.dtype.itemsize
        data = os.pread(self._file.fileno(), size, place)
        if len(data) < size:
            raise ValueError(f"{self.path} ends inside its arrays")
        return np.frombuffer(data, self.dtype)


def read_columns(path: Path) -> dict[str, StoredArray]:
    """The arrays of a `columns.npz` by name; never pickles. ValueError if it is none."""
    out = {}
    try:
        with ZipFile(path) as archive, path.open("rb") as file:
            for member in archive.infolist():
                file.seek(member.header_offset)
                name, extra = struct.unpack("<26x2H", file.read(30))
                file.seek(name + extra, os.SEEK_CUR)  # the array's own header follows
                version = npy.read_magic(file)
                if version != (1, 0) or member.compress_type != ZIP_STORED:
                    raise ValueError(f"{member.filename} is stored in another way")
                shape, _, dtype = npy.read_array_header_1_0(file)
                name = member.filename.removesuffix(".npy")
                if len(shape) != 1 or dtype.kind not in "iub":
                    raise ValueError(f"{name} is no column of numbers")
                out[name] = StoredArray(path, dtype, file.tell(), shape[0])
    except Exception as error:  # numpy parses a header as Python, and damage may raise anything
        raise ValueError(f"{path} cannot be read: {error}") from error
    return out


def agree(folder: Path) -> bool:
    """True if the columns of an index, which has no digest of them, are those of its records."""
    try:
        columns = read_columns(folder / "columns.npz")
        if not columns.keys() >= NEEDED:
            return False
        n = end = 0
        with (folder / "records.jsonl").open("rb") as file:
            for n, line in enumerate(file, 1):
                told = described(json.loads(line)) | {"start": end}
                if any(columns[k].read(n - 1, n)[0] != told[k] for k in columns.keys() & told):
                    return False
                if told["edit"] and "edit" not in columns:  # there were none before that column
                    return False
                end += len(line)
        return {len(v) - (k == "start") for k, v in columns.items()} == {n}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def write_columns(path: Path, records: Path, note: Callable[[dict[str, Any]], None]) -> None:
    """Write the columns of a records.jsonl; `note` is called with each of its rows.

    Arrays wait in files, not in memory.
    """
    with ExitStack() as stack:
        spools = {
            name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in COLUMNS
        }
        lengths = dict.fromkeys(COLUMNS, 0)
        for chunk in _chunks(records, note):
            for name, values in chunk.items():
                np.array(values, COLUMNS[name]).tofile(spools[name])
                lengths[name] += len(values)
        # What np.savez writes; it would need arrays, mapped at best, whose pages count as memory.
        with ZipFile(path, "w", ZIP_STORED) as archive:
            for name, dtype in COLUMNS.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    header = npy.header_data_from_array_1_0(np.empty(0, dtype))
                    npy.write_array_header_1_0(member, header | {"shape": (lengths[name],)})
                    spools[name].seek(0)
                    shutil.copyfileobj(spools[name], member)


def _chunks(
    records: Path, note: Callable[[dict[str, Any]], None]
) -> Iterator[dict[str, list[int]]]:
    end = 0
    chunk: dict[str, list[int]] = {name: [] for name in COLUMNS}
    chunk["start"].append(0)
    with records.open("rb") as file:
        for line in file:
            row = json.loads(line)
            end += len(line)
            chunk["start"].append(end)
            chunk["crc"].append(zlib.crc32(line))
            for name, value in described(row).items():
                chunk[name].append(value)
            note(row)
            if len(chunk["crc"]) == CHUNK:
                yield chunk
                chunk = {name: [] for name in COLUMNS}
    yield chunk
