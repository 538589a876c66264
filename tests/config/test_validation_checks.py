"""Scores over training that a study with the rule `learned` asks of its arms."""

import pytest
import yaml
from places import EXPERIMENTS

from unify.config import load_study

METRIC, SPEED = "text_to_image/exact", "generate/images_per_s"
EVALUATION = [
    {"class": "unify.metrics.shapes_images.TextToImage"},
    {"class": "unify.metrics.speed.Speed"},
]


def scores(folder, primary, **more):
    """What an arm is scored by while it trains."""
    content = {"name": "s", "primary": primary, "learned": {}, "set": {"evaluation": EVALUATION}}
    content["arms"] = {"a": str(EXPERIMENTS / "transfusion.yaml")}
    (folder / "study.yaml").write_text(yaml.safe_dump(content | more))
    return load_study(folder / "study.yaml")[1]["a"]["logging"]["scores"]


def test_what_is_held_out_is_watched_by_its_whole_measure(tmp_path):
    assert scores(tmp_path, [f"{METRIC}/heldout", METRIC])["metrics"] == [METRIC]
    assert scores(tmp_path, [METRIC], learned=None) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"primary": [SPEED]}, rf"primary\.0: no metric of {SPEED} takes `split`.*learned: null"),
        ({"primary": []}, "learned: it is about primary outcomes; name some in `primary`"),
        ({"learned": {"evaluation": {"promt": 9}}}, r"learned\.evaluation\.promt: no metric of"),
        ({"learned": {"at": [0.5]}}, "half and all of the steps must be in it"),
    ],
)
def test_a_rule_that_nothing_can_be_known_by_is_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        scores(tmp_path, **{"primary": [METRIC], **changed})


def test_a_study_without_the_rule_may_have_any_outcome(tmp_path):
    assert scores(tmp_path, [SPEED], learned=None) is None
