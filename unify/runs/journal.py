"""The journal of a run: `journal.jsonl`, one JSON object per record, local and always written.

    {"step": 200, "kind": "train", "loss": 1.25, "loss/text": 0.5, ...,
     "data": {"vqa": {"samples": 1792, "hash": "9f0c..."}}}

`step` counts optimizer steps. Kinds: `train` holds what the seeds determine, so the train records
of a resumed run equal those of an uninterrupted one, bit by bit, and so do `gradients` records;
`health` holds what the machine determines (time, rates); `eval` holds scores; `note` holds words.
Everything else (MLflow, the report) is made from this file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from unify.support.atomic_files import flush_to_disk, write_atomically

Kind = Literal["train", "health", "gradients", "validation", "eval", "note"]
FILE = "journal.jsonl"


class Journal:
    """Appends to and reads the journal of one run folder; one process writes at a time."""

    def __init__(self, folder: Path | str):
        self.path = Path(folder) / FILE
        self._there = False  # whether this object has seen to its folder

    def write(self, step: int, kind: Kind, values: Mapping[str, Any]) -> None:
        """Append one record. Values are numbers, one-element tensors or texts."""
        record = {"step": step, "kind": kind} | {k: _plain(v) for k, v in values.items()}
        if not self._there:  # a folder that is gone later is an error
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._there = True
        with self.path.open("ab+") as file:
            _drop_torn_line(file)
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")

    def records(self, kind: Kind | None = None) -> list[dict[str, Any]]:
        """All records, or those of one kind, in the order written.

        A last line that a crash cut short is left out; damage elsewhere raises ValueError.
        """
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                said = isinstance(record, dict) and [type(record.get(k)) for k in ("step", "kind")]
                if said != [int, str]:
                    raise ValueError("no record")
                found.append(record)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{self.path}, line {number} is damaged ({error}); remove that line to go on"
                ) from error
        return [record for record in found if kind in (None, record["kind"])]

    def cut(self, step: int) -> None:
        """Drop what was written after optimizer step `step`: a run resumed there writes it anew."""
        if self.path.exists():
            kept = [record for record in self.records() if record["step"] <= step]
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in kept]
            write_atomically(self.path, "".join(lines))

    def flush(self) -> None:
        """Make sure that a power failure keeps everything written so far."""
        if self.path.exists():
            flush_to_disk(self.path)


class Consumed:
    """Which samples of each task a run has read: how many, and a hash of all of them.

    The hash is the sum of the samples' own hashes modulo 2^128 (a multiset hash; Clarke et al.,
    ASIACRYPT 2003), so how they were cut into steps, micro-batches and ranks does not count: two
    runs with equal hashes after equally many samples have read the same ones.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[int, int]] = {}  # (samples, sum)

    def add(self, task: str, keys: Sequence[str]) -> None:
        each = (hashlib.sha256(key.encode()).digest()[:16] for key in keys)
        self._more(task, len(keys), sum(int.from_bytes(one, "big") for one in each))

    def _more(self, task: str, samples: int, total: int) -> None:
        before = self.tasks.get(task, (0, 0))
        self.tasks[task] = before[0] + samples, (before[1] + total) % 2**128

    def state(self) -> dict[str, dict[str, Any]]:
        """`{"vqa": {"samples": 1792, "hash": "9f0c..."}}`."""
        return {
            task: {"samples": samples, "hash": f"{total:032x}"}
            for task, (samples, total) in self.tasks.items()
        }

    def join(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what another has read."""
        for task, read in state.items():
            self._more(task, read["samples"], int(read["hash"], 16))


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
