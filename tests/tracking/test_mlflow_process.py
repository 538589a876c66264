"""MLflow is real here: sqlite in a temporary folder, and sockets that refuse or never answer."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from unify.runs.journal import Journal
from unify.tracking import mlflow_process as tracking
from unify.tracking.mlflow_delivery import (
    BATCH,
    SHIPPED,
    Shipment,
    connect,
)
from unify.tracking.mlflow_process import Tracker, ship_scores, store_uri, sync, tracker

FACTS = {
    "study": "colours",
    "arm": "ar_vq",
    "paradigm": "ArVq",
    "seed": 3,
    "hash": "abc123",
    "state": "running",
    "steps": 4,
    "environment": {"git": {"sha": "f00d", "dirty": False}},
}
SETTINGS = {
    "name": "ar_vq",
    "model": {"class": "x.Y", "depth": 4, "long": "z" * 7000},
    "machine": {"tracker": "", "runs": "runs"},
    **{f"key{i}": i for i in range(150)},
}


def make_run(runs: Path, name: str = "ar_vq-s3-abc123", steps: int = 4) -> Path:
    folder = runs / "colours" / name
    folder.mkdir(parents=True)
    tell(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "samples").mkdir()
    (folder / "samples" / "step-00000002-x.png").write_bytes(b"png")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "big.json").write_text("{}")
    write(folder, range(1, steps + 1))
    return folder


def tell(folder: Path, **facts) -> None:
    (folder / "run.json").write_text(json.dumps(FACTS | facts))


def write(folder: Path, steps, shift: float = 0.0) -> None:
    journal = Journal(folder)
    for step in steps:
        journal.write(step, "health", {"time": 1e9 + step + shift, "samples_per_s": 10.0 + shift})
        journal.write(step, "train", {"loss": 1 / step, "loss/text": 0.1 * step, "data": "ff"})


def history(uri: str, folder: Path, name: str = "loss") -> list[tuple[int, float]]:
    client, run = find(uri, folder)
    result = client.get_metric_history(run.info.run_id, name)
    return sorted((metric.step, metric.value) for metric in result)


def find(uri: str, folder: Path):
    client = connect(uri)
    experiment = client.get_experiment_by_name("colours")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    [run] = [run for run in runs if run.info.run_name == folder.name]
    return client, run


def losses(steps: int) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in range(1, steps + 1)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def test_everything_arrives_while_the_run_goes_on(runs, monkeypatch):
    monkeypatch.setattr(tracking, "WAIT", 60.0)  # the machine that tests may be a busy one
    folder = make_run(runs, "live-s0-aa")
    uri = store_uri("", runs)
    with tracker(folder, "", runs) as follower:
        wait_for(folder, lambda state: state["marks"].get("train") == [4, 1] and state["files"])
        write(folder, range(5, 8))
        wait_for(folder, lambda state: state["marks"].get("train") == [7, 1])
        tell(folder, state="finished")
    assert follower.process.returncode == 0
    client, run = find(uri, folder)
    assert history(uri, folder) == losses(7)
    assert history(uri, folder, "loss/text")[1] == (2, 0.2)
    assert history(uri, folder, "health/samples_per_s")[0] == (1, 10.0)
    assert run.info.status == "FINISHED"
    expected = {"arm": "ar_vq", "paradigm": "ArVq", "seed": "3", "config_hash": "abc123"}
    assert (expected | {"git_sha": "f00d"}).items() <= run.data.tags.items()
    assert run.data.params["model.depth"] == "4"
    assert run.data.params["model.long"] == "z" * 6000
    assert run.data.params["key149"] == "149"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.yaml", "run.json", "samples", "journal.jsonl"}
    assert (runs / "mlartifacts").is_dir()
    assert (folder / "tracking.log").read_text() == ""


def wait_for(folder: Path, reached, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path = folder / SHIPPED
        states = json.loads(path.read_text()).values() if path.exists() else []
        if any(reached(state) for state in states):
            return
        time.sleep(0.05)
    pytest.fail((folder / "tracking.log").read_text() or "nothing was shipped")


def test_sync_sends_each_record_once_however_often_it_is_called(runs):
    folder, uri = make_run(runs, "again-s0-aa"), store_uri("", runs)
    assert sync(folder) == 8
    assert sync(folder) == 0
    write(folder, [5])
    assert sync(folder, uri) == 2
    assert history(uri, folder) == losses(5)
    assert find(uri, folder)[1].info.status == "KILLED"  # it never wrote that it had ended
    tell(folder, state="failed")
    sync(folder)
    assert find(uri, folder)[1].info.status == "FAILED"


def test_a_resumed_run_continues_its_mlflow_run_without_duplicates(runs):
    folder, uri = make_run(runs, "resumed-s0-aa"), store_uri("", runs)
    sync(folder)
    Journal(folder).cut(2)  # the newest checkpoint was at step 2
    write(folder, range(3, 8), shift=1000.0)  # another time of day, the same losses
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS | {"key1": "other"}))
    assert sync(folder) == 6
    assert history(uri, folder) == losses(7)
    assert find(uri, folder)[1].data.params["key1"] == "1"


@pytest.mark.fault(26)
def test_records_sent_but_not_remembered_are_not_doubled(runs):
    folder, uri = make_run(runs, "forgot-s0-aa"), store_uri("", runs)
    sync(folder)
    known = json.loads((folder / SHIPPED).read_text())
    known[uri]["marks"] = {"train": [1, 1]}  # killed after sending, before writing it down
    (folder / SHIPPED).write_text(json.dumps(known))
    sync(folder)
    assert history(uri, folder) == losses(4)


def test_more_than_one_request_of_metrics(runs):
    folder, uri = make_run(runs, "long-s0-aa", steps=BATCH), store_uri("", runs)
    assert sync(folder) == 2 * BATCH
    assert history(uri, folder) == losses(BATCH)


def test_scores_go_to_the_journal_and_to_mlflow_once(runs):
    folder, uri = make_run(runs, "scored-s0-aa"), store_uri("", runs)
    tell(folder, state="finished")
    rows = [
        {"metric": "text_to_image/exact", "value": 0.75},
        {"metric": "vqa/accuracy", "value": float("nan")},
    ]
    (folder / "eval").mkdir()
    for value in (0.75, 0.75, 0.8):
        rows[0]["value"] = value
        (folder / "eval" / "scores.json").write_text(json.dumps({"rows": rows}))
        ship_scores(folder, "", runs)
    assert history(uri, folder, "text_to_image/exact") == [(4, 0.75), (4, 0.8)]
    assert len(Journal(folder).records("eval")) == 2
    ship_scores(folder, "none", runs)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://user:hunter2@127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def black_hole():
    """Accepts connections, as the kernel does for it, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.fault(25, times=2)
def test_a_dead_or_silent_server_holds_nothing_up_and_loses_nothing(runs, black_hole, monkeypatch):
    waits: list[float | None] = []
    real = subprocess.Popen.wait

    def wait(self, timeout=None):
        waits.append(timeout)
        return real(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    monkeypatch.setattr(tracking, "WAIT", 0.2)
    before = signal.getsignal(signal.SIGTERM)
    for name, uri in (("refused", closed_port()), ("silent", black_hole)):
        folder = make_run(runs, f"{name}-s0-aa")
        with (
            pytest.warns(UserWarning, match=f"unify sync .*{name}-s0-aa"),
            tracker(folder, uri, runs) as follower,
        ):
            tell(folder, state="finished")
        assert waits[0] == 0.2  # the only wait with the helper still alive is a bounded one
        assert follower.process.returncode is not None
        waits.clear()
        assert sync(folder, store_uri("", runs)) == 8
        assert history(store_uri("", runs), folder) == losses(4)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.fault(25)
def test_a_server_that_refuses_is_one_line_in_the_log_and_no_password_on_disk(runs):
    folder, uri = make_run(runs, "password-s0-aa"), closed_port()
    environment = os.environ | {tracking.URI: uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    command = [sys.executable, "-m", "unify.tracking.mlflow_process", str(folder)]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"MlflowException" in done.stderr
    (folder / "tracking.log").write_bytes(done.stderr)
    for path in folder.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path


@pytest.mark.fault(27)
def test_only_one_process_sends_a_run(runs):
    folder = make_run(runs, "locked-s0-aa")
    with (
        tracking._lock(folder, wait=True),
        pytest.raises(ValueError, match="being sent by another process"),
    ):
        sync(folder)


def test_what_cannot_be_sent_is_said(tmp_path):
    folder = make_run(tmp_path)
    (folder / "config.yaml").write_text(yaml.safe_dump({"machine": {"tracker": "none"}}))
    with pytest.raises(ValueError, match="name an MLflow --uri"):
        sync(folder)
    (folder / "run.json").unlink()
    with pytest.raises(ValueError, match=r"no run\.json"):
        Shipment(folder, store_uri("", tmp_path)).send()
    with tracker(folder, "none", tmp_path) as follower:
        assert follower is None


def test_training_never_imports_mlflow():
    code = "import sys, unify.tracking.mlflow_process as _; "
    code += "assert not {'mlflow', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert Tracker("x", "y").uri == "y"
