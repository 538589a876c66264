"""The entry of the command line: run a command (unify/commands/), end with its exit status.

Errors are one message and a non-zero exit status; `--debug` shows the traceback.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress

import typer

from unify.commands.app import app
from unify.support.stop_protocol import EX_TEMPFAIL, EX_UNAVAILABLE

STATUS = {"Stopped": EX_TEMPFAIL, "LostRanks": EX_UNAVAILABLE}
CLEAR = (*STATUS, "NonFiniteError")  # errors that say all in their message


def main() -> None:
    """Run the command; turn what the user can mend into one message."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
        _end(code if isinstance(code, int) else 0)
    except KeyboardInterrupt:
        _end(130)
    except Exception as error:
        if debug:
            raise
        error = _of_other_ranks(error)
        typer.echo(f"unify: {_message(error)}", err=True)
        _end(STATUS.get(type(error).__name__) or _status(error))


def _end(status: int) -> None:
    """End the process: threads and exit functions as ever, and no teardown of the interpreter.

    To take torch and all else apart takes two seconds, and aborts ranks (distributed.py).
    """
    if "unify.distributed.ranks" in sys.modules:
        from unify.distributed.ranks import end

        end(status)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError if status else BrokenPipeError):  # which says: read enough
            stream.flush()
    os._exit(status)


def _of_other_ranks(error: Exception) -> Exception:
    """An exchange may fail anywhere; what other ranks are to blame for, a scheduler resumes."""
    if "unify.distributed.ranks" not in sys.modules or type(error).__name__ in STATUS:
        return error
    from unify.distributed.ranks import lost_ranks

    return lost_ranks(error) or error


def _status(error: Exception) -> int:
    return getattr(error, "exit_code", 1) or 1


def _message(error: Exception) -> str:
    if isinstance(error, ValueError) or type(error).__name__ in CLEAR:
        return str(error)
    shown = getattr(error, "format_message", lambda: f"{type(error).__name__}: {error}")()
    return shown if hasattr(error, "format_message") else f"{shown} (--debug shows where)"


if __name__ == "__main__":
    main()
