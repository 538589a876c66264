"""Scores are covered by a hash and agree with the outcomes of their trials, or are refused."""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import EXPERIMENTS

from unify.assembly.assemble import open_run
from unify.config import load_recipe
from unify.evaluation.score_run import evaluate, stored_scores
from unify.metrics.shapes_images import TextToImage
from unify.runs.stored_scores import (
    array_names,
    array_of,
    pack_outcomes,
    read_outcomes,
    read_scores,
    with_arrays,
    write_scores,
)
from unify.study.jobs import Job
from unify.study.run_job import score
from unify.tracking.mlflow_process import ship_scores
from unify.tracking.sync import sync
from unify.training.train_run import train

TRIALS = {"a/exact": np.array([1.0, 0.0, 1.0, 1.0])}
ROWS = [
    {"metric": "a/exact", "value": 0.75, "n": 4, "low": 0.3, "high": 0.95, "passport": {"x": 1}},
    {"metric": "a/none", "value": math.nan, "n": 0, "low": None, "high": None, "passport": {}},
    {"metric": "a/ratio", "value": 1e-17 / 3, "n": 9, "low": -0.0, "high": 5e300, "passport": {}},
]


def written(folder):
    write_scores(folder, "asked", True, ROWS, TRIALS)
    return folder / "eval" / "scores.json"


def test_scores_come_back_as_they_were_written(tmp_path):
    written(tmp_path)
    stored = read_scores(tmp_path)
    assert (stored.asked, stored.complete, stored.covered) == ("asked", True, True)
    assert stored.rows == [ROWS[0], {**ROWS[1], "value": None}, ROWS[2]], "NaN is null"
    assert read_outcomes(tmp_path)["a/exact"].tolist() == [1, 0, 1, 1]
    write_scores(tmp_path, "asked", True, [*ROWS, {**ROWS[2], "metric": "speed"}], None)
    assert len(read_scores(tmp_path).rows) == 4, "what is measured later is added"
    assert read_scores(tmp_path / "nowhere") is None


def refused(folder, *words):
    with pytest.raises(ValueError, match=r"scores\.json is not used: .*--again") as caught:
        read_scores(folder)
    for word in (*words, f"unify eval {folder} --again"):
        assert word in str(caught.value)


numbers = st.floats(allow_nan=True) | st.none() | st.integers()


@settings(max_examples=60, deadline=None)
@given(row=st.integers(0, 2), key=st.sampled_from(["value", "n", "low", "high"]), number=numbers)
def test_any_number_that_is_edited_is_noticed(row, key, number):
    with tempfile.TemporaryDirectory() as place:
        path = written(Path(place))
        content = json.loads(path.read_text())
        before = json.dumps(content)
        content["rows"][row][key] = number
        path.write_text(json.dumps(content, indent=3))
        if json.dumps(content) == before:
            assert read_scores(Path(place))
        else:
            refused(Path(place))


def test_rows_that_are_added_or_dropped_and_other_texts_are_noticed(tmp_path):
    for place, change in enumerate(
        (
            lambda content: content["rows"].append(content["rows"][0]),
            lambda content: content["rows"].pop(),
            lambda content: content["rows"].reverse(),
            lambda content: content["rows"][0].update(metric="a/other"),
            lambda content: content["rows"][0]["passport"].update(x=2),
            lambda content: content.update(asked="else"),
            lambda content: content.pop("rows"),
        )
    ):
        path = written(tmp_path / str(place))
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        refused(tmp_path / str(place))
    path.write_text("[1, 2")
    refused(tmp_path / str(place))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"garbage", "cannot be read"),
        (b"", "cannot be read"),
        (None, "missing"),
        (pack_outcomes({"a/exact": np.array([1.0, 1, 1, 0])}), "outcomes.npz has changed"),
    ],
)
def test_outcomes_that_are_edited_damaged_or_gone_are_noticed(tmp_path, content, word):
    path = written(tmp_path).with_name("outcomes.npz")
    path.unlink() if content is None else path.write_bytes(content)
    refused(tmp_path, word)


def test_scores_of_older_versions_are_read_where_they_agree_with_the_outcomes(tmp_path):
    path = written(tmp_path)
    content = json.loads(path.read_text())
    del content["hash"]
    path.write_text(json.dumps(content))
    refused(tmp_path, "its hash is gone")
    path.write_text(json.dumps({"rows": [{**ROWS[0], "better": "higher"}]}))
    refused(tmp_path, "its hash is gone")
    path.write_text(json.dumps({"asked": "x", "complete": True, "rows": ROWS}))
    assert not read_scores(tmp_path).covered
    path.write_text(json.dumps({"rows": [{**ROWS[0], "value": 0.99}]}))
    refused(tmp_path, "a/exact is 0.99, and its outcomes average to 0.75")
    path.with_name("outcomes.npz").unlink()
    assert read_scores(tmp_path).rows[0]["value"] == 0.99, "nothing says otherwise"


def test_a_metric_whose_outcomes_do_not_average_to_its_value_is_refused_when_it_is_stored(tmp_path):
    with pytest.raises(ValueError, match=r"a/exact is 0\.75, and its outcomes average to 0\.5"):
        write_scores(tmp_path, "asked", True, ROWS, {"a/exact": np.array([1.0, 0.0])})
    assert not (tmp_path / "eval" / "scores.json").exists()


def test_several_rows_of_one_metric_keep_the_trials_of_each(tmp_path):
    trials = [np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.array([0.0, 0.0, 1.0])]
    rows = [
        {"metric": "a/exact", "value": float(t.mean()), "passport": {"split": s}}
        for t, s in zip(trials, "abc", strict=True)
    ]
    kept = dict(zip(array_names(["a/exact"] * 3), trials, strict=True))
    write_scores(tmp_path, "asked", True, with_arrays(rows), kept)
    outcomes, read = read_outcomes(tmp_path), read_scores(tmp_path).rows
    assert [outcomes[array_of(row)].tolist() for row in read] == [t.tolist() for t in trials]
    assert with_arrays(read) == read, "named once"
    with pytest.raises(ValueError, match=r"a/exact is 1\.0, and its outcomes average to 0\.5"):
        write_scores(tmp_path, "asked", True, [rows[1], *with_arrays(rows)[2:]], kept)
    with pytest.raises(ValueError, match=r"several rows of a/exact have one array"):
        write_scores(tmp_path, "asked", True, rows, kept)
    with pytest.raises(ValueError, match=r"several rows of a/exact have one array"):
        write_scores(tmp_path, "asked", True, rows[:1] * 2, kept)
    assert array_names(["x", "x 2", "x", "x"]) == ["x", "x 2", "x 3", "x 4"]


METRIC = "evaluation=[{class: unify.metrics.shapes_images.TextToImage, prompts: 4, heldout: 0}]"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run with its scores, opened."""
    folder = tmp_path_factory.mktemp("scored")
    words = ["machine.tracker=none", f"machine.runs={folder}", METRIC, "image_sampling.steps=2"]
    config = load_recipe(EXPERIMENTS / "transfusion.yaml", words, tiny=True)
    run = train(config, lambda text: None)
    return open_run(run.folder)


def test_scores_that_were_edited_are_refused_wherever_they_are_read_until_measured_again(scored):
    run, config, recipe = scored
    rows = json.dumps(evaluate(run, recipe, config))
    path = run.folder / "eval" / "scores.json"
    path.write_text(path.read_text().replace('"value": 0.0', '"value": 0.99'))
    for read in (
        lambda: stored_scores(run, config),
        lambda: evaluate(run, recipe, config),
        lambda: score(run, Job(config["name"], 0, config), print),
        lambda: ship_scores(run.folder, "none", run.folder.parents[1]),
        lambda: sync(run.folder, f"sqlite:///{run.folder}/mlflow.db"),
    ):
        with pytest.raises(ValueError, match=r"scores\.json is not used: .* --again"):
            read()
    assert json.dumps(evaluate(run, recipe, config, again=True)) == rows
    assert json.dumps(stored_scores(run, config)) == rows


def test_scores_of_another_version_of_a_metric_are_measured_again(scored, monkeypatch):
    run, config, recipe = scored
    evaluate(run, recipe, config)
    assert stored_scores(run, config)
    for name in ("WORLD_VERSION", "CHECKER_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(f"unify.evaluation.scores_identity.{name}", 99)
            assert stored_scores(run, config) is None
    monkeypatch.setattr(TextToImage, "version", TextToImage.version + 1)
    assert stored_scores(run, config) is None


def test_scores_by_a_metric_of_one_s_own_follow_its_bytes_and_not_its_place(scored, tmp_path):
    run, config, recipe = scored
    text = "from unify.metrics.shapes_images import TextToImage\nimport how\n"
    text += "class Mine(TextToImage): pass\n"
    stored = []
    for place, how in (("a", "X = 1"), ("b", "X = 1"), ("c", "X = 2")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine.py").write_text(text)
        (tmp_path / place / "how.py").write_text(how)
        asked = {**config, "evaluation": [{"class": f"{tmp_path}/{place}/mine.py:Mine"}]}
        stored.append(stored_scores(run, asked) is not None)
        if place == "a":
            evaluate(run, recipe, asked)
    assert stored == [False, True, False]
    assert np.isfinite(evaluate(run, recipe, config)[0]["value"])
