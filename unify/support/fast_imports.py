"""Imports without garbage collection.

    with fast_imports():
        from unify.training.train_run import train

torch, Lightning and transformers are a million objects, none of them garbage. The collector would
visit them again and again while they are created: a sixth of the time that `unify train` takes to
start.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# a full teardown must be able to free them, or extension modules report leaks
atexit.register(gc.unfreeze)


@contextmanager
def fast_imports() -> Iterator[None]:
    """Collect nothing inside, and exempt what exists at the end from later collections."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
