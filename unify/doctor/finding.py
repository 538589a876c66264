"""The finding that a check returns, and helpers of checks."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from unify.distributed.ranks import World

T = TypeVar("T")
State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A note may be what is wanted; a problem fails a run."""

    name: str
    state: State
    found: str
    do: str = ""  # empty only where all is well


def within(seconds: float, function: Callable[[], T]) -> T:
    """The function's value, or a TimeoutError; for calls that have no timeout of their own."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=call, daemon=True).start()  # a daemon: the process ends without it
    return future.result(seconds)


def seat() -> tuple[dict[str, str], World]:
    """This process's environment as a rank, and its place among those started with it."""
    from unify.distributed.ranks import from_slurm, world

    here = dict(os.environ)
    from_slurm(here)
    return here, world(here)


def cause(error: BaseException) -> str:
    """An error in one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")
