"""Exchanges in a process that is alone are the identity; where ranks meet, and how they end."""

import pytest
import torch

from unify.distributed.ranks import (
    World,
    all_gather,
    all_or_error,
    any_rank,
    any_rank_in_step,
    broadcast_first,
    free_port,
    full_tensor,
    in_step,
    is_first,
    local_shard,
    ranks,
    split_over_ranks,
    sum_over_ranks,
    thread_group,
    world,
)


def test_alone_every_exchange_returns_what_it_is_given():
    assert (ranks(), is_first(), thread_group()) == (1, True, None)
    assert broadcast_first("value") == "value"
    assert all_gather("value") == ["value"]
    assert all_or_error(lambda: "value") == ["value"]
    for flag in (True, False):
        assert any_rank(flag) is flag
        with in_step():
            assert any_rank_in_step(flag) is flag
    tensor = torch.arange(3.0)
    sum_over_ranks(tensor)
    assert tensor.tolist() == [0, 1, 2]
    assert full_tensor(tensor) is local_shard(tensor) is tensor
    with in_step():
        assert split_over_ranks([1, 2, 3], lambda chunk: 10 * chunk) == [10, 20, 30]


def test_a_file_that_cannot_be_written_is_an_os_error_of_its_own_words():
    def full():
        raise RuntimeError("inline_container: write failed")

    with pytest.raises(OSError, match=r"^inline_container: write failed$"):
        all_or_error(full)

    def wrong():
        raise TypeError("no file's fault")

    with pytest.raises(TypeError):
        all_or_error(wrong)


def test_a_launcher_says_where_this_process_stands():
    assert world({}) == World()
    launched = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    assert world(launched) == World(rank=5, local_rank=1, size=8, local_size=4)
    assert world(launched).nodes == 2
    with pytest.raises(ValueError, match="8 ranks do not lie evenly on nodes of 3"):
        world({**launched, "LOCAL_WORLD_SIZE": "3"})


def test_a_port_to_meet_at_is_none_that_the_kernel_gives_away():
    assert 20000 <= free_port() < 32000
