"""What a command asks to be sent, and that nothing but its end waits for it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from stores import bad_server, find, history, losses, make_run, tell, write

from unify.tracking import mlflow_process as module
from unify.tracking import sync as sync_module
from unify.tracking.mlflow_delivery import SHIPPED, is_sent
from unify.tracking.mlflow_process import (
    NO_WAIT,
    Delivery,
    delivery,
    ship,
    ship_scores,
    ship_study,
    store_uri,
    together,
    tracker,
)
from unify.tracking.sync import NotSent, sync


@pytest.fixture
def waits(monkeypatch):
    """The time-outs of all waits for a process, in order."""
    given: list[float | None] = []
    real = subprocess.Popen.wait

    def wait(self, timeout=None):
        given.append(timeout)
        return real(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    return given


@pytest.fixture
def deaf(tmp_path, monkeypatch):
    """In place of Python: a process that reads nothing, and ends only when it is killed."""
    script = tmp_path / "deaf"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.mark.fault(25, times=43)
def test_a_study_of_any_size_waits_once_at_its_end(deaf, waits, tmp_path, monkeypatch, capsys):
    """Forty runs, their scores and the study, and a process that takes nothing of it."""
    monkeypatch.setattr(module, "WAIT", 0.1)
    runs = tmp_path / "runs with 'quotes'"
    folders = [make_run(runs, f"arm-s{seed}-aa", steps=1) for seed in range(40)]
    with delivery() as post:
        for folder in folders:
            with tracker(folder, "http://127.0.0.1:9", runs):
                tell(folder, state="finished")
            ship_scores(folder, "http://127.0.0.1:9", runs)
        ship_study(runs / "colours", "http://127.0.0.1:9", runs)
        for _ in range(2000):  # more than a pipe holds
            post.ask("run", folders[0], "http://127.0.0.1:9")
        assert waits == []
    assert waits == [0.1, 0.2], "the second, of a killed process"
    assert post.process.returncode == -signal.SIGKILL
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("MLflow at http://127.0.0.1:9 does not have all of ")
    assert "0.1 s were over while it was started" in line
    command = line.partition("send the rest with: ")[2]
    script = f'unify() {{ printf "%s\\n" "$@"; }}; {command}'
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout
    assert words.splitlines() == ["sync", str(runs / "colours")]
    for folder in [runs / "colours", *folders]:
        assert line in (folder / "tracking.log").read_text()


@pytest.mark.fault(25, times=2)
def test_processes_of_a_command_that_sends_later_wait_for_nothing(
    deaf, waits, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(NO_WAIT, "1")
    folder = make_run(tmp_path)
    with tracker(folder, "", tmp_path):
        pass
    assert waits[0] == 0.0
    assert capsys.readouterr().err == ""
    with pytest.raises(KeyError), tracker(folder, "", tmp_path):
        raise KeyError("the run fails, and the command does not send it")
    assert f"unify sync {folder}" in capsys.readouterr().err


def test_what_was_sent_before_is_looked_after_and_not_missed(deaf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "WAIT", 0.05)
    folder, uri = make_run(tmp_path), "http://127.0.0.1:9"
    tell(folder, state="finished")
    marks = {"train": [4, 1], "health": [4, 1]}
    files = {str(p): f for p, f in new_files(folder).items()}
    state = {"run_id": "0", "status": "FINISHED", "marks": marks, "files": files}
    (folder / SHIPPED).write_text(json.dumps({uri: state}))
    assert is_sent(folder, uri)
    ship(folder, uri, tmp_path)
    assert capsys.readouterr().err == ""
    write(folder, [5])
    ship(folder, uri, tmp_path)
    assert f"unify sync {folder}" in capsys.readouterr().err


def new_files(folder: Path):
    from unify.tracking.run_content import new_files

    return new_files(folder, True, {})


def test_a_process_that_cannot_be_started_stops_no_training(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", full)
    folder, ran = make_run(tmp_path), []
    with tracker(folder, "", tmp_path):
        ran.append(1)
    assert ran
    assert "No space left" in capsys.readouterr().err


def test_everything_arrives_while_the_run_goes_on(runs, monkeypatch, capsys):
    monkeypatch.setattr(module, "WAIT", 60.0)  # the machine that tests may be a busy one
    folder = make_run(runs)
    uri = store_uri("", runs)
    with delivery() as post, tracker(folder, "", runs):
        wait_for(folder, lambda state: state["marks"].get("train") == [4, 1] and state["files"])
        write(folder, range(5, 8))
        wait_for(folder, lambda state: state["marks"].get("train") == [7, 1])
        tell(folder, state="finished")
    assert post.process.returncode == 0
    client, run = find(uri, folder)
    assert history(uri, folder) == losses(7)
    assert history(uri, folder, "loss/text")[1] == (2, 0.2)
    assert history(uri, folder, "health/samples_per_s")[0] == (1, 10.0)
    assert run.info.status == "FINISHED"
    expected = {"arm": "ar_vq", "paradigm": "ArVq", "seed": "3", "config_hash": "abc123"}
    expected |= {"git_sha": "f00d", "study": "colours", "mlflow.source.name": "a.yaml"}
    assert expected.items() <= run.data.tags.items()
    assert run.data.params["model.depth"] == "4"
    assert run.data.params["model.long"] == "z" * 6000
    assert run.data.params["key149"] == "149"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.yaml", "run.json", "samples", "journal.jsonl"}
    assert (runs / "mlartifacts").is_dir()
    assert (folder / "tracking.log").read_text() == ""
    assert capsys.readouterr().err == ""


def wait_for(folder: Path, reached, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path = folder / SHIPPED
        states = json.loads(path.read_text()).values() if path.exists() else []
        if any(reached(state) for state in states):
            return
        time.sleep(0.05)
    pytest.fail((folder / "tracking.log").read_text() or "nothing was shipped")


def test_sync_sends_a_study_with_all_its_runs(runs, capsys):
    folders = [make_run(runs, f"a-s{seed}-aa") for seed in (0, 1)]
    study, uri = runs / "colours", store_uri("", runs)
    info = {"name": "colours", "runs": [folder.name for folder in folders], "primary": []}
    (study / "study.json").write_text(json.dumps(info))
    assert sync(study) == 16
    client, run = find(uri, folders[1])
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "study colours"


@pytest.mark.fault(25)
def test_sync_ends_with_a_server_that_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sync_module, "SYNC_SILENCE", 0.2)
    folder = make_run(tmp_path)
    with bad_server("drips") as uri, pytest.raises(NotSent, match=r"nothing for 0\.2 s") as told:
        sync(folder, uri)
    assert str(folder) in str(told.value)


def test_what_cannot_be_sent_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(Delivery, "_start", lambda self: pytest.fail("nothing is to be sent"))
    folder = make_run(tmp_path)
    (folder / "config.yaml").write_text(yaml.safe_dump({"machine": {"tracker": "none"}}))
    with pytest.raises(ValueError, match="name an MLflow --uri"):
        sync(folder)
    with pytest.raises(ValueError, match="neither a run"):
        sync(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is no run"):
        sync(tmp_path / "colours", register="mine")
    old = {"machine": {"tracker": "http://user:a/SECRET@host"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(old))
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_USERNAME") as told:
        sync(folder)
    assert "SECRET" not in str(told.value)
    with tracker(folder, "none", tmp_path):
        pass


def test_a_command_that_fails_before_it_sends_fails_with_its_own_error(capsys):
    with pytest.raises(KeyError, match="of the command"), delivery():
        raise KeyError("of the command")
    assert capsys.readouterr().err == ""


def test_few_folders_are_named_one_by_one_and_many_by_their_study(tmp_path):
    def named(*names):
        found = together([tmp_path / name for name in names])
        return [str(path.relative_to(tmp_path)) for path in found]

    for name in "abcd":
        make_run(tmp_path, name, steps=1)
    assert named("colours/a", "colours/b") == ["colours/a", "colours/b"]
    assert named("colours/a", "vae/x", "colours") == ["colours", "vae/x"]
    assert named(*(f"colours/{name}" for name in "abcd")) == ["colours"]


def test_training_never_imports_mlflow():
    code = "import sys, unify.tracking.mlflow_process as _; "
    code += "assert not {'mlflow', 'torch', 'sqlalchemy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
