"""Studies as grids; a part of a study; fewer seeds."""

import html
import json
import shlex

import pytest
import yaml
from places import EXPERIMENTS

from unify.config import ConfigError, load_study
from unify.report.page import render
from unify.report.study_records import load_study as load_report
from unify.study import run_study as study_module
from unify.study.jobs import StudyRequest
from unify.study.mlflow_study import fetch_study, send_study
from unify.study.run_study import run_study
from unify.support.stop_protocol import Stopped
from unify.tracking.mlflow_delivery import connect
from unify.tracking.mlflow_process import store_uri


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
    _, arms = load_study(study(grid={"steps": [5, 6]}), ["steps=7"])
    assert {a["steps"] for a in arms.values()} == {7}
    _, arms = load_study(study(grid={"steps": [5, 6]}), ["grid=[{ema: 0.5}]", "grid.0.ema=0.7"])
    assert {a["ema"] for a in arms.values()} == {0.7}


@pytest.mark.parametrize("grid", [{"steps": 5}, {"steps": []}, [5], "steps"])
def test_what_is_no_grid_is_refused(study, grid):
    with pytest.raises(ConfigError, match="grid"):
        load_study(study(grid=grid))


def test_an_unknown_key_is_named_with_its_arm(study):
    with pytest.raises(ConfigError, match=r"transfusion,deph=3.*did you mean 'depth'"):
        load_study(study(grid={"model.trunk.deph": [3]}))


def test_only_some_arms_are_trained_and_the_scores_of_others_stay(study, tmp_path):
    said = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none"]
    said.append("evaluation=[{class: unify.metrics.speed.Speed, rows: 1, repeats: 1}]")
    path = study()
    first = run_study(StudyRequest(path, said, tiny=True, only="trans*"), lambda text: None)
    assert {row["arm"] for row in first.rows} == {"transfusion"}
    second = run_study(StudyRequest(path, said, tiny=True, only="ar_vq"), lambda text: None)
    assert {row["arm"] for row in second.rows} == {"ar_vq", "transfusion"}
    stored = json.loads((second.folder / "results.json").read_text())
    assert [r for r in stored if r["arm"] == "transfusion"] == first.rows
    with pytest.raises(ValueError, match="no arm like 'x'; it has ar_vq, transfusion"):
        run_study(StudyRequest(path, said, tiny=True, only="x"), lambda text: None)


def test_an_arm_of_other_seeds_is_paired_by_the_seed_of_the_study(study, tmp_path):
    said = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none", "evaluation=[]"]
    file = str(EXPERIMENTS / "transfusion.yaml")
    arms = {"one": file, "again": {"base": file, "seeds": {"init": 10, "data": 20, "noise": 30}}}
    made = run_study(
        StudyRequest(study(arms=arms, seeds=[0, 1]), said, tiny=True), lambda text: None
    )
    runs = sorted((run.arm, run.seed) for run in load_report(made.folder).runs)
    assert runs == [("again", 0), ("again", 1), ("one", 0), ("one", 1)]
    assert sorted(path.name[:9] for path in made.folder.glob("again-s*")) == [
        "again-s10", "again-s11",
    ]  # fmt: skip


def test_a_claim_about_an_unknown_arm_is_named(study):
    claim = {"paper": "p", "says": "s", "metric": "m", "higher": "ar_vq", "lower": "transfuson"}
    with pytest.raises(ConfigError, match=r"claims.0.lower.*did you mean 'transfusion'"):
        load_study(study(claims=[claim]))
    assert load_study(study(claims=[{**claim, "lower": "transfusion"}]))[0].claims[0].paper == "p"


def test_mlflow_has_the_study_above_its_runs(study, tmp_path):
    runs = tmp_path / "runs"
    metric = "generate/images_per_s"
    said = [f"machine.runs={runs}"]
    said.append("evaluation=[{class: unify.metrics.speed.Speed, rows: 1, repeats: 1}]")
    path = study(grid={"optimizer.lr": [1e-3]}, primary=[metric])
    made = run_study(StudyRequest(path, said, tiny=True, only="trans*"), lambda text: None)
    uri = store_uri("", runs)
    client = connect(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "s"]
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = found.pop("study s")
    (child,) = found.values()
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.inputs.dataset_inputs[0].dataset.name == "Shapes"
    assert parent.data.metrics[f"{metric}/transfusion_lr_0.001"] == made.rows[0]["value"]
    assert f"{metric}: transfusion" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["mlflow.source.name"] == path
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert names >= {"report.html", "report.md", "results.csv", "table.tex"}
    earlier = client.create_run(experiment.experiment_id, run_name="of earlier settings")
    client.set_tag(earlier.info.run_id, "mlflow.parentRunId", parent.info.run_id)
    assert send_study(made.folder, uri) == parent.info.run_id, "sent again, the same run"
    assert "mlflow.parentRunId" not in client.get_run(earlier.info.run_id).data.tags
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
    elsewhere = fetch_study(uri, "s", tmp_path / "elsewhere")
    first, second = (load_report(folder) for folder in (made.folder, elsewhere))
    assert second.rows == first.rows
    assert [run.train for run in second.runs] == [run.train for run in first.runs]
    assert first.runs[0].train, "the journal came too"
    page = render(second).replace("elsewhere/s", "runs/s")
    assert page == render(first), "the same page, but for where its folder is"
    with pytest.raises(ValueError, match="is there already"):
        fetch_study(uri, "s", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="has no study 'x'; it has s"):
        fetch_study(uri, "x", tmp_path / "more")


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
    said = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", speed]
    made = run_study(StudyRequest(study(arms=arms), said, tiny=True), lambda text: None)
    assert list(made.failed) == ["lost seed 0"]
    assert "lost" in (made.folder / "report.html").read_text()
    rows = load_report(made.folder).rows
    assert {row["arm"] for row in rows} == {"one"}
    stale = [{**row, "value": 12345.0} for row in rows]
    (made.folder / "results.json").write_text(json.dumps(stale))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "finish_job", stopped)
        with pytest.raises(Stopped):
            run_study(StudyRequest(study(arms=arms), said, tiny=True), lambda text: None)
    assert load_report(made.folder).rows == rows


def stopped(job, say):
    raise Stopped("by a signal")


def test_the_page_names_the_command_that_was_given(study, tmp_path):
    said = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", "machine.precision=32-true"]
    said += ["steps=1", "evaluation=[{class: unify.metrics.speed.Speed, rows: 1, repeats: 1}]"]
    path = study(arms={"one": str(EXPERIMENTS / "transfusion.yaml")})
    made = run_study(StudyRequest(path, said, tiny=True), lambda text: None)
    words = shlex.join([path, *said[2:], "--tiny"])
    assert f"unify study {words}" in html.unescape((made.folder / "report.html").read_text())
