"""Steps solved from a budget of FLOPs, tokens, samples or steps, with made-up costs."""

import pytest

from unify.costs.step_cost import Cost, TaskCost, steps_for
from unify.schema.study import Budget

PART = Cost(10, {"t": TaskCost(4, 8, 100.0, 20.0)}, {})


COST = Cost(
    3, {"t": TaskCost(6, 20, 30.0, 10.0), "u": TaskCost(2, 5, 10.0, 0.0)}, {}, {"vae": PART}
)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (Budget(steps=7), 7),
        (Budget(samples=80), 10),
        (Budget(tokens=251), 10),
        (Budget(flops=401), 10),
        (Budget(flops=500, charge=["encoding"]), 10),
        (Budget(flops=1700, charge=["encoding", "needed"]), 10),
        (Budget(flops=1600, charge=["needed"]), 10),
    ],
)
def test_steps_are_what_is_left_over_the_cost_of_a_step(budget, steps):
    assert steps_for(budget, COST) == steps


def test_a_budget_that_does_not_reach_is_refused_with_what_was_charged():
    with pytest.raises(ValueError, match=r"does not reach.* after 1\.2e\+03 of what is trained"):
        steps_for(Budget(flops=1200, charge=["needed"]), COST)


@pytest.mark.parametrize("said", [{}, {"flops": 1, "tokens": 1}])
def test_a_budget_is_one_quantity(said):
    with pytest.raises(ValueError, match="one of steps, samples, tokens and flops"):
        Budget(**said)


def test_what_is_charged_is_charged_in_flops_alone():
    budget = Budget(flops=1.0, charge=["encoding", "needed"])
    assert COST.total("flops", budget) == 3 * 50 + 1200
    assert COST.total("flops") == 3 * 40
    assert COST.total("steps", budget) == 3


def test_a_budget_of_what_a_model_does_not_count_is_refused():
    blind = Cost(3, {"t": TaskCost(6, 20, 0.0, 0.0)}, {})
    with pytest.raises(ValueError, match="its model counts none; write flops"):
        steps_for(Budget(flops=1e12), blind)


def test_a_budget_of_one_task_counts_nothing_else():
    assert COST.total("samples", Budget(samples=1, task="u")) == 3 * 2
    assert COST.total("flops", Budget(flops=1, task="t", charge=["encoding"])) == 3 * 40
    assert steps_for(Budget(samples=50, task="u"), COST) == 25
