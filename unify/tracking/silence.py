"""How long a store may do nothing: `with limit(60.0):`, and `tick()` at each sign of life.

A time-out of each request is no limit: a server that sends a byte a second never meets one.
"""

import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_active: list[float] = []  # seconds of the limit that holds now; empty: none does
_nowhere: list[Any] = []  # where the end of the process writes its traceback; empty: it goes on


class Silent(BaseException):
    """The store did nothing for too long. No Exception: HTTP libraries repeat on those."""


@contextmanager
def limit(seconds: float, end: bool = False) -> Iterator[None]:
    """Raise `Silent` within the block once `seconds` have passed without a `tick`.

    Only in the main thread, where signals arrive; in another there is no limit. With `end`, the
    process ends after twice as long: a library may be deaf to the alarm.
    """
    if threading.current_thread() is not threading.main_thread() or _active:
        yield
        return

    def stop(*_: Any) -> None:
        raise Silent(f"it has done nothing for {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    _active.append(seconds)
    if end:
        _nowhere.append(open(os.devnull, "w"))  # noqa: SIM115 (faulthandler keeps it)
    tick()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        _active.clear()
        _nowhere.clear()
        signal.signal(signal.SIGALRM, before)


def tick(more: float = 0.0) -> None:
    """Count the silence from now, with `more` seconds for what takes long."""
    if _active:
        signal.setitimer(signal.ITIMER_REAL, _active[0] + more)
        if _nowhere:
            patience = 2 * (_active[0] + more)
            faulthandler.dump_traceback_later(patience, exit=True, file=_nowhere[0])
