"""The order: a permutation per epoch, a function of (seed, step), cut fairly over micro-steps."""

from collections import Counter

import numpy as np
import pytest

from unify.data.order import permuted
from unify.data.sampler import MicroSteps

TASKS, SIZES = {"text_to_image": 8, "caption": 4}, {"text_to_image": 37, "caption": 10}


def consumed(step, accumulation, world, seed=0):
    """Everything one step draws over all micro-steps and ranks, in the order of slots."""
    parts = []
    for rank in range(world):
        sampler = MicroSteps(TASKS, SIZES, seed, 100, 0, accumulation, world=world, rank=rank)
        for micro in range(accumulation):
            parts += sampler.draws(step, micro)
    return sorted((d.task, d.slot, d.index) for d in parts)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 63, 64, 65, 1000, 4097])
def test_each_epoch_is_a_permutation(n):
    for seed in range(3):
        order = permuted(np.arange(3 * n), n, seed).reshape(3, n)
        assert (np.sort(order, axis=1) == np.arange(n)).all()


def test_epochs_and_seeds_differ():
    first = permuted(np.arange(2000), 1000, 0)
    assert (first[:1000] != first[1000:]).mean() > 0.99
    assert (first != permuted(np.arange(2000), 1000, 1)).mean() > 0.99


def test_a_permutation_looks_random():
    n = 4096
    order = np.concatenate([permuted(np.arange(n), n, seed) for seed in range(8)])
    place = np.tile(np.arange(n), 8)
    assert abs(np.corrcoef(place, order)[0, 1]) < 0.02  # 1 / sqrt(8 n) = 0.0055
    counts = np.histogram2d(place, order, bins=16)[0]
    assert abs(((counts - 128) ** 2 / 128).sum() - 225) < 4 * np.sqrt(2 * 225)  # chi-squared
    assert abs((np.diff(order) == 1).sum() - 8) < 12  # neighbours stay so about once in n


def test_small_sets_take_every_order():
    orders = {tuple(permuted(np.arange(3), 3, seed)) for seed in range(200)}
    assert len(orders) == 6


def test_one_position_at_a_time_equals_all_at_once():
    together = permuted(np.arange(50), 17, 5)
    assert together.tolist() == [int(permuted(p, 17, 5)) for p in range(50)]


def test_order_is_pinned():
    """A change here changes every run's data: it must never happen by accident."""
    assert permuted(np.arange(12), 10, 0).tolist() == [6, 7, 0, 2, 1, 3, 5, 9, 4, 8, 5, 2]


RANKS = [pytest.param(*cut, marks=pytest.mark.fault(4)) for cut in ((1, 2), (2, 2), (1, 4))]


@pytest.mark.parametrize(("accumulation", "world"), [(2, 1), (4, 1), *RANKS])
def test_accumulation_and_ranks_change_nothing(accumulation, world):
    for step in (0, 1, 13):
        assert consumed(step, accumulation, world) == consumed(step, 1, 1)


@pytest.mark.parametrize(("accumulation", "world"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_every_step_has_its_rows_of_every_task_in_every_micro_step(accumulation, world):
    for rank in range(world):
        for draws in MicroSteps(TASKS, SIZES, 0, 5, 0, accumulation, world, rank):
            result = Counter(draw.task for draw in draws)
            assert result == {t: n // (accumulation * world) for t, n in TASKS.items()}


def test_steps_continue_the_sequence_without_gap_or_repeat():
    sampler = MicroSteps({"a": 5}, {"a": 20}, 3, 4)
    drawn = [d.index for batch in sampler for d in batch]
    assert sorted(drawn) == list(range(20))


def test_starting_later_equals_having_been_there():
    whole = list(MicroSteps(TASKS, SIZES, 0, 10, 0, 2))
    later = MicroSteps(TASKS, SIZES, 0, 10, 7, 2)
    assert list(later) == whole[14:]
    assert len(later) == len(whole) == 20


def test_tasks_over_the_same_records_differ_in_order():
    draws = MicroSteps({"a": 50, "b": 50}, {"a": 50, "b": 50}, 0, 1).draws(0, 0)
    assert [d.index for d in draws if d.task == "a"] != [d.index for d in draws if d.task == "b"]


def test_rows_that_do_not_divide_are_named():
    with pytest.raises(
        ValueError, match=r"caption: 4 rows .* 2 micro-step.* 3 rank.*multiple of 6"
    ):
        MicroSteps({"caption": 4}, {"caption": 9}, 0, 1, 0, 2, world=3)


def test_a_task_without_records_is_named():
    with pytest.raises(ValueError, match=r"caption.*no records"):
        MicroSteps({"caption": 4}, {"caption": 0}, 0, 1)
