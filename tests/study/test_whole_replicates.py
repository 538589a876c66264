"""A study whose seeds are whole pipelines, from YAML to report: killed, and run to its end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml
from whole_study import FROM_LANGUAGE, IMAGES, write_parts

from unify.answers.answers_json import answers_content
from unify.answers.pool import pool
from unify.answers.publish import publish
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.commands.study import report
from unify.commands.study import study as study_command
from unify.runs.folder import Run
from unify.runs.lookup import recorded_needed
from unify.study.arms import resolve_arms
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.plan_table import lines
from unify.study.run_study import run_study

METRIC = "text_to_image/unreadable"
SEEDS = (0, 1)


def write(folder):
    """Two arms, from scratch and from a language model, which shares its vocabulary with them."""
    write_parts(folder)
    study = {
        "name": "whole",
        "arms": {
            "scratch": "scratch.yaml",
            "pretrained": {"base": "scratch.yaml", "model": FROM_LANGUAGE},
        },
        "seeds": list(SEEDS),
        "replicate": "all",
        "set": {"evaluation": [{**IMAGES, "prompts": 4}]},
        "primary": [METRIC],
        "tune": {"metric": METRIC, "trials": 2, "space": {"optimizer.lr": {"factor": 3}}},
    }
    path = folder / "whole.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    words = [f"machine.runs={folder}/runs", "machine.tracker=none", "machine.threads=1"]
    return StudyRequest(str(path), words)


def kill_when(request, there):
    """Start the study in a process, and kill it when `there()` is true."""
    command = [sys.executable, "-m", "unify.cli", "study", *request.words]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None and not there():
        time.sleep(0.02)
    assert process.poll() is None, "it was killed before its end"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_states(folder):
    """{name of each run without its hash: state} of a study's folder, or of `default`."""
    runs = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/run.json")}
    return {name.rpartition("-")[0]: info["state"] for name, info in runs.items()}


@pytest.mark.slow
def test_a_study_of_whole_pipelines_goes_on_after_a_kill_and_is_reported(tmp_path):
    request, runs = write(tmp_path), tmp_path / "runs"
    arms = ("scratch", "pretrained")
    kill_when(request, lambda: any(runs.glob("whole-tuning/*-s1001-*/run.json")))
    ended = {path: path.stat().st_mtime_ns for path in runs.glob("*/*/export/*.safetensors")}
    assert ended

    made = run_study(request, lambda text: None)
    assert made.failed == {}
    assert all(path.stat().st_mtime_ns == then for path, then in ended.items()), "trained once"
    of_all = run_states(runs / "default") | run_states(runs / "tokenizers")
    expected = {f"{name}-s{seed}" for name in ("text", "vae", "llm") for seed in SEEDS}
    assert of_all == dict.fromkeys(expected, "finished")
    trials = {f"{arm},trial={n}-s{1000 + s}" for arm in arms for n in (0, 1) for s in SEEDS}
    assert run_states(runs / "whole-tuning") == dict.fromkeys(trials, "finished")

    tuning = json.loads((made.folder / "tuning.json").read_text())
    assert {*tuning} == {f"{arm}-s{seed}" for arm in arms for seed in SEEDS}
    study = load_study(made.folder)
    assert [(run.arm, run.seed) for run in study.runs] == [(a, s) for a in arms for s in SEEDS]
    for run in study.runs:
        chosen = tuning[f"{run.arm}-s{run.seed}"]
        values = chosen["trials"][chosen["best"]]["values"]
        assert run.config["optimizer"]["lr"] == values.get("optimizer.lr", 3e-3)
        parts = recorded_needed(Run(run.folder)).values()
        below = [one for part in parts for one in recorded_needed(part).values()]
        assert len(below) == (run.arm == "pretrained"), "the language model's vocabulary"
        assert {Run(part.folder).info["seed"] for part in (*parts, *below)} == {run.seed}

    page = (made.folder / "report.html").read_text()
    assert "each seed a pipeline of its own" in page
    assert "pretrained, seed 1" in page
    assert "(tokenizer:" not in (made.folder / "report.md").read_text(), "one line for all seeds"
    answers = json.loads((made.folder / "answers.json").read_text())
    assert (answers["replicate"], answers["shared"]) == ("all", {})
    printed = lines(plan(request))
    assert "needed runs missing: 0; each seed has its own" in printed[-1]
    again: list[str] = []
    run_study(request, again.append)
    assert not any("parameters" in line or "trial=" in line for line in again), "nothing is left"

    shared = StudyRequest(request.path, [*request.overrides, "replicate=arm", "tune=null"])
    planned = plan(shared)
    assert {run.info["state"] for run, _ in [(r, n) for n, r in planned.needed]} == {"finished"}
    assert "llm 1 finished" in lines(planned)[-1], "seed 0 of all is what all seeds may share"
    assert resolve_arms(shared)[1].keys() == {*arms}


@pytest.mark.slow
def test_replicates_of_two_places_are_the_study_that_ran_them_all(tmp_path):
    """Each trains and tunes its own seed alone; the other is neither trained nor waited for."""
    for seed in (0, 1):
        (tmp_path / f"place{seed}").mkdir()
    requests = [write(tmp_path / f"place{seed}") for seed in (0, 1)]
    for seed, request in enumerate(requests):
        made = run_study(replace(request, seed=seed), lambda text: None)
        assert made.failed == {}
        runs = tmp_path / f"place{seed}" / "runs"
        arms = ("scratch", "pretrained")
        assert run_states(runs / "whole").keys() == {f"{arm}-s{seed}" for arm in arms}
        assert {name[-1] for name in run_states(runs / "whole-tuning")} == {str(seed)}
        study = load_study(made.folder)
        assert study.seeds_in_words == "1 of 2 seeds"
        with pytest.raises(ValueError, match=f"seed {1 - seed}\\) is not trained"):
            publish(study, tmp_path / f"pub{seed}")
        publish(study, tmp_path / f"pub{seed}", seed)
    one = load_study(pool([tmp_path / "pub0"], tmp_path / "one"))
    assert one.seeds_in_words == "1 of 2 seeds", "the other is still to come"
    both = load_study(pool([tmp_path / "pub1", tmp_path / "pub0"], tmp_path / "both"))
    whole = load_study(run_study(requests[0], lambda text: None).folder)
    first, second = (answers_content(study_answers(study)) for study in (whole, both))
    assert first["differences"]
    for key in first.keys() - {"created"}:
        assert first[key] == second[key], key
    tuned = [json.loads((study.folder / "tuning.json").read_text()) for study in (whole, both)]
    chosen = [{key: entry["best"] for key, entry in entries.items()} for entries in tuned]
    assert chosen[0] == chosen[1]


def test_a_dry_run_of_one_seed_lists_its_runs_alone(tmp_path, capsys):
    study_command(write(tmp_path).path, seed=1, dry_run=True)
    assert {run["seed"] for run in json.loads(capsys.readouterr().out)} == {1}


def test_a_seed_that_the_study_has_not_and_options_that_exclude_each_other_are_refused(tmp_path):
    request = write(tmp_path)
    with pytest.raises(ValueError, match=r"has no seed 7; it has \[0, 1\]"):
        run_study(replace(request, seed=7), print)
    with pytest.raises(ValueError, match="--seeds says how many it has"):
        study_command(request.path, seeds=2, seed=1)
    with pytest.raises(ValueError, match="--gather is of all"):
        study_command(request.path, gather=True, seed=1)
    for mode in ({"dry_run": True}, {"choose": True}):
        with pytest.raises(ValueError, match=r"has no seed 7; it has \[0, 1\]"):
            study_command(request.path, seed=7, **mode)
    with pytest.raises(ValueError, match="--seed names the replicate to --publish"):
        report(tmp_path, seed=1)
