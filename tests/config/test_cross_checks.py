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
