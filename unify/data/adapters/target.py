"""Where an import writes: the folder OUT, and `.OUT.partial` beside it while it is unfinished.

Both names are looked at before anything is read. A folder of `.OUT.partial` is ours if it has the
state that an import keeps there, or nothing in it yet; nothing of another's is opened, emptied or
removed, and no link is followed.
"""

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

LOCK, DATA, STATE = "lock", "data", "state.sqlite"
JOURNAL = f"{STATE}-journal"
NFS = ".nfs"  # begins what a file that is still open is called after its removal
# How the first table of the state is made; SQLite keeps this text in the file's first page.
KEYS = "keys (key TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID"
PAGE = 1 << 16  # bytes; the largest page of SQLite


def staging(out: Path) -> Path:
    """The folder of an unfinished import: beside `out`, so that the rename is atomic."""
    return out.with_name(f".{out.name}.partial")


def check_target(out: Path) -> None:
    """ValueError if `out` cannot become the import's folder, or its `.partial` is another's.

    What is there of an unfinished import, or of one that only lacks its name, is no obstacle.
    """
    if out.name in ("", ".."):
        raise ValueError(f"{out} names no new folder; name one, e.g. {out / 'shards'}")
    if out.is_symlink():
        leads = os.path.realpath(out)
        raise ValueError(f"{out} is a link to {leads}; name that folder itself, or another")
    if os.path.ismount(out):
        raise ValueError(f"{out} is a mount point; name a folder in it, e.g. {out / 'shards'}")
    for parent in out.parents:
        if parent.is_dir():
            break
        if parent.is_symlink() or parent.exists():
            raise ValueError(f"{out} cannot be made: {parent} is no folder; name another place")
    folder = staging(out)
    if why := _foreign(folder):
        raise ValueError(
            f"{folder}, where an unfinished import into {out} is kept, {why}; move it away, or "
            "choose another folder to import into"
        )


def _foreign(folder: Path) -> str:
    """Why a `.partial` is none that an import left; "" if it is one, or is not there."""
    if folder.is_symlink():
        return "is a link"
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return "is no folder"
    entries = [path for path in folder.iterdir() if not path.name.startswith(NFS)]
    for path in entries:
        if path.name not in (LOCK, DATA, STATE, JOURNAL) or path.is_symlink():
            return f"has {path.name}, which no import wrote"
        if path.is_dir() != (path.name == DATA):
            return f"has {path.name}, which no import wrote"
    state, data = folder / STATE, folder / DATA
    if state.exists():
        with state.open("rb") as file:  # not by SQLite, which would write to it
            first = file.read(PAGE)
        return "" if not first or KEYS.encode() in first else f"has a {STATE} of another kind"
    lock = folder / LOCK
    if (lock.exists() and lock.stat().st_size) or (data.exists() and any(data.iterdir())):
        return f"has files, and no {STATE} of an import"
    return ""


def remove_partial(folder: Path) -> None:
    """Remove what an import writes into its `.partial`, and the folder if nothing else is in it."""
    if (folder / DATA).exists():
        shutil.rmtree(folder / DATA)
    for name in (JOURNAL, STATE, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def locked(path: Path) -> IO[bytes] | None:
    """The file, opened and locked in the kernel until it is closed; None if another holds it."""
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # a file system without locks
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its last holder has removed it meanwhile
