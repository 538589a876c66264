"""Checks of the folder of runs, the tracker and this host, on real troubles."""

import socket
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from doctor_checks import only
from places import ROOT

from unify.doctor import attempt, line, places


def test_a_folder_that_is_well_is_left_as_it_was(tmp_path):
    result = only(places.run_folder(tmp_path / "deep/runs"))
    assert result.state != "problem", result
    assert "locks hold" in result.found
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "runs").touch()
    for path in (tmp_path / "runs", tmp_path / "runs/deeper"):
        result = only(places.run_folder(path))
        assert result.state == "problem"
        assert f"{tmp_path / 'runs'} is no folder" in result.found
        assert "machine.runs" in result.do


def test_a_folder_that_cannot_be_written():
    result = only(places.run_folder(Path("/proc/runs")))  # even root cannot
    assert result.state == "problem"
    assert "/proc cannot be written" in result.found
    assert "machine.runs" in result.do


@pytest.mark.parametrize(
    ("intruder", "words"),
    [
        ("print('visible')", "two processes the same lockf"),
        ("print('kept out')", "it reads nothing"),
        ("raise OSError('stale handle')", "stale handle"),
    ],
)
def test_a_lock_that_does_not_keep_others_out(intruder, words, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "INTRUDER", intruder)
    result = only(places.run_folder(tmp_path))
    assert result.state == "problem"
    assert words in result.found
    assert "Lustre: flock" in result.do


def meeting(*folders, wait):
    """The findings of as many processes, each with its folder."""
    code = (
        "import sys; from pathlib import Path; from unify.doctor.places import meet\n"
        "print(meet(Path(sys.argv[1]) / 'x', *map(int, sys.argv[2:4]), float(sys.argv[4])).state)"
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, folder, str(rank), str(len(folders)), str(wait)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank, folder in enumerate(folders)
    ]
    return [rank.communicate(timeout=120)[0].strip() for rank in ranks]


def test_tasks_of_a_step_meet_in_one_folder(tmp_path):
    assert meeting(tmp_path, tmp_path, tmp_path, wait=60) == ["ok"] * 3
    assert not list(tmp_path.iterdir())


def test_tasks_whose_folders_are_not_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert meeting(tmp_path / "a", tmp_path / "b", wait=0.5) == ["problem"] * 2
    result = places.meet(tmp_path / "a/x", 0, 2, wait=0.1)
    assert "nothing of task 1" in result.found
    assert "all nodes share" in result.do


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    (tmp_path / "deep").mkdir()
    mounts.write_text(f"disk / ext4 rw 0 0\nserver {tmp_path.resolve()} nfs4 rw 0 0\n")
    assert places._file_system(tmp_path / "deep", mounts) == "nfs4"
    assert places._file_system(Path("/"), mounts) == "ext4"


@pytest.fixture
def server():
    """A server that answers /health with the status that is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.answer if self.path == "/health" else 418)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield http
        http.shutdown()


@pytest.mark.parametrize(
    ("answer", "state", "advice"),
    [(200, "ok", ""), (404, "problem", "machine.tracker"), (401, "note", "MLFLOW_TRACKING_")],
)
def test_a_server_that_answers(answer, state, advice, server, tmp_path):
    server.answer = answer
    result = only(places.tracker(f"http://127.0.0.1:{server.server_port}/", tmp_path))
    assert result.state == state
    assert advice in result.do


def test_a_port_that_is_closed_and_no_password_said(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    result = only(attempt("tracker", lambda: places.tracker(uri, tmp_path)))
    assert result.state == "problem"
    assert f"127.0.0.1:{port} does not answer" in result.found
    assert "unify sync" in result.do
    secret = only(
        attempt("tracker", lambda: places.tracker(f"http://me:hunter2@h:{port}", tmp_path))
    )
    assert secret.state == "problem"
    assert "MLFLOW_TRACKING_USERNAME" in secret.do
    assert "hunter2" not in line(secret)


def test_a_server_that_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = only(places.tracker(uri, tmp_path))
    assert result.state == "problem"
    assert "does not answer" in result.found


def test_databases(tmp_path):
    assert "the first run makes it" in only(places.tracker("", tmp_path)).found
    assert not list(tmp_path.iterdir())
    sqlite3.connect(tmp_path / "mlflow.db").execute("create table a (b)").connection.close()
    assert only(places.tracker("", tmp_path)).state == "ok"
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    broken = only(places.tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path))
    assert broken.state == "problem"
    assert "not a database" in broken.found


def test_trackers_that_are_no_server(tmp_path):
    assert only(places.tracker("none", tmp_path)).state == "ok"
    folder = only(places.tracker("./mlruns", tmp_path))
    assert folder.state == "problem"
    assert "sqlite:///" in folder.do
    assert only(places.tracker("postgresql://host/db", tmp_path)).state == "note"


def test_a_name_that_nobody_knows():
    result = places._address("nowhere.invalid")
    assert result.state == "note"
    assert "nowhere.invalid" in result.found
    assert "GLOO_SOCKET_IFNAME" in result.do
    assert "MASTER_ADDR" in result.do
    assert places._address("localhost").state == "ok"
