"""Results that are made once from files: a YAML file is parsed, and an experiment completed, again
only after something that it was made from has changed.

    @once
    def parsed(file: str) -> Node:
        watch(stamp, file)
        return parse(Path(file).read_text(), file, [])
"""

import functools
import os
import time
from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Probe = Callable[[str], Any]
Watched = dict[tuple[Probe, str], Any]  # (probe, name) -> what the probe returned

_running: list[Watched] = []  # of the calls under `once` that now run, the innermost last

YOUNG = 100_000_000  # nanoseconds


def stamp(path: str) -> tuple[int, ...] | None:
    """A value that changes when a file is written again; None where there is no file.

    A file system's clock ticks in milliseconds: a file written twice within a tick may keep its
    time and size. So the stamp of a file that was written just now equals no other stamp.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    now = time.time_ns()
    unique = now if now - status.st_mtime_ns < YOUNG else 0
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, unique


def watch(probe: Probe, name: str) -> None:
    """Let the result now in the making depend on `probe(name)`: a file's stamp, a variable.

    To be called before the file is read: a change in between is then noticed.
    """
    if _running:
        _running[-1].setdefault((probe, name), probe(name))


def once(make: Callable[P, T]) -> Callable[P, T]:
    """`make`, called again only if anything that it watched is different from what it was.

    Arguments are hashable, by position. The result is shared by all callers: none may change it.
    Errors are not kept.
    """
    made: dict[Hashable, tuple[Watched, T]] = {}

    @functools.wraps(make)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (os.getcwd(), args)  # in another folder a relative path is another file
        if key not in made or _changed(made[key][0]):
            _running.append({})
            try:
                result = make(*args, **kwargs)
                made[key] = _running[-1], result
            finally:
                _running.pop()
        watched, result = made[key]
        if _running:
            _running[-1].update(watched)
        return result

    return wrapper


def _changed(watched: Watched) -> bool:
    return any(probe(name) != value for (probe, name), value in watched.items())
