"""Errors that come of other ranks: told from a rank's own, so that a scheduler resumes the job."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from unify.distributed.ranks import silent_ranks, world
from unify.support.stop_protocol import EX_UNAVAILABLE, PlainError

# words of a failed exchange; the last is gloo's, after one that was waited for in vain
EXCHANGE_WORDS = ("gloo", "NCCL", "pair closure")


class LostRanks(PlainError, RuntimeError):
    """Other ranks have ended, or do not answer: nothing is wrong with this one."""

    exit_status = EX_UNAVAILABLE


def lost_ranks(error: Exception) -> LostRanks | None:
    """The LostRanks behind a failed exchange, naming who is silent; None for any other error."""
    place = world()
    # OSError: an exchange that fails inside a save is one (training/strategies.py)
    exchange = isinstance(error, dist.DistError) or any(w in str(error) for w in EXCHANGE_WORDS)
    if place.size == 1 or not isinstance(error, (RuntimeError, OSError)) or not exchange:
        return None
    return LostRanks(
        f"rank {place.rank} has lost other ranks: {silent_ranks()} ({str(error).splitlines()[0]}). "
        "What they said tells why; the same command goes on from the last checkpoint"
    )


@contextmanager
def lost_ranks_as_error() -> Iterator[None]:
    """Raise LostRanks for an exchange that fails in here because of other ranks."""
    try:
        yield
    except Exception as error:
        lost = None if isinstance(error, LostRanks) else lost_ranks(error)
        if lost is None:
            raise
        raise lost from error
