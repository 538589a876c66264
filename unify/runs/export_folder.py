"""Export folders: the hash of their weights, and what is wrong with those of a run."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from unify.support.atomic_files import STAGING

WEIGHTS_NAMES = ("model.safetensors", "tokenizer.json")  # of a module, and of a vocabulary
DESCRIPTION = "config.json"  # class, arguments and hash: the one file that the hash does not cover


def weight_files(folder: Path) -> list[Path]:
    """The files that the hash of an export covers, in its order."""
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        path
        for path in names
        if path.is_file() and path.name != DESCRIPTION and not path.name.startswith(STAGING)
    ]


def check_own_export(folder: Path, run: Path) -> None:
    """ValueError where an export would be written beside other files, or over what is none.

    An export of `run` that lost its config.json is one.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give another --out")
    names = {path.name for path in folder.iterdir() if not path.name.startswith(STAGING)}
    others = sorted(names - {DESCRIPTION, *WEIGHTS_NAMES})
    in_run = folder.absolute().parent == run.absolute()
    ours = not names or in_run or _is_description(folder / DESCRIPTION)
    if others or not ours:
        what = f"holds {others[0]}" if others else "is not of unify's making"
        raise ValueError(f"{folder} is there and {what}; give another --out, or empty it")


def _is_description(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"class", "args", "hash"} <= content.keys()


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


def stamps(folder: Path) -> dict[str, list[int]]:
    """Size and time of writing (ns) of the files that the hash covers, by name."""
    return {p.name: [(at := p.stat()).st_size, at.st_mtime_ns] for p in weight_files(folder)}


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
