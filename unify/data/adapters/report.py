"""What an import, a check or an index found: counts, and how long the texts and pictures are."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from unify.data.adapters.verdicts import Verdict


@dataclass
class Report:
    """Result of reading a folder of shards; `verdicts` counts records left out, by reason."""

    folder: str
    records: int = 0
    shards: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    damage: list[Verdict] = field(default_factory=list)  # found by `check`, not by the index
    notes: list[str] = field(default_factory=list)  # of an import: how it read, what it skipped

    @property
    def ok(self) -> bool:
        return not self.damage

    def lines(self) -> list[str]:
        """The report as text, a line per fact."""
        out = [f"{self.folder}: {self.records:,} records in {self.shards:,} shard(s)"]
        out += [f"  {note}" for note in self.notes]
        out += [f"  left out, {reason}: {n:,}" for reason, n in sorted(self.verdicts.items())]
        if self.notes and self.verdicts:
            out.append(f"  each with its place and reason: {self.folder}/verdicts.jsonl")
        out += [f"  {v.reason} {v.shard} {v.key} {v.detail}".rstrip() for v in self.damage[:20]]
        if len(self.damage) > 20:
            out.append(f"  ... and {len(self.damage) - 20:,} more")
        return out


class Survey:
    """Distributions over the rows of an index: lengths of texts, sizes of pictures.

    Counts by value, so its memory depends on how many lengths and sides there are, not on records.
    """

    def __init__(self) -> None:
        self.records: Counter[str] = Counter()  # by shard
        self.counts: dict[str, Counter[int]] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Count a row."""
        self.records[row["shard"]] += 1
        for name in ("text", "instruction"):
            if name in row:
                self._count(f"{NAMES[name]}, characters", len(row[name]))
        for turn in row.get("turns", ()):
            self._count("questions, characters", len(turn["question"]))
            self._count("answers, characters", len(turn["answer"]))
        self._count("pictures, shorter side in pixels", min(row["height"], row["width"]))
        self._count("pictures, longer side in pixels", max(row["height"], row["width"]))
        self._count("pictures, KiB", -(-row["bytes"] // 1024))

    def _count(self, name: str, value: int) -> None:
        self.counts.setdefault(name, Counter())[value] += 1

    def lines(self) -> list[str]:
        """A line for each distribution: smallest, quantiles, largest."""
        return [f"{name}: {quantiles(counts)}" for name, counts in sorted(self.counts.items())]


NAMES = {"text": "captions", "instruction": "instructions"}
SHARES = {0.5: "half", 0.9: "90%", 0.99: "99%"}


def quantiles(counts: Counter[int]) -> str:
    """Counts by value -> `3 to 812; half at most 54, 90% at most 120, 99% at most 300 (of 900)`."""
    total, seen, wanted = sum(counts.values()), 0, dict(SHARES)
    parts = []
    for value in sorted(counts):
        seen += counts[value]
        while wanted and seen >= next(iter(wanted)) * total:
            parts.append(f"{wanted.pop(next(iter(wanted)))} at most {value:,}")
    least, most = min(counts), max(counts)
    if least == most:
        return f"{least:,} (of {total:,})"
    return f"{least:,} to {most:,}; {', '.join(parts)} (of {total:,})"
