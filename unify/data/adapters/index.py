"""The index of a folder of tar shards: which records are good, where they lie, what is wrong.

Written beside the shards (webdataset layout: `KEY.jpg|png|webp`, `KEY.txt`, `KEY.json`; of an edit
also `KEY.source.jpg|png|webp`):

    index.json      counts, size and sha256 of every shard and of records.jsonl
    records.jsonl   a line per good record: key, shard, offset, bytes, crc32, height, width, text
    columns.npz     the same records as columns: where a line starts, split hash, has a text, turns,
                    is an edit
    verdicts.jsonl  a line per record that is left out: shard, key, reason, detail

Every record gets one verdict when the index is built: it is listed, or left out under a reason.
"""

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from unify.data.adapters.tar import read_parts, samples
from unify.data.adapters.verdicts import Bad, Verdict, judge

FORMAT = "unify-shards-1"


@dataclass
class Report:
    """Result of reading a folder of shards; `verdicts` counts records left out, by reason."""

    folder: str
    records: int = 0
    shards: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    damage: list[Verdict] = field(default_factory=list)  # found by `check`, not by the index

    @property
    def ok(self) -> bool:
        return not self.damage

    def lines(self) -> list[str]:
        """The report as text, a line per fact."""
        out = [f"{self.folder}: {self.records:,} records in {self.shards:,} shard(s)"]
        out += [f"  left out, {reason}: {n:,}" for reason, n in sorted(self.verdicts.items())]
        out += [f"  {v.reason} {v.shard} {v.key} {v.detail}".rstrip() for v in self.damage[:20]]
        if len(self.damage) > 20:
            out.append(f"  ... and {len(self.damage) - 20:,} more")
        return out


def _index_shard(path: Path, pixels: bool) -> tuple[list[dict[str, Any]], list[Verdict]]:
    good, verdicts = samples(path)
    rows = []
    with path.open("rb") as file:
        for sample in good:
            try:
                parts = read_parts(file.fileno(), sample)
                row = judge(parts, pixels)
            except Bad as bad:
                verdicts.append(Verdict(path.name, sample.key, bad.reason, bad.detail))
                continue
            places = {
                part: {"offset": item.offset, "bytes": item.size, "crc32": zlib.crc32(parts[part])}
                for part, item in sample.parts.items()
                if part in ("image", "source")
            }
            place = places.pop("image") | places  # the source image has its place under "source"
            rows.append({"key": sample.key, "shard": path.name, **place, **row})
    return rows, verdicts


# The index of a folder


def index_folder(
    folder: str | Path, pixels: bool = True, workers: int = 0, earlier: Iterable[Verdict] = ()
) -> Report:
    """Scan every tar of a folder and write its index.

    Args:
        pixels: decode every image, not only its header.
        workers: processes that scan a shard each; below 2, this one does.
        earlier: verdicts of the import that wrote the shards, kept in the index.

    ValueError if the folder holds no tar.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise ValueError(f"{folder} holds no .tar; make shards with `unify data import SRC OUT`")
    scan = partial(_index_shard, pixels=pixels)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            scanned = list(pool.map(scan, paths))
    else:
        scanned = [scan(path) for path in paths]
    rows = [row for some, _ in scanned for row in some]
    return write_index(folder, rows, [*earlier, *(v for _, some in scanned for v in some)])


def write_index(folder: Path, rows: list[dict[str, Any]], verdicts: list[Verdict]) -> Report:
    """Write the four files, `index.json` last: without it there is no index."""
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    records = b"".join(lines)
    counts = Counter(row["shard"] for row in rows)
    shards = {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "records": counts[path.name],
        }
        for path in sorted(folder.glob("*.tar"))
    }
    left_out = Counter(verdict.reason for verdict in verdicts)
    summary = {
        "format": FORMAT,
        "records": len(rows),
        "left_out": dict(sorted(left_out.items())),
        "sha256": hashlib.sha256(records).hexdigest(),
        "shards": shards,
    }
    (folder / "index.json").unlink(missing_ok=True)
    _replace(folder / "records.jsonl", records)
    _replace(
        folder / "verdicts.jsonl",
        "".join(json.dumps(asdict(v)) + "\n" for v in verdicts).encode(),
    )
    with (folder / "columns.npz").open("wb") as file:
        np.savez(
            file,
            start=np.cumsum([0, *map(len, lines)], dtype=np.int64),  # [N + 1]
            hash=np.array([row["hash"] for row in rows], np.uint32),  # [N]
            text=np.array(["text" in row for row in rows], bool),  # [N]
            turns=np.array([len(row.get("turns", ())) for row in rows], np.int64),  # [N]
            edit=np.array(["source" in row for row in rows], bool),  # [N]
        )
    _replace(folder / "index.json", json.dumps(summary, indent=1).encode())
    return Report(str(folder), len(rows), len(shards), left_out)


def read_index(folder: Path) -> tuple[dict[str, Any], bytes]:
    """`index.json` and `records.jsonl`, which must agree; a ValueError names the remedy."""
    if not (folder / "index.json").is_file():
        raise ValueError(
            f"{folder} has no index.json; build it with `unify data check {folder} --repair`, "
            f"or make shards with `unify data import SRC {folder}`"
        )
    try:
        summary = json.loads((folder / "index.json").read_bytes())
        records = (folder / "records.jsonl").read_bytes()
        intact = summary["format"] == FORMAT
        intact = intact and summary["sha256"] == hashlib.sha256(records).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ValueError(damaged(folder))
    return summary, records


def read_columns(folder: Path) -> dict[str, np.ndarray]:
    """`columns.npz`: arrays of numbers, and never of pickles."""
    try:
        with np.load(folder / "columns.npz", allow_pickle=False) as columns:
            return dict(columns)
    except (OSError, ValueError, BadZipFile) as error:
        raise ValueError(damaged(folder)) from error


def damaged(folder: Path) -> str:
    """The message about an index that cannot be read."""
    return (
        f"the index of {folder} is damaged, or of another version than {FORMAT}; "
        f"build it anew with `unify data check {folder} --repair`"
    )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Write a file under another name and rename it: a reader sees the old file or the new one."""
    partial_path = path.with_name(f".{path.name}.partial")
    partial_path.write_bytes(data)
    partial_path.replace(path)


# Damage since the index was built


def check(folder: str | Path, repair: bool = False) -> Report:
    """Compare the shards with the index; `repair` lists what is still good, or builds an index.

    A record whose image changed is damaged for good, even if it still decodes: it is left out.
    ValueError if there is no index, or a damaged one, and `repair` is not asked for.
    """
    folder = Path(folder)
    try:
        summary, records = read_index(folder)
    except ValueError:
        if not repair:
            raise
        return index_folder(folder)
    changed = {name: _changed(folder / name, shard) for name, shard in summary["shards"].items()}
    new = [path for path in sorted(folder.glob("*.tar")) if path.name not in changed]
    damage = [Verdict(name, "", "changed_shard", why) for name, why in changed.items() if why]
    damage += [Verdict(path.name, "", "unlisted_shard") for path in new]
    good = []
    for row in map(json.loads, records.splitlines()):
        if changed[row["shard"]] and (why := _damaged(folder, row)):
            damage.append(Verdict(row["shard"], row["key"], "damaged_record", why))
        else:
            good.append(row)
    if not (repair and damage):
        left_out = Counter(summary["left_out"])
        return Report(str(folder), len(good), len(changed), left_out, damage)
    verdicts = [Verdict(**json.loads(v)) for v in (folder / "verdicts.jsonl").open("rb")]
    verdicts += [verdict for verdict in damage if verdict.key]
    for path in new:
        rows, refused = _index_shard(path, pixels=True)
        good, verdicts = good + rows, verdicts + refused
    return write_index(folder, good, verdicts)


def _changed(path: Path, shard: dict[str, Any]) -> str:
    """The difference between a shard and its entry in the index; "" if there is none."""
    if not path.is_file():
        return "missing"
    if (size := path.stat().st_size) != shard["bytes"]:
        return f"{size:,} bytes instead of {shard['bytes']:,}"
    return "" if sha256(path) == shard["sha256"] else "sha256 differs"


def _damaged(folder: Path, row: dict[str, Any]) -> str:
    """The fault of an image of a record; "" if it decodes."""
    try:
        read_image(folder, row)
        if "source" in row:
            read_image(folder, row, "source")
    except (OSError, Damaged) as error:
        return str(error)
    return ""


class Damaged(RuntimeError):
    """A record that was good when the index was built and is not any more."""


def read_image(folder: Path, row: dict[str, Any], part: str = "") -> bytes:
    """The bytes of a record's image (of its `source` if that is the `part`), or Damaged."""
    place = row[part] if part else row
    # Opened for each read: thousands of shards stay below the limit on open files, and a forked
    # loader process shares no file position.
    try:
        file = os.open(folder / row["shard"], os.O_RDONLY)
    except FileNotFoundError as error:
        raise Damaged(_named(folder, row, "the shard is missing")) from error
    try:
        data = os.pread(file, place["bytes"], place["offset"])
    finally:
        os.close(file)
    if zlib.crc32(data) != place["crc32"]:
        raise Damaged(_named(folder, row, "its bytes changed since the index was built"))
    return data


def _named(folder: Path, row: dict[str, Any], what: str) -> str:
    return (
        f"record {row['key']} of {folder / row['shard']}: {what}; "
        f"leave it out with `unify data check {folder} --repair`, or restore the shard"
    )
