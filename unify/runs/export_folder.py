"""Export folders: the hash of their weights, and what is wrong with those of a run."""

import functools
import hashlib
from pathlib import Path
from typing import Any

from unify.support.atomic_files import STAGING

DESCRIPTION = "config.json"  # class, arguments and hash: the one file that the hash does not cover


def weight_files(folder: Path) -> list[Path]:
    """The files that the hash of an export covers, in its order."""
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        path
        for path in names
        if path.is_file() and path.name != DESCRIPTION and not path.name.startswith(STAGING)
    ]


def hash_files(folder: Path) -> str:
    """The hash, 12 hex digits, of every file of an export except its config.json."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        add_file(digest, path)
    return digest.hexdigest()[:12]


def add_file(digest: Any, path: Path) -> None:
    """Add the name and the content of one of the `weight_files`."""
    digest.update(path.name.encode())
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)


@functools.lru_cache(maxsize=1024)
def _known(folder: Path, _: tuple[Any, ...]) -> str:
    return hash_files(folder)


def hash_of_unchanged(folder: Path) -> str:
    """`hash_files`; files are read again only if one was written since."""
    stamps = [
        (p.name, (at := p.stat()).st_size, at.st_mtime_ns, at.st_ino, at.st_ctime_ns)
        for p in weight_files(folder)
    ]
    return _known(folder.absolute(), tuple(stamps))
