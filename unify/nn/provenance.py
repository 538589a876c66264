"""Provenance: the source of a part's weights, kept as two attributes of the part.

    pretrained     true: it brought weights, and `initialise` (nn/init.py) does not draw them
    source_hash    12 hex digits that name them: of an export, or of weight files (nn/frozen.py)

A class whose constructor loads weights says `pretrained = True` itself; all else goes through here.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """The provenance of one part; of a fresh one, neither."""

    pretrained: bool = False
    source_hash: str | None = None


def provenance(part: Any) -> Provenance:
    """The record of a part, or of a class before it is built."""
    return Provenance(bool(getattr(part, "pretrained", False)), getattr(part, "source_hash", None))


def mark_loaded(part: Any, source_hash: str | None = None) -> None:
    """Record that a part has its weights, and which they are, unless they have no name."""
    part.pretrained = True
    if source_hash is not None:
        part.source_hash = source_hash


def inherit_source(part: Any, whole: Provenance) -> None:
    """Record that a part's weights are from the source of `whole`, unless it has one of its own."""
    if whole.source_hash is not None and provenance(part).source_hash is None:
        part.source_hash = whole.source_hash


def forget_source(part: Any) -> None:
    """Record that a part's weights have no name: they were filled in from those of its parent."""
    vars(part).pop("source_hash", None)
