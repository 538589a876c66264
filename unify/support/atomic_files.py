"""Files written whole or not at all: a temporary file beside the target, fsync, rename."""

import errno
import hashlib
import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path`; after a crash at any moment it holds the old content or the new."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        staging.write_bytes(data)
        flush_to_disk(staging)
        os.replace(staging, path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """fsync a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
FULL_TORCH = "inline_container"  # the source file that torch.save's message names, and no reason


def is_full(error: BaseException) -> bool:
    """True if a full disk caused an error, by its message: libraries drop the errno."""
    return any(words in str(error) for words in (*FULL, FULL_TORCH))


def sha256(path: Path) -> str:
    """Hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
