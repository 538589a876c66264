"""The journal of a run: `journal.jsonl`, one JSON object per record, local and always written.

    {"step": 200, "kind": "train", "loss": 1.25, "loss/text": 0.5, ...,
     "data": {"vqa": {"samples": 1792, "hash": "9f0c..."}}}

`step` counts optimizer steps. Kinds: `train` holds what the seeds determine, so the train records
of a resumed run equal those of an uninterrupted one, bit by bit, and so do `gradients` records
and `curve` records, which hold scores on validation data at a few steps;
`health` holds what the machine determines (time, rates); `eval` holds scores; `note` holds words.
Everything else (MLflow, the report) is made from this file.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from unify.support.atomic_files import flush_to_disk, write_atomically

Kind = Literal["train", "health", "gradients", "validation", "curve", "eval", "note"]
FILE = "journal.jsonl"


class Journal:
    """Appends to and reads the journal of one run folder; one process writes at a time."""

    def __init__(self, folder: Path | str):
        self.path = Path(folder) / FILE
        self._has_folder = False  # whether this object has made its folder

    def write(self, step: int, kind: Kind, values: Mapping[str, Any]) -> None:
        """Append one record. Values are numbers, one-element tensors or texts."""
        record = {"step": step, "kind": kind} | {k: _plain(v) for k, v in values.items()}
        if not self._has_folder:  # a folder that is gone later is an error
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._has_folder = True
        with self.path.open("ab+") as file:
            _drop_torn_line(file)
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")

    def records(self, kind: Kind | None = None, lenient: bool = False) -> list[dict[str, Any]]:
        """All records, or those of one kind, in the order written; none where there is no file.

        A last line that a crash cut short is left out. Damage elsewhere raises ValueError; with
        `lenient`, as for a report, the records before it are returned.
        """
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.is_file() else []
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(_parse(line))
            except (ValueError, RecursionError) as error:
                if lenient:
                    break
                raise ValueError(
                    f"{self.path}, line {number} is damaged ({error}); remove that line to go on"
                ) from error
        return [record for record in records if kind in (None, record["kind"])]

    def cut(self, step: int) -> None:
        """Drop the records after optimizer step `step`: a run resumed there writes them anew."""
        if self.path.exists():
            kept = [record for record in self.records() if record["step"] <= step]
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in kept]
            write_atomically(self.path, "".join(lines))

    def flush(self) -> None:
        """Make sure that a power failure keeps everything written so far."""
        if self.path.exists():
            flush_to_disk(self.path)


class Consumed:
    """Multiset of the samples of each task that a run has read: their count and one hash.

    The hash is the sum of the samples' own hashes modulo 2^128 (a multiset hash; Clarke et al.,
    ASIACRYPT 2003), so how they were cut into steps, micro-batches and ranks does not count: two
    runs with equal hashes after equally many samples have read the same ones.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[int, int]] = {}  # (samples, sum)

    def add(self, task: str, keys: Sequence[str]) -> None:
        """Count samples of a task as read, by the keys that name them."""
        each = (hashlib.sha256(key.encode()).digest()[:16] for key in keys)
        self._add_sum(task, len(keys), sum(int.from_bytes(one, "big") for one in each))

    def _add_sum(self, task: str, samples: int, total: int) -> None:
        before = self.tasks.get(task, (0, 0))
        self.tasks[task] = before[0] + samples, (before[1] + total) % 2**128

    def state(self) -> dict[str, dict[str, Any]]:
        """Count and hash by task, as a journal record holds them under `data`."""
        return {
            task: {"samples": samples, "hash": f"{total:032x}"}
            for task, (samples, total) in self.tasks.items()
        }

    def join(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the samples that another, of this `state`, has read."""
        for task, read in state.items():
            self._add_sum(task, read["samples"], int(read["hash"], 16))


def _parse(line: bytes) -> dict[str, Any]:
    """One record; ValueError where the line is not one."""
    record = json.loads(line)
    if not isinstance(record, dict) or [type(record.get(k)) for k in ("step", "kind")] != [
        int,
        str,
    ]:
        raise ValueError("no record")
    return record


def _plain(value: Any) -> Any:
    """A JSON value: tensors and numpy numbers become Python's, NaN and infinity null."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _drop_torn_line(file: Any) -> None:
    """Remove an unfinished last line, so that the next record does not continue it."""
    end = file.seek(0, 2)
    file.seek(max(0, end - 1))
    if end and file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
