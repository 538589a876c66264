"""A real store of MLflow: made whole, its experiments brought back, its errors in words."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from unify.support.addresses import kind_of, sqlite_address
from unify.tracking.mlflow_store import EXPERIMENT_KIND, connect, find_experiment, plain_words


@pytest.mark.slow
def test_a_database_is_made_whole_by_one_of_many_processes(tmp_path):
    """Two processes at once, and one killed half-way, leave a database that opens."""

    path = tmp_path / "mlflow.db"
    code = "from unify.tracking.mlflow_store import make_database, Path; "
    code += f"make_database(Path({str(path)!r}))"
    command = [sys.executable, "-c", code]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".mlflow.db.tmp*")) and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not path.exists()
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert connect(f"sqlite:///{path}").search_experiments()


def test_experiments_open_as_model_training_and_come_back_when_deleted(runs):
    uri = sqlite_address(str(runs / "mlflow.db"))
    client, (key, kind) = connect(uri), EXPERIMENT_KIND
    made = find_experiment(client, uri, "colours")
    assert client.get_experiment(made).tags[key] == kind
    client.delete_experiment(made)
    assert find_experiment(client, uri, "colours") == made
    assert client.get_experiment(made).lifecycle_stage == "active"
    older = client.create_experiment("older")  # of a version that did not say what it is
    assert find_experiment(client, uri, "older") == older
    assert client.get_experiment(older).tags[key] == kind


REVISIONS = {"0" * 12: "a newer MLflow than", "451aebb31d03": "an older MLflow than"}


@pytest.mark.fault(44, times=3)
def test_a_database_that_cannot_be_used_is_one_plain_line(database, tmp_path):
    for revision, words in REVISIONS.items():
        path = tmp_path / f"{revision}.db"
        shutil.copy(database, path)
        with sqlite3.connect(path) as opened:
            opened.execute("update alembic_version set version_num = ?", [revision])
        opened.close()
        said = refusal(sqlite_address(str(path)))
        assert words in said
        assert ("mlflow db upgrade sqlite:///" in said) == ("older" in words)
    (tmp_path / "text.db").write_bytes(b"not a database" * 100)
    assert "not a database" in refusal(sqlite_address(str(tmp_path / "text.db")))


def refusal(uri: str) -> str:
    with pytest.raises(Exception) as raised:
        connect(uri).search_experiments()
    said = plain_words(raised.value, uri)
    assert "\n" not in said
    assert "SQL:" not in said
    return said


def test_messages_are_one_line_without_secrets_and_pages(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse")
    error = ValueError("INTERNAL_ERROR: <html>\x1b[31m correct-horse http://a:b/c@h/ " + "x" * 999)
    said = plain_words(error, "http://h")
    assert "correct-horse" not in said
    assert "b/c" not in said
    assert said.isprintable()
    assert len(said) < 400
    locked = "(sqlite3.OperationalError) database is locked\n[SQL: INSERT INTO x VALUES (?)]"
    assert plain_words(Exception(locked), "u") == "its database is locked by another process"
    assert plain_words(KeyError(), "u") == "KeyError"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("http://h", "server"),
        ("HTTPS://h", "server"),
        ("postgresql+psycopg2://h/d", "postgresql"),
        ("mysql+pymysql://h/d", "mysql"),
        ("SQLITE:///x", "sqlite"),
        ("C:\\x", "folder"),
        ("file:///x", "folder"),
        ("./x", "folder"),
        ("databricks://p", "other"),
    ],
)
def test_which_address_is_which_is_as_mlflow_has_it(address, kind):
    from mlflow.utils.uri import get_uri_scheme

    ours = {"server": ("http", "https"), "folder": ("", "file"), "other": ("databricks",)}
    assert kind_of(address) == kind
    assert get_uri_scheme(address) in ours.get(kind, (kind,))
