"""Widths solved to a number of parameters, before anything is trained."""

import pytest
import yaml
from places import EXPERIMENTS

from unify.config import ConfigError
from unify.schema.study import Study, Width
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import lines
from unify.study.width_matching import solve_width, study_and_arms, trainable


@pytest.fixture
def study(tmp_path):
    def write(**more):
        arms = {"towers": "dual_tower", "one": "transfusion", "large": "transfusion"}
        files = {arm: str(EXPERIMENTS / f"{name}.yaml") for arm, name in arms.items()}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"name": "s", "arms": files, **more}))
        return str(path)

    return write


@pytest.mark.parametrize("target", [1, 999, 1000, 1001, 4_100, 1e6])
def test_no_other_multiple_is_nearer(target):
    width = Width(parameters=target, multiple=8)
    result = solve_width(target, width, lambda n: n * n + 10)
    best = min(range(8, 2000, 8), key=lambda n: abs(n * n + 10 - target))
    assert result == best


def test_a_key_that_changes_nothing_is_named():
    width = Width(parameters=100, key="model.time.mean")
    with pytest.raises(ValueError, match=r"model\.time\.mean does not change the number"):
        solve_width(100, width, lambda n: 50)


def test_one_tower_as_large_as_two(study):
    path = study(widths={"large": {"like": "towers", "multiple": 8}})
    _, arms = study_and_arms(StudyRequest(path))
    towers, one, large = (trainable(arms[arm]) for arm in ("towers", "one", "large"))
    assert one < 0.6 * towers
    assert large == pytest.approx(towers, rel=0.05)
    dim = arms["large"]["model"]["trunk"]["dim"]
    assert dim % 8 == 0
    assert arms["large"]["model"]["patches"]["dim"] == dim, "what refers to the width follows"
    assert arms["one"]["model"]["trunk"]["dim"] == 128, "other arms stay"


def test_a_number_of_parameters_and_the_users_own_width(study):
    path = study(widths={"large": {"parameters": 3e5, "multiple": 8}})
    _, arms = study_and_arms(StudyRequest(path, ["model.trunk.depth=2"]))
    assert trainable(arms["large"]) == pytest.approx(3e5, rel=0.1)
    assert "trainable" in "\n".join(lines(plan(StudyRequest(path, ["model.trunk.depth=2"]))))


def test_unknown_arms_are_named(study):
    with pytest.raises(ConfigError, match=r"widths\.wide: no arm 'wide'"):
        study_and_arms(StudyRequest(study(widths={"wide": {"like": "one"}})))
    with pytest.raises(ConfigError, match=r"widths\.one\.like: no arm 'tower'"):
        study_and_arms(StudyRequest(study(widths={"one": {"like": "tower"}})))


@pytest.mark.parametrize("given", [{}, {"like": "a", "parameters": 2.0}])
def test_a_width_follows_from_one_thing(given):
    with pytest.raises(ValueError, match="say one of `like`"):
        Width(**given)


def test_a_grid_is_refused_beside_widths():
    with pytest.raises(ValueError, match="widths and grid"):
        Study("s", {"a": "f"}, widths={"a": Width(parameters=1.0)}, grid={"steps": [1]})
