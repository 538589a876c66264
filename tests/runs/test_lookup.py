"""Runs by their configuration: seeds, needed runs that were moved, and runs by their name."""

import json

import pytest
from places import EXPERIMENTS

from unify.config import load_recipe
from unify.runs.export_folder import hash_files
from unify.runs.folder import Run
from unify.runs.lookup import (
    find_by_name,
    find_equal_training,
    find_finished,
    find_needed,
    find_run,
    find_run_if_data,
    needed_configs,
    recorded_needed,
    replicate,
    run_of,
)
from unify.support.precision import precision_on

WITHOUT_DATA = "data.source={class: unify.data.shards.Shards, path: nowhere}"


def config(runs, name, *words):
    return load_recipe(EXPERIMENTS / f"{name}.yaml", [f"machine.runs={runs}", *words])


def write_run(folder, state="finished", **facts):
    (folder / "export").mkdir(parents=True)
    facts = {"weights": hash_files(folder / "export"), **facts}
    (folder / "run.json").write_text(json.dumps({"state": state, **facts}))
    return Run(folder)


def test_a_study_s_seed_is_added_to_each_of_an_arm_s_own():
    arm = {"name": "a", "seeds": {"init": 10, "data": 20}, "replicate": None}
    assert replicate(arm, 3) == {"name": "a", "seeds": {"init": 13, "data": 23}, "replicate": 3}
    assert arm["seeds"]["init"] == 10, "unchanged"


def test_a_run_is_named_by_its_weights_and_found_where_it_is_written(tmp_path):
    arm = config(tmp_path, "tokenizers/shapes_text")
    run = run_of(arm, {})
    assert run.folder.parent == tmp_path / arm["study"]
    assert run.folder.name == f"{arm['name']}-s0-{run.hash}"
    assert run_of(replicate(arm, 1), {}).hash != run.hash
    assert find_run(arm) is None
    write_run(run.folder, "running")
    assert find_run(arm).folder == run.folder
    assert find_finished(arm) is None
    run.update(state="finished")
    assert find_finished(arm).folder == run.folder


def test_a_run_is_not_looked_for_before_what_it_needs_is_finished(tmp_path):
    arm = config(tmp_path, "queries_dit")
    needed = needed_configs(arm)
    names = [part["name"] for part in needed.values()]
    assert names == ["shapes_text", "vlm", "shapes_vae"], "a language model after its vocabulary"
    assert all(part["machine"] == arm["machine"] for part in needed.values())
    assert find_needed(arm) is None
    assert find_run(arm) is None
    for part in needed.values():  # in the order in which they are trained
        own = find_needed(part)
        weights = {key: run.info["weights"] for key, run in own.items()}
        write_run(run_of(part, weights).folder, weights=part["name"])
    result = find_needed(arm)
    assert {key: run.info["weights"] for key, run in result.items()} == {
        key: part["name"] for key, part in needed.items()
    }
    weights = {key: run.info["weights"] for key, run in result.items()}
    assert run_of(arm, weights).hash != run_of(arm, dict.fromkeys(weights, "others")).hash


def test_without_its_data_a_run_is_refused_or_missing_as_is_asked(tmp_path):
    arm = config(tmp_path, "transfusion", WITHOUT_DATA)
    for part in needed_configs(arm).values():
        write_run(run_of(part, {}).folder, weights=part["name"])
    with pytest.raises((ValueError, OSError)):
        find_run(arm)
    assert find_run_if_data(arm) is None


def test_an_equal_training_is_a_finished_run_of_the_same_hash_and_settings(tmp_path):
    arm = config(tmp_path, "tokenizers/shapes_text")
    run = run_of(arm, {})
    other = write_run(tmp_path / "elsewhere" / run.folder.name.replace("shapes_text", "twin"))
    assert find_equal_training(run, arm) is None, "it has no configuration"
    (other.folder / "config.yaml").write_text(json.dumps(arm))  # JSON is YAML
    (other.folder / "export" / "config.json").write_text("{}")
    other.update(precision=precision_on("cpu", "auto"))
    assert find_equal_training(run, arm).folder == other.folder
    assert find_run(arm, reuse=True).folder == other.folder
    assert find_run(arm) is None
    precise = {**arm, "machine": {**arm["machine"], "precision": "64-true"}}
    assert find_equal_training(run, precise) is None
    other.update(state="failed")
    assert find_equal_training(run, arm) is None


def test_what_auto_was_is_compared_and_not_the_word(tmp_path):
    arm = config(tmp_path, "tokenizers/shapes_text")
    asked = {
        name: {**arm, "machine": {**arm["machine"], "precision": name}}
        for name in ("auto", "32-true", "bf16-mixed")
    }
    here = precision_on("cpu", "auto")
    (elsewhere,) = {"32-true", "bf16-mixed"} - {here}
    run = run_of(arm, {})
    other = write_run(tmp_path / "elsewhere" / run.folder.name.replace("shapes_text", "twin"))
    (other.folder / "config.yaml").write_text(json.dumps(asked["auto"]))
    (other.folder / "export" / "config.json").write_text("{}")
    other.update(precision=here)
    assert find_equal_training(run, asked["auto"])
    assert find_equal_training(run, asked[here])
    assert find_equal_training(run, asked[elsewhere]) is None
    other.update(precision=elsewhere)  # by a machine of another kind
    assert find_equal_training(run, asked["auto"]) is None
    assert find_equal_training(run, asked[elsewhere]).folder == other.folder


def test_needed_runs_are_where_they_were_or_moved_along(tmp_path):
    present = write_run(tmp_path / "old" / "study" / "text-s0-aa")
    run = write_run(
        tmp_path / "new" / "study" / "arm-s0-bb", needed={"k": {"folder": str(present.folder)}}
    )
    assert recorded_needed(run)["k"].folder == present.folder
    moved = tmp_path / "new" / "study" / "text-s0-aa"
    present.folder.rename(moved)
    assert recorded_needed(run)["k"].folder == moved
    moved.rename(tmp_path / "lost")
    with pytest.raises(ValueError, match=r"neither there nor in .*keep the folders of a study"):
        recorded_needed(run)


def test_a_name_is_looked_for_in_its_study_first_and_beside_it_then(tmp_path):
    study = tmp_path / "runs" / "study"
    assert find_by_name(study, "arm-s1") is None
    beside = write_run(tmp_path / "runs" / "other" / "arm-s1-aa")
    assert find_by_name(study, "arm-s1").folder == beside.folder
    write_run(study / "arm-s10-bb")
    assert find_by_name(study, "arm-s1").folder == beside.folder, "seed 10 is not seed 1"
    own = write_run(study / "arm-s1-cc")
    assert find_by_name(study, "arm-s1").folder == own.folder
