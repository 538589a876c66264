"""Files written whole or not at all: a temporary file beside the target, fsync, rename.

Every file that this project writes passes through here (tests/house/test_file_writes.py lists the
exceptions), so that a crash or a full disk leaves the old file or the new one, and a file has the
mode that the user's umask gives.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from unify.support.stop_protocol import PlainError

FULL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL = tuple(map(os.strerror, FULL_CODES))
STAGING = ".tmp-"  # begins the name of a file that is being written
FULL_TORCH = "inline_container"  # the source file that torch.save's message names, and no reason


class DiskFull(PlainError, OSError):
    """A file could not be written for lack of room; what it held before is still there."""

    def __init__(self, path: Path, reason: str):
        near = next((p for p in path.absolute().parents if p.is_dir()), Path("/"))
        free = shutil.disk_usage(near).free / 2**20
        super().__init__(
            f"{path} was not written: the disk is full ({reason}; {free:,.1f} MiB are free); make "
            "room, and give the same command again"
        )
        self.errno = errno.ENOSPC


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path`; after a crash at any moment it holds the old content or the new.

    DiskFull where there is no room.
    """
    write_together({path: content})


def write_together(files: Mapping[Path, str | bytes]) -> None:
    """Replace several files, none of them before all are on the disk. DiskFull without room."""
    with ExitStack() as stack:
        staged = {path: stack.enter_context(_staged(path)) for path in files}
        for path, content in files.items():
            with _full_disk_named(path):
                staged[path].write_bytes(content.encode() if isinstance(content, str) else content)
                flush_to_disk(staged[path])
        for path, staging in staged.items():
            with _full_disk_named(path):
                os.replace(staging, path)
    for folder in {path.parent for path in files}:
        flush_to_disk(folder)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path for a library to write to; the file replaces `path` at the end, unless this fails.

    The mode is what the umask gives, whatever the library chose.
    """
    with _full_disk_named(path), _staged(path) as staging:
        staging.touch()
        mode = staging.stat().st_mode
        yield staging
        os.chmod(staging, mode)
        flush_to_disk(staging)
        os.replace(staging, path)
    flush_to_disk(path.parent)


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """The path of a temporary file beside `path`; it is removed at the end if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f"{STAGING}{os.getpid()}-{path.name}")
    try:
        yield staging
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_full(error) and not isinstance(error, DiskFull):
            raise DiskFull(path, getattr(error, "strerror", None) or str(error)) from error
        raise


def flush_to_disk(path: Path) -> None:
    """fsync a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """True if a full disk caused an error, by its message: libraries drop the errno."""
    return any(words in str(error) for words in (*FULL, FULL_TORCH))


def sha256(path: Path) -> str:
    """Hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
