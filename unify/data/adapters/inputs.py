"""What an import takes: samples to judge, from whatever source they come."""

from dataclasses import dataclass

from unify.data.adapters.grouping import Place
from unify.data.adapters.verdicts import Bad


@dataclass
class Input:
    """One sample to import: its parts (PARTS of grouping.py), or the reason why it has none.

    A part is its bytes, or the place that they are read from.
    """

    origin: str  # file, or file and line, that it comes from
    key: str
    parts: dict[str, Place | bytes]
    bad: Bad | None = None


@dataclass
class Note:
    """A line of an import's report: how a source was read, what of it was skipped."""

    text: str
