"""Runs sent to a real MLflow: each record once, whatever was deleted there meanwhile."""

import json
import shutil

import pytest
import yaml
from stores import SETTINGS, deliver, find, history, losses, make_run, tell, write

from unify.runs.journal import Journal
from unify.tracking.mlflow_delivery import (
    BATCH,
    SHIPPED,
    Shipment,
    is_sent,
    journal_scores,
    sole_sender,
)
from unify.tracking.mlflow_process import store_uri
from unify.tracking.mlflow_registry import register
from unify.tracking.mlflow_store import connect


def test_sending_again_sends_each_record_once_however_often(runs):
    folder, uri = make_run(runs), store_uri("", runs)
    assert not is_sent(folder, uri)
    assert deliver(folder, uri) == 8
    assert is_sent(folder, uri)
    assert deliver(folder, uri) == 0
    write(folder, [5])
    assert not is_sent(folder, uri)
    assert deliver(folder, uri) == 2
    assert history(uri, folder) == losses(5)
    assert find(uri, folder)[1].info.status == "KILLED"  # it never wrote that it had ended
    tell(folder, state="failed")
    deliver(folder, uri)
    assert find(uri, folder)[1].info.status == "FAILED"


def test_a_resumed_run_continues_its_mlflow_run_without_duplicates(runs):
    folder, uri = make_run(runs), store_uri("", runs)
    deliver(folder, uri)
    Journal(folder).cut(2)  # the newest checkpoint was at step 2
    write(folder, range(3, 8), shift=1000.0)  # another time of day, the same losses
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS | {"key1": "other"}))
    assert deliver(folder, uri) == 6
    assert history(uri, folder) == losses(7)
    assert find(uri, folder)[1].data.params["key1"] == "1"


@pytest.mark.fault(26, times=3)
def test_records_sent_but_not_remembered_are_not_doubled(runs):
    folder, uri = make_run(runs), store_uri("", runs)
    deliver(folder, uri)
    known = json.loads((folder / SHIPPED).read_text())
    known[uri]["marks"] = {"train": [1, 1]}  # killed after sending, before writing it down
    (folder / SHIPPED).write_text(json.dumps(known))
    deliver(folder, uri)
    assert history(uri, folder) == losses(4)
    for damaged in ("{", "[]"):
        (folder / SHIPPED).write_text(damaged)
        assert deliver(folder, uri) == 8, "into a new run"


def test_more_than_one_request_of_metrics(runs):
    folder, uri = make_run(runs, steps=BATCH), store_uri("", runs)
    assert deliver(folder, uri) == 2 * BATCH
    assert history(uri, folder) == losses(BATCH)


@pytest.mark.fault(43, times=5)
def test_what_was_deleted_there_comes_back_or_is_made_anew(runs, database):
    folder, uri = make_run(runs), store_uri("", runs)
    deliver(folder, uri)
    client, run = find(uri, folder)
    client.delete_run(run.info.run_id)
    assert deliver(folder, uri) == 0
    assert find(uri, folder)[1].info.run_id == run.info.run_id, "brought back"
    client.delete_experiment(run.info.experiment_id)
    assert deliver(folder, uri) == 0
    assert find(uri, folder)[1].info.run_id == run.info.run_id, "with its experiment"
    for _ in range(2):  # with this process connected to it, and to the next
        (runs / "mlflow.db").unlink()
        assert not is_sent(folder, uri)
        shutil.copy(database, runs / "mlflow.db")
        assert deliver(folder, uri) == 8
    assert history(uri, folder) == losses(4)
    state = json.loads((folder / SHIPPED).read_text())
    state[uri]["run_id"] = "0" * 32  # cleared by `mlflow gc`
    (folder / SHIPPED).write_text(json.dumps(state))
    assert deliver(folder, uri) == 8
    shipment = Shipment(folder, uri)
    shipment.send()
    client.delete_run(shipment.state["run_id"])  # while it is written
    write(folder, [5])
    with pytest.raises(Exception, match="active"):
        shipment.send()
    assert deliver(folder, uri) == 2


def test_scores_go_with_their_interval_and_their_number(runs):
    folder, uri = make_run(runs), store_uri("", runs)
    tell(folder, state="finished")
    rows = [
        {"metric": "text_to_image/exact", "value": 0.75, "low": 0.5, "high": 0.9, "n": 16},
        {"metric": "vqa/accuracy", "value": float("nan"), "low": float("nan"), "n": 0},
    ]
    (folder / "eval").mkdir()
    for value in (0.75, 0.75, 0.8):
        rows[0]["value"] = value
        (folder / "eval" / "scores.json").write_text(json.dumps({"rows": rows}))
        journal_scores(folder)
    deliver(folder, uri)
    assert history(uri, folder, "text_to_image/exact") == [(4, 0.75), (4, 0.8)]
    assert len(Journal(folder).records("eval")) == 2
    metrics = find(uri, folder)[1].data.metrics
    ends = {name: metrics[f"text_to_image/exact.{name}"] for name in ("low", "high", "n")}
    assert ends == {"low": 0.5, "high": 0.9, "n": 16.0}
    assert not [name for name in metrics if name.startswith("vqa")]


def test_weights_become_a_version_of_a_model_once(runs):
    folder, uri = make_run(runs), store_uri("", runs)
    deliver(folder, uri)
    with pytest.raises(ValueError, match="no export to register"):
        register(folder, uri, "mine")
    (folder / "export" / "part").mkdir(parents=True)
    for name in ("config.json", "part/weights.safetensors"):
        (folder / "export" / name).write_text("{}")
    for _ in range(2):
        register(folder, uri, "mine")
    client, run = find(uri, folder)
    (version,) = client.search_model_versions("name = 'mine'")
    assert version.run_id == run.info.run_id
    files = client.list_artifacts(run.info.run_id, "export")
    assert {file.path for file in files} == {"export/config.json", "export/part"}
    tell(folder, weights="f00d")  # trained on
    register(folder, uri, "mine")
    assert len(client.search_model_versions("name = 'mine'")) == 2


@pytest.mark.fault(27)
def test_only_one_process_sends_a_run(tmp_path):
    folder = make_run(tmp_path)
    with (
        sole_sender(folder),
        pytest.raises(ValueError, match="being sent by another process"),
        sole_sender(folder),
    ):
        pass


def test_a_folder_without_facts_is_no_run(tmp_path):
    folder = make_run(tmp_path)
    (folder / "run.json").unlink()
    with pytest.raises(ValueError, match=r"no run\.json"):
        Shipment(folder, "sqlite://").send()


def test_old_runs_get_tags_that_are_new(runs):
    folder, uri = make_run(runs), store_uri("", runs)
    deliver(folder, uri)
    state = json.loads((folder / SHIPPED).read_text())
    del state[uri]["tags"]
    (folder / SHIPPED).write_text(json.dumps(state))
    client, run = find(uri, folder)
    client.delete_tag(run.info.run_id, "study")
    deliver(folder, uri)
    assert find(uri, folder)[1].data.tags["study"] == "colours"


def test_odd_folders_have_their_database_in_them(tmp_path, database):
    runs = tmp_path / "100%25 a?b #1"
    folder = make_run(runs)
    shutil.copy(database, runs / "mlflow.db")
    uri = store_uri("", runs)
    deliver(folder, uri)
    assert history(uri, folder) == losses(4)
    assert connect(uri).get_experiment_by_name("colours") is not None
