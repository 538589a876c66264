"""Scores follow the weights of the metrics' own parts, and are said with them."""

import json

import pytest

from unify.config import scoring_weights
from unify.evaluation.scores_identity import scores_identity
from unify.runs.equal_training import record_scoring_parts
from unify.runs.folder import Run

SPEED = {"class": "unify.metrics.speed.Speed", "rows": 4}
JUDGE = {"class": "unify.nn.patches.ConvPatches"}


def asked(*evaluation):
    return {"evaluation": list(evaluation), "image_sampling": {}, "text_sampling": {}}


@pytest.fixture
def run(tmp_path):
    needed = {"/j.yaml": {"name": "j", "folder": "/runs/j", "hash": "aaaa"}}
    run = Run(tmp_path / "m-s0-0123456789")
    run.folder.mkdir()
    run.update(weights="wwww", needed=needed)
    return run


def test_scores_by_a_judge_that_was_trained_anew_are_old(run):
    judged = {**SPEED, "judge": {**JUDGE, "weights": {"run": "/j.yaml", "part": "patches"}}}
    before, plain = (scores_identity(run, asked(node)) for node in (judged, SPEED))
    needed = run.info["needed"]
    run.update(needed={"/j.yaml": {**needed["/j.yaml"], "hash": "bbbb"}})
    assert scores_identity(run, asked(judged)) != before
    assert scores_identity(run, asked(SPEED)) == plain, "it has no part with weights"


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"of": {"its": x}}])
def test_scores_by_an_export_that_was_replaced_are_old(run, tmp_path, wrap):
    node = {**SPEED, "judge": wrap({**JUDGE, "weights": str(tmp_path)})}
    stored = set()
    for digest in ("aaaa", "bbbb", None):
        text = "{" if digest is None else json.dumps({"hash": digest})
        (tmp_path / "config.json").write_text(text)
        stored.add(scores_identity(run, asked(node)))
    assert len(stored) == 3


def test_weights_are_named_by_the_key_of_their_part():
    nodes = [
        {"class": "A", "judge": {"class": "B", "weights": {"run": "/j.yaml", "part": "patches"}}},
        {"class": "A", "judge": [{"class": "B", "net": {"class": "C", "weights": {"run": "/k"}}}]},
        {"class": "A", "weights": {"run": "/k", "seed": 3}},
    ]
    hashes = {"/j.yaml": "aaaa", "/k": "bbbb", "/k seed 3": "cccc"}
    found = [scoring_weights(node, hashes) for node in nodes]
    assert found == [{"judge": "aaaa patches"}, {"judge.0.net": "bbbb"}, {"": "cccc"}]


def test_a_run_that_is_asked_for_again_records_the_judge_of_now(run):
    config = {**asked(), "replicate": 0, "study": "s", "name": "m", "machine": {}}
    other = Run(run.folder.with_name("j"))
    other.folder.mkdir()
    other.update(weights="bbbb", arm="j")
    for weights in ("bbbb", "cccc", "cccc"):
        other.update(weights=weights)
        record_scoring_parts(run, config, {"/j.yaml": other})
        assert run.info["needed"]["/j.yaml"]["hash"] == weights
    assert run.info["needed"].keys() == {"/j.yaml"}
    assert run.info["weights"] == "wwww", "nothing else of it"
