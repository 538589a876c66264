"""config.yaml of a run: damaged ones are named, and one that is gone is put back."""

import json

import pytest
from places import EXPERIMENTS

from unify.config import load_recipe
from unify.runs.folder import Run
from unify.runs.saved_config import (
    plain_config,
    put_back_config,
    replace_config,
    saved_config,
    write_config,
)

DAMAGE = ["", "null", "[]", "3", "name: [", "model: 3", "steps: many", "evaluation: {}", "a: \x00"]


@pytest.mark.fault(40)
@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_one_is_named_with_its_remedy(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    for read in (lambda: plain_config(path), lambda: saved_config(Run(tmp_path))):
        with pytest.raises(
            ValueError, match=r"config\.yaml is damaged .*remove it.*writes it anew"
        ):
            read()


def test_one_that_is_gone_is_named_and_put_back_and_one_that_is_there_stays(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(ValueError, match=r"config\.yaml is gone; .*writes it anew"):
        saved_config(run)
    for _ in range(2):
        put_back_config(run, {"name": "x", "steps": 3})
        assert plain_config(tmp_path / "config.yaml") == {"name": "x", "steps": 3}
        (tmp_path / "config.yaml").write_text("name: x\nsteps: 3\n")


def test_one_that_says_another_training_is_refused_and_other_scoring_and_places_are_not(tmp_path):
    run = Run(tmp_path)
    config = load_recipe(EXPERIMENTS / "tokenizers" / "shapes_vae.yaml", tiny=True)
    run.update(state="finished", config=write_config(run, config))
    path = tmp_path / "config.yaml"
    written = path.read_text()
    assert saved_config(run) == config
    for key in ("steps", "seeds", "optimizer", "model", "data"):
        value = config[key]
        other = {**value, next(iter(value)): 7} if isinstance(value, dict) else value + 1
        path.write_text(json.dumps({**config, key: other}))
        with pytest.raises(ValueError, match=r"config\.yaml is not what .* trained with: "):
            saved_config(run)
    path.write_text(written)
    assert saved_config(run) == config
    replace_config(run, {**config, "evaluation": []})
    assert saved_config(run)["evaluation"] == []
    path.unlink()
    put_back_config(run, {**config, "needs": "/a/tok.yaml"})
    recorded = run.info["config"]
    replace_config(run, {**config, "needs": "/other/place/tok.yaml"})
    assert run.info["config"] == recorded, "files may move"
