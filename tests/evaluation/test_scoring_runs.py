"""What the scores of a run depend on: the network that reads its pictures is part of it."""

import json

import pytest
from places import EXPERIMENTS

from unify.config import load_recipe, needed_runs
from unify.evaluation.scores_identity import scores_identity
from unify.runs.equal_training import needed_facts
from unify.runs.folder import Run
from unify.runs.lookup import set_scoring_runs

FILE = str(EXPERIMENTS / "tokenizers" / "shapes_vae.yaml")
SCORER = """
from unify.metrics.metric import Metric
from unify.tokenizer import ImageTokenizer

class Distance(Metric):
    measures = ("x",)

    def __init__(self, encoder: ImageTokenizer, split: str = "test"):
        self.encoder, self.split = encoder, split

    def measure(self, subject):
        return [], []
"""


def run_at(folder, **needed):
    folder.mkdir(parents=True)
    facts = {"state": "finished", "weights": "aa", "arm": folder.name, "needed": needed}
    (folder / "run.json").write_text(json.dumps(facts))
    return Run(folder)


@pytest.fixture
def config(tmp_path):
    """A run on its own text tokenizer and VQ, and scored by a VAE."""
    (tmp_path / "scores.py").write_text(SCORER)
    metric = {"class": f"{tmp_path}/scores.py:Distance", "encoder": {"weights": {"run": FILE}}}
    config = load_recipe(EXPERIMENTS / "ar_vq.yaml", [f"machine.runs={tmp_path}/runs"])
    scored = load_recipe(EXPERIMENTS / "ar_vq.yaml", [f"evaluation=[{json.dumps(metric)}]"])
    return {**config, "evaluation": scored["evaluation"]}


def test_scores_by_another_reader_are_others_and_a_reader_that_moved_is_the_same(config, tmp_path):
    (key,) = [key for key, needed in needed_runs(config).items() if not needed.trains]

    def identity(name, **reader):
        part = {"name": "vae", "folder": f"{tmp_path}/{name}", "hash": "bb", "scores": True}
        return scores_identity(run_at(tmp_path / name, **{key: part | reader}), config)

    assert identity("one") == identity("moved", folder="elsewhere")
    assert identity("one again") != identity("other", hash="cc")
    plain = {**config, "evaluation": []}
    run = run_at(tmp_path / "plain")
    before = scores_identity(run, plain)
    run.update(needed={key: {"name": "vae", "folder": "x", "hash": "bb"}})
    assert scores_identity(run, plain) == before


def test_a_run_records_which_of_its_needed_runs_only_score_it(config, tmp_path, monkeypatch):
    parts = {
        key: run_at(tmp_path / f"needed{place}") for place, key in enumerate(needed_runs(config))
    }
    facts = needed_facts(config, parts)
    (reader,) = [key for key, needed in needed_runs(config).items() if not needed.trains]
    assert {key for key, part in facts.items() if part.get("scores")} == {reader}
    trained = {key: part for key, part in facts.items() if key != reader}
    run = run_at(tmp_path / "run", **trained)
    monkeypatch.setattr("unify.runs.lookup.find_needed", lambda config: parts)
    set_scoring_runs(run, config)  # asked for after the training
    assert run.info["needed"] == facts
    parts[reader] = run_at(tmp_path / "retrained")
    parts[reader].update(weights="dd")
    set_scoring_runs(run, config)
    assert run.info["needed"][reader]["hash"] == "dd"
    assert {key: run.info["needed"][key] for key in trained} == trained
    set_scoring_runs(run, {**config, "evaluation": []})
    assert run.info["needed"] == trained, "nothing reads its pictures now"
