"""Studies as grids: the arms that their points make, and errors in them."""

import pytest
import yaml
from places import EXPERIMENTS

from unify.config import ConfigError, load_study


@pytest.fixture
def study(tmp_path):
    def write(**more):
        arms = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("ar_vq", "transfusion")}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"name": "s", "arms": arms, **more}, sort_keys=False))
        return str(path)

    return write


def test_a_mapping_is_all_combinations_for_every_arm(study):
    parsed, arms = load_study(study(grid={"model.trunk.depth": [2, 4], "optimizer.lr": [1e-3]}))
    assert list(arms) == [
        f"{arm},depth={depth},lr=0.001" for arm in ("ar_vq", "transfusion") for depth in (2, 4)
    ]
    assert arms["transfusion,depth=4,lr=0.001"]["model"]["trunk"]["depth"] == 4
    assert arms["ar_vq,depth=2,lr=0.001"]["optimizer"]["lr"] == 1e-3
    assert parsed.arms.keys() == arms.keys()


def test_a_list_is_its_points(study):
    points = [{"steps": 5}, {"steps": 9, "ema": 0.5}]
    _, arms = load_study(study(grid=points))
    assert [a["steps"] for a in arms.values()] == [5, 9, 5, 9]
    assert list(arms)[:2] == ["ar_vq,steps=5", "ar_vq,steps=9,ema=0.5"]


def test_keys_with_the_same_last_word_are_named_whole(study):
    _, arms = load_study(study(grid={"seeds.init": [1], "seeds.data": [2]}))
    assert next(iter(arms)) == "ar_vq,init=1,data=2"
    _, arms = load_study(study(grid={"steps": [1], "image_sampling.steps": [2]}, arms=only_flow()))
    assert list(arms) == ["transfusion,steps=1,image_sampling.steps=2"]


def only_flow():
    return {"transfusion": str(EXPERIMENTS / "transfusion.yaml")}


def test_the_command_line_has_the_last_word(study):
    _, arms = load_study(study(grid={"steps": [5, 6]}), ["ema=0.6"])
    assert {a["ema"] for a in arms.values()} == {0.6}
    _, arms = load_study(study(grid={"steps": [5, 6]}), ["grid=[{ema: 0.5}]", "grid.0.ema=0.7"])
    assert {a["ema"] for a in arms.values()} == {0.7}


@pytest.mark.parametrize("grid", [{"steps": 5}, {"steps": []}, [5], "steps"])
def test_what_is_no_grid_is_refused(study, grid):
    with pytest.raises(ConfigError, match="grid"):
        load_study(study(grid=grid))


def test_an_unknown_key_is_named_with_its_arm(study):
    with pytest.raises(ConfigError, match=r"transfusion,deph=3.*did you mean 'depth'"):
        load_study(study(grid={"model.trunk.deph": [3]}))


def test_a_claim_about_an_unknown_arm_is_named(study):
    claim = {"paper": "p", "says": "s", "metric": "vqa/accuracy"}
    claim |= {"better": "ar_vq", "worse": "transfuson"}
    with pytest.raises(ConfigError, match=r"claims.0.worse.*did you mean 'transfusion'"):
        load_study(study(claims=[claim]))
    assert load_study(study(claims=[{**claim, "worse": "transfusion"}]))[0].claims[0].paper == "p"
