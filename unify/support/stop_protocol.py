"""How a process is told to stop, and how it says that it did."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(Exception):
    """A signal stopped a run before its last step; the same command resumes it."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # to save and stop


EX_TEMPFAIL = 75  # a signal stopped the run; the same command resumes it


EX_UNAVAILABLE = 69  # other ranks have gone; the same command resumes it, too


STOP = (signal.SIGTERM, signal.SIGUSR1)  # passed on; Ctrl-C reaches the whole group by itself


@contextmanager
def handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in STOP}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
