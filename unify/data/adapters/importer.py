"""Pictures with captions from wherever they are (see sources.py) -> indexed tar shards.

Nothing is downloaded, unpacked to disk or executed; the image bytes are copied as they are. Bad
inputs are left out and get a verdict each in `verdicts.jsonl`; `origins.jsonl` says where each
record came from.

Samples are taken one after another: memory does not grow with their number. After every shard the
import notes how far it is, so one that was killed goes on from there (see unfinished.py).
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from unify.data.adapters.damage import check
from unify.data.adapters.index import reasons
from unify.data.adapters.inputs import Input, Note
from unify.data.adapters.ordered_pool import in_order
from unify.data.adapters.reading import read_parts
from unify.data.adapters.report import Report
from unify.data.adapters.sources import opened
from unify.data.adapters.stored import read_summary
from unify.data.adapters.tables import TableOptions
from unify.data.adapters.target import check_target, staging
from unify.data.adapters.unfinished import Unfinished, completed
from unify.data.adapters.verdicts import Bad, Verdict, judge
from unify.support.stop_protocol import PlainError

__all__ = ["check", "import_images", "write_shards"]

PER_SHARD, SHARD_BYTES = 10_000, 512_000_000
TOGETHER, TOGETHER_BYTES = 64, 16_000_000  # samples that a worker is given at once, and their bytes


@dataclass
class Judged:
    """A good sample: its bytes, and the facts of its row in the index."""

    origin: str
    key: str
    parts: dict[str, bytes]
    row: dict[str, Any]
    aside: list[Verdict] = field(default_factory=list)  # on what was left out of it


def import_images(
    source: str | Path,
    out: str | Path,
    image: str = "",
    text: str = "",
    per_shard: int = PER_SHARD,
    shard_bytes: int = SHARD_BYTES,
    workers: int = 0,
    **table: Any,
) -> Report:
    """Write `source` (see sources.py) as shards and index into the folder `out`.

    Args:
        image, text: columns of a table, where their names are not the usual ones.
        per_shard: most records of a shard.
        shard_bytes: size at which a shard is closed.
        workers: processes that read and decode; below 2, this one does.
        table: further arguments of TableOptions.

    ValueError if the source is of no known kind, has nothing usable, or `out` is not empty; nothing
    is left behind then. After any other end, the same call goes on where it was.
    """
    source, options = Path(source), TableOptions(image, text, **table)
    _check_free(Path(out))  # before a source of a million files is listed
    items, state = opened(source, options, ignored=staging(Path(out)))
    settings = [str(source.absolute()), state, vars(options)]
    return write_shards(items, out, per_shard, shard_bytes, workers, settings)


def write_shards(
    items: Iterable[Input | Verdict | Note],
    out: str | Path,
    per_shard: int = PER_SHARD,
    shard_bytes: int = SHARD_BYTES,
    workers: int = 0,
    settings: Any = None,
) -> Report:
    """Write `out/shard-000000.tar` ... and the index: all of it, or nothing on a ValueError.

    Args:
        items: samples, verdicts on what was none, lines for the report; the same ones on each call.
        per_shard, shard_bytes: records and bytes at which a shard is closed.
        workers: processes that read and decode; below 2, this one does.
        settings: what the items depend on, as JSON. An unfinished import of equal settings goes on;
            one of others is removed.

    ValueError if `out` is not empty, or no input is usable.
    """
    out = Path(out)
    settings = [settings, per_shard, shard_bytes]
    try:
        _check_free(out)
        if completed(out, settings):
            summary = read_summary(out)
            left_out = Counter(summary["left_out"])
            return Report(str(out), summary["records"], len(summary["shards"]), left_out)
        _check_empty(out)
        with Unfinished(out, settings) as work:
            _write(examined(islice(items, work.done, None), workers), work, per_shard, shard_bytes)
            if not work.records:
                raise ValueError(f"no usable image was found to write to {out} ({_why(work)})")
            return work.finish()
    except (OSError, sqlite3.Error) as error:
        raise PlainError(
            f"{error}; the same command goes on from what was written so far, which is in "
            f"{staging(out)} (remove it to give up)"
        ) from error


def _check_free(out: Path) -> None:
    """ValueError if something is in the way of the folder `out`, or of its unfinished import."""
    try:
        check_target(out)
        if not staging(out).exists():  # else it may be whole, and its import not yet at its end
            _check_empty(out)
    except OSError as error:  # no permission; a name that is too long
        raise PlainError(f"{out} cannot become a folder of shards: {error}") from error


def _check_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; choose another folder, or remove it")


def _write(
    items: Iterator[Judged | Verdict | Note], work: Unfinished, per_shard: int, shard_bytes: int
) -> None:
    for number, item in enumerate(items, work.done):
        if isinstance(item, Note):
            work.notes.append(item.text)
        elif isinstance(item, Verdict):
            work.index.add(item)
        else:
            if work.in_shard >= per_shard or work.shard_size >= shard_bytes:
                work.close_shard(number)
            work.add(item.key, item.origin, item.parts, item.row)
            for verdict in item.aside:
                work.index.add(verdict)
    work.close_shard(-1)


def _why(work: Unfinished) -> str:
    """Counts by reason, the first verdict, and what was skipped."""
    work.index.saved()
    counts = Counter(reasons(work.index.paths[1]))
    told = [f"{reason}: {n}" for reason, n in counts.items()]
    with work.index.paths[1].open("rb") as file:
        if line := file.readline():
            first = Verdict(**json.loads(line))
            told.append(f"the first is {first.shard} {first.key}: {first.detail or first.reason}")
    told += [note for note in work.notes if note.startswith("skipped")]
    return ", ".join(told) or "none"


# Reading and judging, here or in workers


def examined(
    items: Iterator[Input | Verdict | Note], workers: int
) -> Iterator[Judged | Verdict | Note]:
    """One result for each item, in order."""
    if workers < 2:
        yield from map(_examined, items)
    else:
        for some in in_order(_all_examined, _together(items), workers):
            yield from some


def _together(items: Iterator[Any]) -> Iterator[list[Any]]:
    some: list[Any] = []
    size = 0
    for item in items:
        some.append(item)
        size += _size(item) if isinstance(item, Input) else 0
        if len(some) >= TOGETHER or size >= TOGETHER_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _size(item: Input) -> int:
    """Bytes of a sample's pictures; 0 for what cannot be read."""
    total = 0
    for part in ("image", "source"):
        place = item.parts.get(part)
        if isinstance(place, bytes):
            total += len(place)
        elif place is not None and place.size is not None:
            total += place.size
        elif place is not None:
            try:
                total += os.stat(place.path).st_size
            except (OSError, ValueError):
                continue
    return total


def _all_examined(items: list[Any]) -> list[Judged | Verdict | Note]:
    return [_examined(item) for item in items]


def _examined(item: Input | Verdict | Note) -> Judged | Verdict | Note:
    """Read and judge one sample; a verdict for a bad one."""
    if not isinstance(item, Input):
        return item
    try:
        if item.bad:
            raise item.bad
        parts, aside = read_parts(item.parts)
        row = judge(parts)
    except Bad as bad:
        return Verdict(item.origin, item.key, bad.reason, bad.detail)
    except Exception as error:  # no record may end an import
        return Verdict(item.origin, item.key, "unreadable", f"{type(error).__name__}: {error}")
    verdicts = [Verdict(item.origin, *one) for one in aside]
    return Judged(item.origin, item.key, parts, row, verdicts)
