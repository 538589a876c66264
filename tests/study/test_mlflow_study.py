"""A study in a real MLflow store, and back."""

import pytest

from unify.answers.study_records import load_study as load_report
from unify.report.page import render
from unify.study.jobs import StudyRequest
from unify.study.mlflow_study import fetch_study
from unify.study.run_study import run_study
from unify.tracking import mlflow_process
from unify.tracking.mlflow_parent import send_study
from unify.tracking.mlflow_process import store_uri
from unify.tracking.mlflow_store import connect


@pytest.mark.slow
def test_mlflow_has_the_study_above_its_runs(study, tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_process, "WAIT", 120.0)  # the machine that tests may be a busy one
    runs = tmp_path / "runs"
    metric = "generate/images_per_s"
    printed = [f"machine.runs={runs}"]
    printed.append("evaluation=[{class: unify.metrics.speed.Speed, rows: 1, repeats: 1}]")
    path = study(grid={"optimizer.lr": [1e-3]}, primary=[metric])
    made = run_study(StudyRequest(path, printed, tiny=True, only="trans*"), lambda text: None)
    uri = store_uri("", runs)
    client = connect(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "s"]
    result = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = result.pop("study s")
    (child,) = result.values()
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.inputs.dataset_inputs[0].dataset.name == "Shapes"
    assert parent.data.metrics[f"{metric}/transfusion_lr_0.001"] == made.rows[0]["value"]
    assert f"{metric}: transfusion" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["mlflow.source.name"] == path
    assert parent.data.tags[f"better.{metric}"] == "higher"
    assert parent.data.metrics[f"{metric}/transfusion_lr_0.001.seeds"] == 1
    assert child.data.tags["study"] == "s"
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
