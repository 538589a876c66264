"""Errors that come of other ranks are told from a rank's own."""

import pytest
import torch.distributed as dist

from unify.distributed.lost_ranks import LostRanks, lost_ranks, lost_ranks_as_error

GLOO = "[gloo/transport/tcp/pair.cc:538] Connection closed by peer"


@pytest.fixture
def second_of_two(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")


@pytest.mark.parametrize(
    "error",
    [RuntimeError(GLOO), OSError(f"checkpoint: {GLOO}"), dist.DistNetworkError("timed out")],
)
def test_a_failed_exchange_is_the_loss_of_ranks(second_of_two, error):
    message = "rank 1 has lost other ranks: they have not met"
    with pytest.raises(LostRanks, match=message) as lost, lost_ranks_as_error():
        raise error
    assert lost.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError(GLOO), OSError(28)])
def test_an_error_of_this_rank_stays_what_it_is(second_of_two, error):
    with pytest.raises(type(error)) as same, lost_ranks_as_error():
        raise error
    assert same.value is error


def test_a_process_that_is_alone_loses_nobody():
    assert lost_ranks(RuntimeError(GLOO)) is None


def test_a_loss_is_not_wrapped_again(second_of_two):
    lost = LostRanks(f"rank 1 has lost other ranks ({GLOO})")
    with pytest.raises(LostRanks) as same, lost_ranks_as_error():
        raise lost
    assert same.value is lost
