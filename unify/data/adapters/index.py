"""The index of a folder of tar shards: which records are good, where they lie, what is wrong.

Written beside the shards (webdataset layout: `KEY.jpg|png|webp`, `KEY.txt`, `KEY.json`; of an edit
also `KEY.source.jpg|png|webp`):

    index.json      counts, size and sha256 of every shard and of the other files, and of itself
    records.jsonl   a line per good record: key, shard, offset, bytes, crc32, height, width, text
    columns.npz     the same records as columns (see columns.py)
    verdicts.jsonl  a line per record that is left out: shard, key, reason, detail

Every record gets one verdict when the index is built: it is listed, or left out under a reason.
Rows are written as they come: memory does not grow with the number of records.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from unify.data.adapters.columns import write_columns
from unify.data.adapters.ordered_pool import in_order
from unify.data.adapters.reading import read_parts
from unify.data.adapters.report import Report, Survey
from unify.data.adapters.stored import FORMAT, digest
from unify.data.adapters.tar import samples
from unify.data.adapters.verdicts import Bad, Verdict, judge
from unify.support.atomic_files import flush_to_disk, sha256

Row = dict[str, Any]
STAGED = ".index.json.partial"  # the index.json of files that wait for their names


def indexed(path: Path, pixels: bool = True) -> Iterator[Row | Verdict]:
    """Rows and verdicts of one shard; `pixels`: decode every image, not only its header."""
    for item in samples(path):
        if isinstance(item, Verdict):
            yield item
            continue
        try:
            parts, aside = read_parts(item.parts)
            row = judge(parts, pixels)
        except Bad as bad:
            yield Verdict(path.name, item.key, bad.reason, bad.detail)
            continue
        except Exception as error:  # no record may end the reading of all others
            yield Verdict(path.name, item.key, "unreadable", f"{type(error).__name__}: {error}")
            continue
        yield from (Verdict(path.name, *one) for one in aside)
        images = [part for part in parts if part in ("image", "source")]
        offsets = {part: item.parts[part].offset for part in images}
        yield placed(item.key, path.name, offsets, parts, row)


def placed(
    key: str, shard: str, offsets: Mapping[str, int], parts: Mapping[str, bytes], row: Row
) -> Row:
    """A row of the index from what `judge` says and where its images are in the shard."""
    places = {
        part: {"offset": offset, "bytes": len(parts[part]), "crc32": zlib.crc32(parts[part])}
        for part, offset in offsets.items()
    }
    place = places.pop("image") | places  # the source image has its place under "source"
    return {"key": key, "shard": shard, **place, **row}


def index_folder(folder: str | Path, pixels: bool = True, workers: int = 0) -> Report:
    """Scan every tar of a folder and write its index.

    Args:
        pixels: decode every image, not only its header.
        workers: processes that scan a shard each; below 2, this one does.

    ValueError if the folder holds no tar.
    """
    folder = Path(folder)
    if not shard_files(folder):
        raise ValueError(f"{folder} holds no .tar; make shards with `unify data import SRC OUT`")
    with writing(folder) as writer:
        for item in rows_of(shard_files(folder), pixels, workers):
            writer.add(item)
        return writer.finish()


def rows_of(paths: list[Path], pixels: bool, workers: int = 0) -> Iterator[Row | Verdict]:
    """Rows and verdicts of several shards in order; a worker holds those of a shard at a time."""
    if workers < 2:
        for path in paths:
            yield from indexed(path, pixels)
    else:
        for some in in_order(partial(_indexed, pixels=pixels), paths, workers):
            yield from some


def _indexed(path: Path, pixels: bool) -> list[Row | Verdict]:
    return list(indexed(path, pixels))


def shard_files(folder: Path) -> list[Path]:
    """The tars of a folder, in order."""
    return [path for path in sorted(folder.glob("*.tar")) if path.is_file()]


class IndexWriter:
    """Writes the files of an index row by row; `finish` puts them in their places.

    An older index stays until all files of the new one are on the disk, its index.json under the
    name STAGED. From then on the new one counts: what is left to rename, `put_in_place` renames.
    """

    def __init__(self, folder: Path, kept: tuple[int, int] = (0, 0)):
        """`kept`: bytes of records and verdicts that are kept of a writer that did not finish."""
        self.folder = folder
        self.paths = [folder / f".{name}.partial" for name in ("records.jsonl", "verdicts.jsonl")]
        for path, size in zip(self.paths, kept, strict=True):
            path.touch()
            os.truncate(path, size)
        self._records, self._verdicts = (path.open("ab") for path in self.paths)

    def add(self, item: Row | Verdict | bytes) -> None:
        """A row (or its line, as it was written before), or a verdict."""
        if isinstance(item, Verdict):
            self._verdicts.write(json.dumps(asdict(item)).encode() + b"\n")
        elif isinstance(item, bytes):
            self._records.write(item)
        else:
            self._records.write(json.dumps(item, ensure_ascii=False).encode() + b"\n")

    def saved(self) -> tuple[int, int]:
        """Write to the disk what was added so far; its bytes, of records and verdicts."""
        for file in (self._records, self._verdicts):
            file.flush()
            os.fsync(file.fileno())
        return self._records.tell(), self._verdicts.tell()

    def finish(self, shards: Mapping[str, Mapping[str, Any]] | None = None) -> Report:
        """Write the index; `shards` has bytes and sha256 of each where these are known."""
        self.saved()
        self._records.close()
        self._verdicts.close()
        folder, survey, (records, verdicts) = self.folder, Survey(), self.paths
        columns = folder / ".columns.npz.partial"
        write_columns(columns, records, survey.add)
        if shards is None:
            files = shard_files(folder)
            shards = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
        left_out = Counter(reasons(verdicts))
        summary: dict[str, Any] = {
            "format": FORMAT,
            "records": sum(survey.records.values()),
            "left_out": dict(sorted(left_out.items())),
            "sha256": sha256(records),
            "columns": {"sha256": sha256(columns)},
            "shards": {k: {**v, "records": survey.records[k]} for k, v in shards.items()},
        }
        summary["digest"] = digest(summary)
        flush_to_disk(columns)
        staged = folder / STAGED
        staged.write_bytes(json.dumps(summary, indent=1).encode())
        flush_to_disk(staged)
        _rename(folder)
        report = Report(str(folder), summary["records"], len(shards), left_out)
        report.notes = survey.lines()
        return report


def put_in_place(folder: Path) -> bool:
    """Give the files of a whole index their names; False if none waits for that.

    A call that is killed is finished by the next one. What is left of an index that is not whole
    is removed.
    """
    staged = folder / STAGED
    if not staged.is_file():
        return False
    try:
        summary = json.loads(staged.read_bytes())
        wanted = {"records.jsonl": summary["sha256"], "columns.npz": summary["columns"]["sha256"]}
        whole = summary["digest"] == digest(summary)
        for name, expected in wanted.items():
            waiting = folder / f".{name}.partial"
            path = waiting if waiting.is_file() else folder / name
            whole = whole and sha256(path) == expected
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        whole = False
    if whole:
        _rename(folder)
    else:
        staged.unlink()
    return whole


def _rename(folder: Path) -> None:
    """Give the files of an index that wait for their names these; its index.json comes last."""
    for name in ("records.jsonl", "verdicts.jsonl", "columns.npz"):
        if (folder / f".{name}.partial").is_file():
            (folder / f".{name}.partial").replace(folder / name)
    (folder / STAGED).replace(folder / "index.json")
    flush_to_disk(folder)


@contextmanager
def writing(folder: Path) -> Iterator[IndexWriter]:
    """A writer of which nothing is left if it does not come so far that its index is whole."""
    writer = IndexWriter(folder)
    try:
        yield writer
    except BaseException:
        for path in [] if (folder / STAGED).exists() else writer.paths:
            path.unlink(missing_ok=True)
        raise


def reasons(verdicts: Path) -> Iterable[str]:
    """The reasons in a verdicts.jsonl; of a line that is damaged, none."""
    with verdicts.open("rb") as file:
        for line in file:
            try:
                yield str(json.loads(line)["reason"])
            except (ValueError, LookupError, TypeError, RecursionError):
                continue
