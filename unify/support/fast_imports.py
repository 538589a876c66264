"""Imports without garbage collection.

    with quick_imports():
        from unify.training.train_run import train

torch, Lightning and transformers are a million objects, none of them garbage; to look at them again
and again while they come in takes a sixth of the time that `unify train` takes to start.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

atexit.register(gc.unfreeze)  # where the interpreter is torn down, it collects what is left


@contextmanager
def fast_imports() -> Iterator[None]:
    """No collection inside; what is there at the end is not looked at by later ones either."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
