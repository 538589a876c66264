"""What the process that sends does with requests, in this process; stores are real or misbehave."""

import json
import os
import signal
import tempfile

import pytest
from stores import MISBEHAVIOUR, bad_server, closed_port, deliver, find, losses, make_run, write
from stores import history as history_of

from unify.tracking import mlflow_helper
from unify.tracking.mlflow_delivery import Shipment, sole_sender
from unify.tracking.mlflow_helper import Helper
from unify.tracking.mlflow_process import store_uri
from unify.tracking.mlflow_store import import_mlflow
from unify.tracking.silence import Silent, limit, tick


class Asked:
    """A helper in this process, and the files between it and a command."""

    def __init__(self, silence: float = 30.0):
        self.requests = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the object)
        self.answers = tempfile.TemporaryFile()  # noqa: SIM115
        self.helper = Helper(self.requests.fileno(), self.answers.fileno(), silence)
        self.count = 0

    def ask(self, do: str, folder, uri: str) -> None:
        request = {"id": self.count, "do": do, "folder": str(folder), "uri": uri}
        os.write(self.requests.fileno(), json.dumps(request).encode() + b"\n")
        self.count += do != "follow"
        self.helper.look()

    def told(self, key: str) -> list:
        lines = os.pread(self.answers.fileno(), 2**20, 0).splitlines()
        return [line[key] for line in map(json.loads, lines) if key in line]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    """Messages go to standard error, not to the folder's log."""
    monkeypatch.setattr(mlflow_helper, "_log_to", lambda folder: None)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import_mlflow()


@pytest.mark.fault(25, times=1)
@pytest.mark.parametrize("behaviour", MISBEHAVIOUR)
def test_a_server_that_misbehaves_is_given_up_once_with_one_line(behaviour, tmp_path, capsys):
    folders = [make_run(tmp_path, f"{name}-s0-aa") for name in "abc"]
    with bad_server(behaviour) as uri:
        # a circle of redirects ends by itself, on a busy machine later than the others are given up
        asked = Asked(silence=30 if behaviour == "redirects" else 0.3)
        for folder in folders:
            asked.ask("run", folder, uri)
        asked.helper.work()
    whys = asked.told("why")
    assert len(whys) == 3
    assert len(set(whys)) == 1, "it is not asked again for the others"
    assert MISBEHAVIOUR[behaviour] in whys[0]
    assert whys[0].isprintable()
    assert len(asked.told("stage")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"MLflow at {uri}: {whys[0]}"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert sorted(asked.helper.tasks) == folders, "kept for another try"


def test_a_store_that_is_down_loses_nothing_and_is_told_of_once(runs, capsys):
    folder, uri = make_run(runs), closed_port()
    asked = Asked()
    asked.ask("follow", folder, uri)
    for _ in range(3):
        asked.helper.work()
    assert capsys.readouterr().err.count("no server answers there") == 1
    assert asked.helper.failures == 3
    assert asked.told("why") == [], "a run that is followed is no failure yet"
    there = store_uri("", runs)
    asked.ask("run", folder, there)
    asked.helper.work()
    assert asked.told("sent") == [[0]]
    assert asked.told("records") == [8]
    assert history_of(there, folder) == losses(4)


def test_a_run_is_followed_with_the_machine_it_trains_on(runs, monkeypatch):
    folder, uri = make_run(runs), store_uri("", runs)
    asked = Asked()
    asked.ask("follow", folder, uri)
    asked.helper.work()
    with pytest.raises(ValueError, match="another process"):
        deliver(folder, uri)
    write(folder, [5])
    asked.helper.work()
    assert asked.told("sent") == []
    asked.ask("run", folder, uri)
    asked.helper.work()
    assert asked.told("sent") == [[0]]
    assert asked.helper.tasks == {}
    _, run = find(uri, folder)
    machine = {"cpu_utilization_percentage", "system_memory_usage_megabytes"}
    assert {f"system/{name}" for name in machine} <= run.data.metrics.keys()
    assert history_of(uri, folder) == losses(5)
    assert deliver(folder, uri) == 0, "the lock is free, and all is sent"


@pytest.mark.fault(44)
def test_a_database_that_another_process_locks_is_said(runs, monkeypatch):
    import sqlite3

    folder, uri = make_run(runs), store_uri("", runs)

    def send(self, final=False):
        raise Silent("it has done nothing for 0.3 s")

    monkeypatch.setattr(Shipment, "send", send)
    asked = Asked()
    asked.ask("run", folder, uri)
    holder = sqlite3.connect(runs / "mlflow.db")
    holder.execute("begin immediate")
    asked.helper.work()
    assert asked.told("why") == ["its database is locked by another process"]
    holder.close()
    asked.helper.work()
    assert asked.told("why")[1] == "it has done nothing for 0.3 s"


def test_what_is_wrong_with_one_folder_stops_no_other(runs):
    good, bad = make_run(runs, "a-s0-aa"), make_run(runs, "b-s0-aa")
    (bad / "journal.jsonl").write_text("[1]\n" * 3)
    asked, uri = Asked(), store_uri("", runs)
    for folder in (bad, good):
        asked.ask("run", folder, uri)
    asked.helper.work()
    assert asked.told("sent") == [[1]]
    assert "line 1 is damaged" in asked.told("why")[0]


def test_the_end_is_read_and_the_pipe_only_wakes(tmp_path, monkeypatch):
    asked = Asked()
    asked.ask("end", tmp_path, "")
    assert asked.helper.ended
    read, write_end = os.pipe()
    monkeypatch.setattr(mlflow_helper, "STANDARD_INPUT", read)
    killed = Asked().helper
    os.write(write_end, b"...")
    killed.wait()
    assert not killed.ended
    os.close(write_end)
    killed.wait()
    assert killed.ended, "the command was killed"


def test_silence_is_counted_from_the_last_sign_of_life():
    beats = []
    before = signal.getsignal(signal.SIGALRM)

    def beat_and_hang() -> None:
        for _ in range(4):
            signal.sigtimedwait([], 0.15)
            beats.append(1)
            tick()
        signal.sigtimedwait([], 60)

    with pytest.raises(Silent, match=r"nothing for 0\.4 s"), limit(0.4):
        beat_and_hang()
    assert len(beats) == 4, "longer than the limit in all"
    with limit(60.0):
        tick()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_only_the_sender_holds_the_lock_of_a_followed_run(runs):
    folder = make_run(runs)
    asked = Asked()
    with sole_sender(folder):
        asked.ask("run", folder, store_uri("", runs))
        asked.helper.work()
    assert "another process" in asked.told("why")[0]
    asked.helper.work()
    assert asked.told("sent") == [[0]]
