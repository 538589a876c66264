"""`unify check`: fragments, tiny forms, and every shipped file."""

import pytest
from config_parts import GOOD, write
from places import EXPERIMENTS

from unify.config import check_file


def test_a_fragment_may_lack_keys_but_not_have_wrong_ones(folder):
    assert check_file(write(folder, "base.yaml", "optimizer: {lr: 1}\nsteps: 3")) == []
    problems = check_file(write(folder, "base.yaml", "optimizer: {l: 1}\ndata: {tasks: {}}"))
    assert {p.key for p in problems} == {"optimizer.l", "data.source"}


def test_check_covers_the_tiny_form(folder):
    path = write(folder, "good.yaml", GOOD.replace("{dim: 4}", "{dimm: 4}"))
    assert [p.key for p in check_file(path)] == ["model.trunk.dimm"]


SHIPPED = sorted(EXPERIMENTS.rglob("*.yaml"))


CASES = [p if p.parent == EXPERIMENTS else pytest.param(p, marks=pytest.mark.slow) for p in SHIPPED]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_shipped_file_is_right(path):
    assert [str(problem) for problem in check_file(path)] == []
