"""The folder of a published study: `published.json` and `outcomes.npz`, a few hundred kilobytes.

`unify report STUDY --publish FOLDER` writes it, and `unify study F --against FOLDER` reads it. What
its JSON says is in answers/publish.py; docs/studies.md describes the format. The JSON holds the
hash of outcomes.npz and one over all else that it says: who reads it finds out what was edited, cut
or mixed with another study's. Whoever forges both hashes, too, is not found out.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from unify.runs.stored_scores import HASH, UNREADABLE, content_hash, pack_outcomes
from unify.support.atomic_files import STAGING, sha256, write_together
from unify.support.strict_json import (
    Types,
    damaged,
    read_mapping,
    strict_json,
    wrong_type,
)

AGAINST = "against"  # in a study's folder: the copy of the folder that it is compared with
PUBLISHED, OUTCOMES = "published.json", "outcomes.npz"
FORMAT, VERSION = "unify published study", 1  # raised when a reader of the one before would misread
MOST_BYTES = 2**28  # of outcomes, unpacked: a folder may come from anywhere
AGAIN = (
    "get the folder anew from where it was published, or write it with `unify report STUDY "
    "--publish`"
)
ARM: Types = {
    **dict.fromkeys(("config", "tasks", "outcomes"), dict),
    **dict.fromkeys(("paradigm", "doc", "file"), str),
    **dict.fromkeys(("runs", "scores", "needs"), list),
}
CONTENT: Types = {
    **dict.fromkeys(("arms", "needed"), dict),
    **dict.fromkeys(("study", "title", "unify", "created", "replicate", HASH, OUTCOMES), str),
    **dict.fromkeys(("passports", "primary"), list),
}


@dataclass(frozen=True)
class PublishedFolder:
    """A folder that was read and found whole: what its JSON says, and outcomes by name."""

    content: dict[str, Any]
    outcomes: dict[str, np.ndarray]

    @property
    def hash(self) -> str:
        """12 hex digits over all of it."""
        return str(self.content[HASH])


def write_published(
    folder: Path, content: Mapping[str, Any], outcomes: Mapping[str, np.ndarray]
) -> str:
    """Write both files, neither before both are on the disk; returns the hash.

    ValueError for a folder that holds something else: nothing of another's is replaced.
    """
    check_own_folder(folder)
    packed = pack_outcomes(dict(outcomes))
    about = {"format": FORMAT, "version": VERSION}
    whole = {**about, **content, OUTCOMES: hashlib.sha256(packed).hexdigest()}
    whole = json.loads(strict_json(whole))  # as it will be read
    whole[HASH] = content_hash(whole)
    write_together({folder / OUTCOMES: packed, folder / PUBLISHED: strict_json(whole, None)})
    return str(whole[HASH])


def copy_published(source: Path, target: Path) -> None:
    """Copy a folder that `read_published` found whole into `target`, whole or not at all."""
    if source.absolute() != target.absolute():
        files = (OUTCOMES, PUBLISHED)
        write_together({target / name: (source / name).read_bytes() for name in files})


def check_own_folder(folder: Path) -> None:
    """ValueError for a folder that is there and is not of a published study."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for what is published")
    names = {path.name for path in folder.iterdir() if not path.name.startswith(STAGING)}
    others = sorted(names - {PUBLISHED, OUTCOMES})
    ours = not (folder / OUTCOMES).exists() or (folder / PUBLISHED).is_file()
    if others or not ours:
        raise ValueError(
            f"{folder} holds {(others or [OUTCOMES])[0]}, which is not of a published study; name "
            "another folder, or a new one"
        )


def read_published(folder: Path) -> PublishedFolder:
    """Read a folder. ValueError, with the remedy, for one that is none, cut, edited or newer."""
    path = folder / PUBLISHED
    if not path.is_file():
        raise ValueError(
            f"{folder} is no published study: it has no {PUBLISHED}; name a folder that `unify "
            "report STUDY --publish` wrote"
        )
    content = read_mapping(path, AGAIN, {})
    if content.get("format") != FORMAT:
        raise ValueError(damaged(path, f"its format is {content.get('format')!r:.60}", AGAIN))
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path} is of format {content.get('version')!r:.20}, and this unify reads {VERSION}: "
            f"install the unify that wrote it ({content.get('unify')!s:.40}) or a newer one"
        )
    _check_hashes(path, content)
    if wrong := _wrong(content):
        raise ValueError(damaged(path, wrong, AGAIN))
    return PublishedFolder(content, _read_outcomes(folder / OUTCOMES))


def _check_hashes(path: Path, content: Mapping[str, Any]) -> None:
    """ValueError if one of the two files is not as it was written."""
    outcomes = path.with_name(OUTCOMES)
    if not outcomes.is_file():
        raise ValueError(f"{outcomes} is gone; {AGAIN}")
    for file, now, then in (
        (path, content_hash(content), content.get(HASH)),
        (outcomes, sha256(outcomes), content.get(OUTCOMES)),
    ):
        if now != then:
            raise ValueError(
                f"{file} has changed since it was written (its hash is {now:.12}, and was "
                f"{then!s:.12}); {AGAIN}"
            )


def _wrong(content: Mapping[str, Any]) -> str:
    """What is wrong with the JSON, whose hash is right; an empty text if nothing is."""
    arms = content.get("arms")
    if wrong := wrong_type(content, CONTENT) or ("" if arms else "it names no arms"):
        return wrong
    each = [wrong_type(arm, ARM) for arm in (arms or {}).values()]
    return next(filter(None, each), "")


def _read_outcomes(path: Path) -> dict[str, np.ndarray]:
    """The arrays, whose sizes are looked at before they are unpacked."""
    try:
        packed = path.read_bytes()
        with ZipFile(io.BytesIO(packed)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"it unpacks to {size / 2**20:,.0f} MiB")
        with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except UNREADABLE as error:
        raise ValueError(damaged(path, str(error), AGAIN)) from error
