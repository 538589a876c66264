"""Damage since an index was built: found by reading everything, and left out for good."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unify.data.adapters.columns import agree
from unify.data.adapters.index import (
    IndexWriter,
    index_folder,
    put_in_place,
    rows_of,
    shard_files,
    writing,
)
from unify.data.adapters.report import Report
from unify.data.adapters.stored import (
    OLDER,
    Damaged,
    damaged,
    read_image,
    read_summary,
    size,
)
from unify.data.adapters.target import locked
from unify.data.adapters.verdicts import Verdict
from unify.support.atomic_files import sha256
from unify.support.stop_protocol import PlainError

Summary = dict[str, Any]


def check(folder: str | Path, repair: bool = False, workers: int = 0) -> Report:
    """Compare every byte with the index; `repair` lists what is still good, or builds an index.

    A record whose image changed is damaged for good, even if it still decodes: it is left out.
    `workers` read shards that no index lists. ValueError if there is no index, or a damaged one,
    and `repair` is not asked for; PlainError if another process repairs the folder.
    """
    folder = Path(folder)
    if not repair:
        return _checked(folder, False, workers)
    with _only_repair(folder):
        put_in_place(folder)  # what a repair that was killed had written
        return _checked(folder, True, workers)


@contextmanager
def _only_repair(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder's repairs; nothing is left of it."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name one of shards")
    path = folder / ".repair.lock"
    lock = locked(path)
    if lock is None:
        raise PlainError(f"another process is repairing {folder}; wait for it, or end it")
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _checked(folder: Path, repair: bool, workers: int) -> Report:
    try:
        summary = read_summary(folder)
        if not _same(folder / "records.jsonl", summary["sha256"]):
            raise damaged(folder, "records.jsonl changed")
    except ValueError:
        if not repair:
            raise
        return index_folder(folder, workers=workers)
    older = summary["format"] == OLDER
    intact = agree(folder) if older else _same(folder / "columns.npz", summary["columns"]["sha256"])
    if not (intact or repair):
        raise damaged(folder, "columns.npz changed")
    if not repair:
        report = _report(folder, summary, 0)
        for item in _compared(folder, summary):
            if isinstance(item, Verdict):
                report.damage.append(item)
            else:
                report.records += 1
        return report
    return _repaired(folder, summary, older or not intact, workers)


def _report(folder: Path, summary: Summary, records: int) -> Report:
    return Report(str(folder), records, len(summary["shards"]), Counter(summary["left_out"]))


def _repaired(folder: Path, summary: Summary, stale: bool, workers: int) -> Report:
    """Write the index of what is still good; nothing is written if all of it is."""
    with writing(folder) as writer:
        records, damage = 0, list[Verdict]()
        for item in _compared(folder, summary):
            if isinstance(item, Verdict):
                damage.append(item)
            else:
                writer.add(item)
                records += 1
        if not (damage or stale):
            for path in writer.paths:
                path.unlink()
            return _report(folder, summary, records)
        _keep_verdicts(folder, writer)
        for verdict in damage:
            if verdict.key:
                writer.add(verdict)
        new = [folder / v.shard for v in damage if v.reason == "unlisted_shard"]
        for found in rows_of(new, True, workers):
            writer.add(found)
        return writer.finish()


def _keep_verdicts(folder: Path, writer: IndexWriter) -> None:
    """Add the verdicts of the older index, but for lines that cannot be read."""
    path = folder / "verdicts.jsonl"
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                writer.add(Verdict(**json.loads(line)))
            except (ValueError, TypeError, RecursionError):
                continue


def _compared(folder: Path, summary: Summary) -> Iterator[bytes | Verdict]:
    """The line of every good record, and a verdict on every damaged record or changed shard."""
    shards = summary["shards"]
    changed = {name: _changed(folder / name, shard) for name, shard in shards.items()}
    yield from (Verdict(name, "", "changed_shard", why) for name, why in changed.items() if why)
    for path in shard_files(folder):
        if path.name not in changed:
            yield Verdict(path.name, "", "unlisted_shard")
    with (folder / "records.jsonl").open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
                shard, key = str(row["shard"]), str(row["key"])
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise damaged(folder, "a line of records.jsonl is none") from error
            why = _damage(folder, row) if changed.get(shard, "not listed") else ""
            yield Verdict(shard, key, "damaged_record", why) if why else line


def _changed(path: Path, shard: dict[str, Any]) -> str:
    """The difference between a shard and its entry in the index; "" if there is none."""
    found = size(path)
    if found is None:
        return "missing"
    if found != shard["bytes"]:
        return f"{found:,} bytes instead of {shard['bytes']:,}"
    return "" if sha256(path) == shard["sha256"] else "sha256 differs"


def _damage(folder: Path, row: dict[str, Any]) -> str:
    """The fault of an image of a record; "" if it has the bytes that were indexed."""
    if "/" in row["shard"] or not (folder / row["shard"]).is_file():
        return "the shard is missing"
    try:
        read_image(folder, row)
        if "source" in row:
            read_image(folder, row, "source")
    except (OSError, Damaged) as error:
        return str(error)
    return ""


def _same(path: Path, digest: str) -> bool:
    """True if the file is there with this SHA-256."""
    return path.is_file() and sha256(path) == digest
