"""The lock of a folder's writer: `<folder>/.lock`, locked by the kernel, says who holds it.

The kernel releases it however the process ends, also over NFS. Where several machines share a
folder and not its locks, `only_writer` looks for another sign: the holder touches the file every
BEAT seconds.
"""

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from unify.support.environment import redact_command

NAME = ".lock"
BUSY = "is being written by another process"
BEAT, SILENT = 15.0, 60.0  # seconds between two signs; without one a holder has ended
OLD = 3600.0  # seconds since the last sign, however the clocks of two machines differ


def lock_folder(folder: Path, stack: ExitStack) -> str:
    """Take the lock until `stack` closes; the reason if that fails, else an empty text.

    A reason that has BUSY in it says who holds the lock; others are for good.
    """
    return _lock(folder, stack, None)


@contextmanager
def only_writer(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder that several machines may share. ValueError says who holds it."""
    with ExitStack() as stack:
        refused = _lock(folder, stack, say)
        if refused:
            raise ValueError(refused)
        yield


def _lock(folder: Path, stack: ExitStack, say: Callable[[str], None] | None) -> str:
    """As `lock_folder`; with `say`, holders on machines that do not share our locks count, too."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # not "w": a process that is refused must not empty it
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        why = f"{error.strerror}: {error.filename}"
        return f"{folder} cannot be written ({why}); say another folder with `machine.runs=`"
    with ExitStack() as own:
        file = own.enter_context(os.fdopen(descriptor, "r+", encoding="utf-8"))
        if refused := _refusal(folder, file):
            return refused
        if say and _gives_signs(folder, file, say):
            return _busy(folder, _holder(file))
        _sign(file)
        own.callback(_clear, file)
        if say:
            own.enter_context(_Beat(file))
        stack.enter_context(own.pop_all())
    return ""


def _refusal(folder: Path, file: IO[str]) -> str:
    """Lock the file in the kernel; the reason if that fails."""
    try:
        # not flock: a killed run's loader workers would go on holding the lock for a while
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return _busy(folder, _holder(file))
        return (
            f"{folder} cannot be locked ({error.strerror}): its file system has no locks; put "
            "`machine.runs` on one that has"
        )
    return ""


def _busy(folder: Path, holder: dict[str, Any]) -> str:
    """`runs/mine is being written by another process (12 on host, since ...: unify study ...)`."""
    who = "{pid} on {host}, since {since}: {command}"
    known = {"pid", "host", "since", "command"} <= holder.keys()
    return f"{folder} {BUSY}{f' ({who.format(**holder)})' if known else ''}; wait for it or stop it"


def _holder(file: IO[str]) -> dict[str, Any]:
    """Whom the file names; nobody where the last holder has released it."""
    try:
        file.seek(0)
        content = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _sign(file: IO[str]) -> None:
    """Write who holds the lock; a full disk costs the text alone."""
    name = Path(sys.argv[0]).name
    command = ["unify" if name == "cli.py" else name, *redact_command(sys.argv[1:])]
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M"),
        "command": shlex.join(command),
    }
    _clear(file)
    with suppress(OSError):
        file.write(json.dumps(holder))
        file.flush()


def _clear(file: IO[str]) -> None:
    with suppress(OSError):
        file.seek(0)
        file.truncate()


def _gives_signs(folder: Path, file: IO[str], say: Callable[[str], None]) -> bool:
    """True if the file names a holder on another machine, and that one touches it."""
    holder, seen = _holder(file), os.fstat(file.fileno()).st_mtime
    if holder.get("host") in (None, socket.gethostname()) or time.time() - seen > OLD:
        return False
    say(f"{_busy(folder, holder)}; it is given {SILENT:.0f} s for a sign that it has not ended")
    for _ in range(round(SILENT)):
        time.sleep(1)
        if os.fstat(file.fileno()).st_mtime != seen:
            return True
    return False


class _Beat:
    """Touches the file every BEAT seconds, from a thread."""

    def __init__(self, file: IO[str]):
        self.file, self.ended = file, threading.Event()
        self.thread = threading.Thread(target=self._run, name="folder lock", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.ended.wait(BEAT):
            with suppress(OSError):
                os.utime(self.file.fileno())
