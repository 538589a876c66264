"""The entry of the command line: run a command (unify/commands/), end with its exit status.

Errors are one message and a non-zero exit status; `--debug` shows the traceback.
"""

import os
import stat
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from unify.commands.app import app
from unify.support.addresses import hide_addresses
from unify.support.atomic_files import is_full
from unify.support.environment import redact
from unify.support.stop_protocol import (
    Interrupted,
    PlainError,
    Stopped,
    end_process,
    interruptible,
    speaks,
)
from unify.support.terminal import clean_output, echo


def main() -> None:
    """Run the command; turn what the user can mend into one message."""
    clean_output()
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    with interruptible():
        try:
            code = app(arguments, standalone_mode=False)
            _end(code if isinstance(code, int) else 0)
        except Interrupted as stop:
            _say(str(stop), of_all_ranks=True)
            end_process(stop.exit_status, join_threads=False)  # other ranks may be gone
        except Exception as error:
            if debug:
                echo(_shown(traceback.format_exc()), err=True, nl=False)
                _end(_status(error))
            error = _of_other_ranks(error)
            _say(_message(error), of_all_ranks=isinstance(error, Stopped))
            _end(_status(error))


def _say(message: str, of_all_ranks: bool) -> None:
    """Print a message to stderr; the first rank speaks where all have the same to say."""
    if not of_all_ranks or speaks():
        with suppress(OSError):  # the terminal is gone; the status tells the rest
            echo(_shown(f"unify: {message}"), err=True)


def _end(status: int) -> NoReturn:
    """End the process; a rank leaves its group first."""
    if "unify.distributed.ranks" in sys.modules:
        from unify.distributed.ranks import end

        end(status)
    end_process(status)


def _of_other_ranks(error: Exception) -> Exception:
    """LostRanks where other ranks are to blame: an exchange may fail inside anything."""
    if "unify.distributed.ranks" not in sys.modules or isinstance(error, PlainError):
        return error
    from unify.distributed.lost_ranks import lost_ranks

    return lost_ranks(error) or error


def _status(error: Exception) -> int:
    """The exit status that an exception carries: ours as `exit_status`, typer's as `exit_code`."""
    return getattr(error, "exit_status", 0) or getattr(error, "exit_code", 1) or 1


def _shown(text: str) -> str:
    """The text without secrets: a terminal is often a file, too."""
    return redact(hide_addresses(text))


def _output_is_full() -> bool:
    """Whether it is standard output that has no room."""
    try:
        about, room = os.fstat(1), os.fstatvfs(1)
    except OSError:
        return False
    if stat.S_ISCHR(about.st_mode):
        return about.st_rdev == os.makedev(1, 7)  # /dev/full
    return stat.S_ISREG(about.st_mode) and room.f_bavail == 0


def _message(error: Exception) -> str:
    if isinstance(error, ValueError | PlainError):
        return str(error)
    if is_full(error) and not getattr(error, "filename", None) and _output_is_full():
        return "standard output cannot be written (No space left on device): give it a place"
    if is_full(error):
        return f"the disk is full ({error}); make room, and give the same command again"
    shown = getattr(error, "format_message", lambda: f"{type(error).__name__}: {error}")()
    return shown if hasattr(error, "format_message") else f"{shown} (--debug shows where)"


if __name__ == "__main__":
    main()
