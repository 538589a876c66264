"""From YAML to a compared result, with real parts: a tiny study, its scores, MLflow and report."""

import html
import json
import shlex
import subprocess
import sys
from contextlib import suppress

import pytest
from places import EXPERIMENTS, ROOT

from unify import __version__
from unify.answers.study_records import load_study as load_report
from unify.data.shapes import Shapes
from unify.report.page import write_report
from unify.runs.folder import Run
from unify.study import run_study as study_module
from unify.study.jobs import Job, StudyRequest
from unify.study.run_job import error_in_study_folder
from unify.study.run_study import run_study
from unify.support.precision import precision_on
from unify.support.stop_protocol import Stopped
from unify.tracking import mlflow_process

STUDY = f"""
name: tiny
title: A tiny study
arms:
  ar_vq: {{base: {ROOT}/experiments/ar_vq.yaml}}
  transfusion: {{base: {ROOT}/experiments/transfusion.yaml}}
  broken: {{base: {ROOT}/experiments/ar_vq.yaml, optimizer: {{lr_ratio: {{nowhere: 0.1}}}}}}
set:
  logging: {{metrics_every: 1, samples_every: 2}}
  evaluation:
    - {{class: unify.metrics.shapes_images.TextToImage, prompts: 6, heldout: 4, geneval: 2}}
    - {{class: unify.metrics.shapes_texts.VisualQuestions, questions: 20, heldout: 4}}
    - {{class: unify.metrics.shapes_texts.Captions, images: 4, heldout: 4}}
    - {{class: unify.metrics.perplexity.Perplexity, rows: 8}}
    - {{class: unify.metrics.reconstruction.Reconstruction, images: 8}}
    - {{class: unify.metrics.speed.Speed, rows: 2, repeats: 1}}
seeds: [0, 1]
primary: [text_to_image/exact/two_objects]
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.yaml").write_text(STUDY)
    printed = []
    request = StudyRequest(str(folder / "tiny.yaml"), [f"machine.runs={folder}/runs"], tiny=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_process, "WAIT", 120.0)  # the machine that tests may be a busy one
        made = run_study(request, printed.append)
    return folder, made, printed


def test_every_arm_and_seed_has_rows_of_one_form(outcome):
    folder, made, _ = outcome
    rows = json.loads((folder / "runs/tiny/results.json").read_text())
    assert rows == json.loads(json.dumps(made.rows))
    assert {(r["arm"], r["seed"]) for r in rows} == {
        (arm, seed) for arm in ("ar_vq", "transfusion") for seed in (0, 1)
    }
    for row in rows:
        assert row.keys() == {
            "arm", "paradigm", "seed", "metric", "value", "n", "low", "high", "passport", "better",
            "unit", "distinct",
        }  # fmt: skip
        assert row["passport"]["version"] == __version__
        assert row["passport"]["precision"] == precision_on("cpu", "auto")
    weights = {r["passport"]["weights"]: (r["arm"], r["seed"]) for r in rows}
    assert len(weights) == 4, "one export for each run"
    for run in (folder / "runs/tiny").glob("*/run.json"):
        facts = json.loads(run.read_text())
        if facts["state"] == "finished":
            assert weights.pop(facts["weights"]) == (facts["arm"], facts["seed"])
    assert not weights, "each is the export of a run"
    named = {row["metric"] for row in rows}
    assert named >= {
        "text_to_image/exact",
        "text_to_image/exact/two_objects",
        "text_to_image/exact/heldout",
        "vqa/accuracy",
        "vqa/accuracy/count",
        "vqa/chance",
        "vqa/majority",
        "vqa/blind",
        "caption/exact",
        "caption/perplexity",
        "tokenizer/psnr",
        "tokenizer/exact",
        "generate/images_per_s",
    }


def test_the_study_says_what_its_runs_metrics_and_settings_are(outcome):
    folder, _, _ = outcome
    info = json.loads((folder / "runs/tiny/study.json").read_text())
    present = {path.parent.name for path in (folder / "runs/tiny").glob("*/run.json")}
    assert set(info["runs"]) == present
    assert any("text_to_image/exact/heldout" in text for text in info["metrics"])
    assert info["overrides"] == ["--tiny"], "but not where the runs are"


def test_an_arm_that_fails_is_named_and_loses_no_other(outcome):
    _, made, _ = outcome
    assert set(made.failed) == {"broken seed 0", "broken seed 1"}
    assert all("lr_ratio" in message for message in made.failed.values())


def test_mlflow_has_every_run_its_scores_and_its_config(outcome):
    from mlflow import MlflowClient

    folder, _, _ = outcome
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    finished = [
        p.parent for p in (folder / "runs/tiny").glob("*/run.json") if Run(p.parent).finished
    ]
    assert len(finished) == 4
    for one in finished:
        logged = runs[one.name]
        assert {"text_to_image/exact", "text_to_image/exact.n"} <= logged.data.metrics.keys()
        assert "loss" in logged.data.metrics
        assert logged.data.params["model.trunk.dim"] == "32"
        names = {item.path for item in client.list_artifacts(logged.info.run_id)}
        assert {"config.yaml", "run.json", "samples", "eval"} <= names


def test_a_second_call_trains_and_measures_nothing(outcome):
    folder, made, _ = outcome
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs/tiny").glob("*/export/*")}
    again = []
    repeated = run_study(
        StudyRequest(str(folder / "tiny.yaml"), [f"machine.runs={folder}/runs"], tiny=True),
        again.append,
    )
    assert {p: p.stat().st_mtime_ns for p in (folder / "runs/tiny").glob("*/export/*")} == before
    assert json.dumps(repeated.rows) == json.dumps(made.rows)
    assert sum("trained already" in line for line in again) >= 4


@pytest.mark.slow
def test_another_way_of_scoring_takes_hold_without_training_again(tmp_path):
    path, printed = tmp_path / "study.yaml", [f"machine.runs={tmp_path}", "machine.tracker=none"]
    arm = f"{{base: {ROOT}/experiments/transfusion.yaml}}"
    path.write_text(f"{{name: s, arms: {{transfusion: {arm}}}}}")
    metric = "class: unify.metrics.shapes_images.TextToImage, heldout: 0, geneval: 0"
    lines: list[str] = []

    def scored(prompts, steps, *words):
        asked = [f"evaluation=[{{{metric}, prompts: {prompts}}}]", f"image_sampling.steps={steps}"]
        asked += words
        rows = run_study(StudyRequest(str(path), [*printed, *asked], tiny=True), lines.append).rows
        (row,) = [row for row in rows if row["metric"] == "text_to_image/exact"]
        return row["n"], row["passport"]["sampler"]["steps"], row["passport"]["precision"]

    trained = precision_on("cpu", "auto")
    (other,) = {"32-true", "bf16-mixed"} - {trained}
    assert scored(4, 2) == (4, 2, trained)
    lines.clear()
    assert scored(6, 3) == (6, 3, trained)
    assert any(line.endswith("trained already") for line in lines)
    assert scored(6, 3, f"machine.precision={other}") == (6, 3, other)
    assert f"trained already, in {trained}; for one in {other}" in " ".join(lines)
    assert scored(6, 3) == (6, 3, other), "auto takes scores of any machine"


def test_report_is_one_page_with_pictures(outcome):
    folder, _, _ = outcome
    page = write_report(folder / "runs/tiny").read_text()
    assert "A tiny study" in page
    assert page.count("data:image/png;base64,") > 8
    assert "<script" not in page


def test_two_runs_of_one_seed_consume_the_same_data(outcome):
    folder, _, _ = outcome
    hashes = {}
    for path in (folder / "runs/tiny").glob("*-s0-*/journal.jsonl"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if record["kind"] == "train" and record["step"] == 2:
                hashes[path.parent.name.split("-s")[0]] = record["data"]
    assert hashes["ar_vq"] == hashes["transfusion"]


@pytest.mark.slow
def test_runs_at_once_are_those_of_one_after_another(outcome, tmp_path):
    folder, _, _ = outcome
    short = STUDY.replace("seeds: [0, 1]", "seeds: [0]")
    short = short[: short.index("  evaluation:")] + short[short.index("seeds:") :]
    (tmp_path / "tiny.yaml").write_text(short)
    overrides = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", "evaluation=[]"]
    overrides.append("primary=[]")
    printed: list[str] = []
    made = run_study(
        StudyRequest(str(tmp_path / "tiny.yaml"), overrides, tiny=True, at_once=3), printed.append
    )
    assert list(made.failed) == ["broken seed 0"]
    assert "lr_ratio" in made.failed["broken seed 0"]
    told = (tmp_path / "runs/tiny/broken-s0.error.txt").read_text()
    assert "lr_ratio" in told.splitlines()[-1]
    runs = [Run(path.parent) for path in (tmp_path / "runs/tiny").glob("*/run.json")]
    finished = [run for run in runs if run.finished]
    assert len(finished) == 2
    for run in finished:
        again = Run(folder / "runs/tiny" / run.folder.name)
        assert run.info["weights"] == again.info["weights"]
    assert any(line.startswith("transfusion seed 0 | ") for line in printed)


def test_only_some_arms_are_trained_and_the_scores_of_others_stay(study, tmp_path):
    printed = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none"]
    printed.append("evaluation=[{class: unify.metrics.speed.Speed, rows: 1, repeats: 1}]")
    path = study()
    first = run_study(StudyRequest(path, printed, tiny=True, only="trans*"), lambda text: None)
    assert {row["arm"] for row in first.rows} == {"transfusion"}
    second = run_study(StudyRequest(path, printed, tiny=True, only="ar_vq"), lambda text: None)
    assert {row["arm"] for row in second.rows} == {"ar_vq", "transfusion"}
    stored = json.loads((second.folder / "results.json").read_text())
    assert [r for r in stored if r["arm"] == "transfusion"] == first.rows
    with pytest.raises(ValueError, match="no arm like 'x'; it has ar_vq, transfusion"):
        run_study(StudyRequest(path, printed, tiny=True, only="x"), lambda text: None)


def test_an_arm_of_other_seeds_is_paired_by_the_seed_of_the_study(study, tmp_path):
    printed = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none", "evaluation=[]"]
    file = str(EXPERIMENTS / "transfusion.yaml")
    arms = {"one": file, "again": {"base": file, "seeds": {"init": 10, "data": 20, "noise": 30}}}
    made = run_study(
        StudyRequest(study(arms=arms, seeds=[0, 1]), printed, tiny=True), lambda text: None
    )
    runs = sorted((run.arm, run.seed) for run in load_report(made.folder).runs)
    assert runs == [("again", 0), ("again", 1), ("one", 0), ("one", 1)]
    assert sorted(path.name[:9] for path in made.folder.glob("again-s*")) == [
        "again-s10", "again-s11",
    ]  # fmt: skip


def test_an_arm_without_its_data_costs_no_report(study, tmp_path):
    """And what a study that was stopped left is what its runs have, not an older table."""
    arms = {
        "one": str(EXPERIMENTS / "transfusion.yaml"),
        "lost": {
            "base": str(EXPERIMENTS / "transfusion.yaml"),
            "data": {"source": {"class": "unify.data.shards.Shards", "path": str(tmp_path / "no")}},
        },
    }
    speed = "evaluation=[{class: unify.metrics.speed.Speed, rows: 1, repeats: 1}]"
    printed = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", speed]
    made = run_study(StudyRequest(study(arms=arms), printed, tiny=True), lambda text: None)
    assert list(made.failed) == ["lost seed 0"]
    assert "lost" in (made.folder / "report.html").read_text()
    rows = load_report(made.folder).rows
    assert {row["arm"] for row in rows} == {"one"}
    stale = [{**row, "value": 12345.0} for row in rows]
    (made.folder / "results.json").write_text(json.dumps(stale))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "finish_job", stopped)
        with pytest.raises(Stopped):
            run_study(StudyRequest(study(arms=arms), printed, tiny=True), lambda text: None)
    assert load_report(made.folder).rows == rows


def test_an_arm_that_could_not_be_scored_is_refused_before_it_is_trained(study, tmp_path):
    arms = {"one": str(EXPERIMENTS / "transfusion.yaml")}
    empty = "evaluation=[{class: unify.metrics.pictures.Pictures, split: heldout}]"
    printed = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", empty]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shapes, "size", lambda self, task, split: 9 if split != "heldout" else 0)
        made = run_study(StudyRequest(study(arms=arms), printed, tiny=True), lambda text: None)
    assert "evaluation: Pictures: the heldout split of Shapes has no" in made.failed["one seed 0"]
    assert not list(made.folder.glob("one-*/run.json"))


def stopped(job, say):
    raise Stopped("by a signal")


def test_the_page_names_the_command_that_was_given(study, tmp_path):
    printed = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", "machine.precision=32-true"]
    printed += ["steps=1", "evaluation=[{class: unify.metrics.speed.Speed, rows: 1, repeats: 1}]"]
    path = study(arms={"one": str(EXPERIMENTS / "transfusion.yaml")})
    made = run_study(StudyRequest(path, printed, tiny=True), lambda text: None)
    words = shlex.join([path, *printed[2:], "--tiny"])
    assert f"unify study {words}" in html.unescape((made.folder / "report.html").read_text())


@pytest.mark.fault(39)
def test_a_study_that_another_process_writes_is_refused_and_its_results_stay(study, tmp_path):
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.read(4) == b"held"
        path = study(arms={"one": str(EXPERIMENTS / "transfusion.yaml")})
        with pytest.raises(ValueError, match=rf"another process \({holder.pid} on .*; wait for it"):
            run_study(StudyRequest(path, [f"machine.runs={tmp_path}/runs"], tiny=True), print)
    finally:
        holder.kill()
        holder.wait()
    assert [path.name for path in folder.iterdir()] == [".lock"]


HOLDS = """
import os, signal, sys
from pathlib import Path
from unify.support.folder_lock import only_writer
with only_writer(Path(sys.argv[1]), print):
    os.write(1, b"held")
    signal.pause()
"""


def test_the_traceback_of_an_attempt_goes_when_the_job_is_done(tmp_path):
    job = Job("a", 0, {"machine": {"runs": str(tmp_path)}, "study": "s"})
    for fails in (True, False):
        with suppress(KeyError), error_in_study_folder(job):
            assert fails == (not list(tmp_path.glob("s/*")))
            if fails:
                raise KeyError
    assert not list(tmp_path.glob("s/*"))
