"""Checks across keys."""

import pytest
from places import EXPERIMENTS

from unify.config import check_file

FLOWS = dict.fromkeys(["transfusion", "dual_tower", "queries_dit", "crossflow"], "image_sampling")
FLOWS |= {"crossflow_depth": "image_sampling", "crossflow_caption": "text_sampling"}


@pytest.mark.parametrize("name", FLOWS)
def test_an_unknown_solver_is_refused_with_the_names(name):
    path, key = EXPERIMENTS / f"{name}.yaml", f"{FLOWS[name]}.solver"
    assert check_file(path, [f"{key}=rk4"]) == []
    (problem,) = set(check_file(path, [f"{key}=foo"]))
    assert problem.key == key
    assert "one of 'euler', 'heun', 'rk4', not 'foo'" in problem.message


PARADIGM = """
from torch import nn
from unify.paradigm import Paradigm
class Flow(Paradigm):
    {tasks}
    terms = frozenset({{"flow"}})
    def __init__(self, size: int = 2):
        super().__init__()
        self.linear = nn.Linear(size, size)
    def loss(self, batch, noise):
        return {{}}
"""


@pytest.mark.parametrize("tasks", ["", 'tasks = "text_to_image"'])
def test_a_paradigm_without_a_set_of_tasks_is_refused_before_it_is_trained(tmp_path, tasks):
    (tmp_path / "flow.py").write_text(PARADIGM.format(tasks=tasks))
    base = f"base: [{EXPERIMENTS}/base.yaml, {EXPERIMENTS}/data/shapes.yaml]"
    model = 'model: {class: "./flow.py:Flow"}\nloss_weights: {flow: 1.0}'
    (tmp_path / "flow.yaml").write_text(f"{base}\n{model}\n")
    messages = [problem.message for problem in check_file(tmp_path / "flow.yaml")]
    assert any("Flow needs `tasks`" in message for message in messages), messages
