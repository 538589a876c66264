"""Work in several processes, results in order, and never more of either waiting than was asked."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from unify.support.stop_protocol import PlainError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """`function` of every item, in order, with at most twice as many under way as workers.

    PlainError if a process dies. `function` and items are pickled.
    """
    # Fresh processes: a fork of one with threads may deadlock, and would hold its files open.
    context = multiprocessing.get_context("forkserver")
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise PlainError(
                "a process that reads pictures died (killed, or out of memory); "
                "give the same command again, with fewer --workers or --jobs if memory was short"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when the one that started the pool is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent,), daemon=True).start()


def _wait(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
