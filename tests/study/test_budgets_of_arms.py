"""Budgets of the arms of a study: one for each point of a grid, or an arm's own."""

import pytest
import yaml
from places import EXPERIMENTS

from unify.config import ConfigError, load_study
from unify.study.arms import resolve_arms
from unify.study.jobs import StudyRequest
from unify.study.plan import plan


@pytest.fixture
def study(tmp_path):
    arms = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("ar_vq", "transfusion")}
    grid = {"model.trunk.dim": [32, 64, 96], "budget.flops": [1e12, 4e12]}
    path = tmp_path / "study.yaml"
    content = {"name": "s", "arms": arms, "grid": grid, "primary": ["text_to_image/exact"]}
    path.write_text(
        yaml.safe_dump(
            {**content, "budget": {"flops": 1.0, "charge": ["encoding"]}}, sort_keys=False
        )
    )
    return str(path)


@pytest.mark.slow
def test_a_budget_in_a_grid_is_that_of_its_arms(study):
    parsed, arms = load_study(study)
    assert len(arms) == 12
    assert parsed.budget_of("ar_vq,dim=32,flops=4e+12").flops == 4e12
    planned = plan(StudyRequest(study))
    for arm, cost in planned.costs.items():
        wanted = parsed.budget_of(arm)
        spent = cost.total("flops", wanted)
        assert spent == pytest.approx(wanted.flops, rel=0.01), arm
    assert resolve_arms(StudyRequest(study))[1].keys() == arms.keys()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"grid": {"budget.flop": [1e12]}},
            r"grid\.budget\.flop: unknown key; did you mean",
        ),
        ({"budgets": {"ar_v": {"steps": 5}}}, r"budgets\.ar_v: no arm 'ar_v'.*'ar_vq'"),
    ],
)
def test_what_is_no_budget_of_an_arm_is_named(tmp_path, more, message):
    path = tmp_path / "study.yaml"
    path.write_text(
        yaml.safe_dump({"name": "s", "arms": {"ar_vq": str(EXPERIMENTS / "ar_vq.yaml")}, **more})
    )
    with pytest.raises(ConfigError, match=message):
        load_study(path)


def test_a_budget_of_ones_own(tmp_path):
    files = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("ar_vq", "transfusion")}
    content = {"name": "s", "arms": files, "budgets": {"ar_vq": {"steps": 5}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    arms = resolve_arms(StudyRequest(str(tmp_path / "study.yaml"), ["steps=9"]))[1]
    assert [arms[name]["steps"] for name in files] == [5, 9]
