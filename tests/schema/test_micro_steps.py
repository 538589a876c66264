"""Micro-steps: the least number that divides every task's rows over devices, in whole groups."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unify.schema.experiment import Machine
from unify.schema.micro_steps import accumulation


def divides(tasks: dict[str, int], parts: int, devices: int, group: int, most: int) -> bool:
    whole = all(rows % (parts * devices * group) == 0 for rows in tasks.values())
    return whole and sum(tasks.values()) // (parts * devices) <= most


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    devices=st.integers(1, 3),
    nodes=st.integers(1, 2),
    group=st.integers(1, 3),
    most=st.integers(1, 40),
)
def test_they_are_the_fewest_that_divide_every_task_into_so_few_rows(
    rows, devices, nodes, group, most
):
    ranks = devices * nodes
    tasks = {f"task{index}": n * ranks * group for index, n in enumerate(rows)}
    machine = Machine(devices=devices, nodes=nodes, micro_batch=most)
    possible = [
        parts for parts in range(1, 400) if divides(tasks, parts, ranks, group, most)
    ]  # at most 3 * 12 * 3 rows on a rank
    if possible:
        assert accumulation(tasks, machine, group) == possible[0]
    else:
        with pytest.raises(ValueError, match="raise micro_batch"):
            accumulation(tasks, machine, group)


def test_without_a_limit_a_device_takes_its_share_at_once():
    assert accumulation({"a": 7, "b": 5}, Machine(micro_batch=0)) == 1


def test_a_group_stays_on_one_device():
    with pytest.raises(ValueError, match=r"data.tasks.a is 6 rows.*make it a multiple of 8"):
        accumulation({"a": 6}, Machine(devices=2), group=4)


@pytest.mark.parametrize(
    ("rows", "micro", "devices", "parts"),
    [
        ({"a": 80}, 0, 1, 1),
        ({"a": 80}, 8, 1, 10),
        ({"a": 80}, 8, 2, 5),
        ({"a": 32, "b": 16}, 24, 1, 2),
        ({"a": 6, "b": 4}, 5, 1, 2),
    ],
)
def test_micro_steps_divide_the_global_batch(rows, micro, devices, parts):
    assert accumulation(rows, Machine(micro_batch=micro, devices=devices)) == parts


def test_a_global_batch_that_cannot_be_divided_is_named():
    with pytest.raises(ValueError, match=r"micro_batch is 3.*larger divisor"):
        accumulation({"a": 7, "b": 5}, Machine(micro_batch=3))
