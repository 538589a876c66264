"""A store of MLflow: its client, database, experiments and runs, and its errors in words."""

import fcntl
import logging
import os
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unify.support.addresses import hide_addresses, kind_of, sqlite_address, sqlite_path
from unify.support.atomic_files import flush_to_disk
from unify.support.environment import redact
from unify.tracking.silence import Silent, tick

# What MLflow's pages open an experiment as; unset, they take it for one of prompts and traces.
EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
BYTES_PER_SECOND = 1e6  # of an upload, at the least
LENGTH = 300  # characters of a message


class Client:
    """An MlflowClient each of whose calls counts as a sign of life of its store."""

    def __init__(self, uri: str):
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            result = method(*arguments, **named)
            tick()
            return result

        return call

    def log_artifact(self, run_id: str, path: str, folder: str | None = None) -> None:
        tick(Path(path).stat().st_size / BYTES_PER_SECOND)
        self._client.log_artifact(run_id, path, folder)
        tick()


def connect(uri: str) -> Any:
    """An MLflow client that sends no telemetry, is quiet, and gives up soon."""
    import_mlflow()
    if path := (sqlite_path(uri) if kind_of(uri) == "sqlite" else ""):
        # a connection that is kept would write on into a file that was removed meanwhile
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        make_database(Path(path))
    return Client(uri)


def import_mlflow() -> None:
    """Import MLflow, which takes seconds, with its talk turned off."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def has_database(uri: str) -> bool:
    """False for an sqlite file that is not there; other stores tell only when they are asked."""
    path = sqlite_path(uri) if kind_of(uri) == "sqlite" else ""
    return not path or Path(path).is_file()


def make_database(path: Path) -> None:
    """Create MLflow's sqlite file whole or not at all.

    MLflow makes its tables in dozens of migrations: two processes at once, or one that is killed
    half-way, would leave a file that no MLflow can open again.
    """
    from mlflow import MlflowClient
    from sqlalchemy import Engine, event

    def without_waiting(connection: Any, _: Any) -> None:
        connection.execute("pragma synchronous = off")  # a third of the time; flushed as a whole

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() or not path.stat().st_size:
            staging = path.with_name(f".{path.name}.tmp")
            staging.unlink(missing_ok=True)
            event.listen(Engine, "connect", without_waiting)
            try:
                MlflowClient(tracking_uri=sqlite_address(str(staging))).search_experiments()
            finally:
                event.remove(Engine, "connect", without_waiting)
            flush_to_disk(staging)
            os.replace(staging, path)


def find_experiment(client: Any, uri: str, name: str) -> str:
    """The id of an experiment: made if need be, brought back if it was deleted.

    Its artifacts lie beside an sqlite file.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        place = None
        if path := (sqlite_path(uri) if kind_of(uri) == "sqlite" else ""):
            place = (Path(path).resolve().parent / "mlartifacts" / name).as_uri()
        try:
            client.create_experiment(name, artifact_location=place)
        except MlflowException:
            if client.get_experiment_by_name(name) is None:
                raise
        experiment = client.get_experiment_by_name(name)  # of another run, if that was faster
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    key, kind = EXPERIMENT_KIND
    if experiment.tags.get(key) != kind:
        client.set_experiment_tag(experiment.experiment_id, key, kind)
    return experiment.experiment_id


def revive(client: Any, run_id: str) -> bool:
    """Bring a run back if it was deleted; False if it is gone for good."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id)
        if experiment.lifecycle_stage == "deleted":  # its runs went, and come, with it
            client.restore_experiment(run.info.experiment_id)
            run = client.get_run(run_id)
        if run.info.lifecycle_stage == "deleted":
            client.restore_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


LOCKED = "database is locked"
_WORDS = {  # of a message of MLflow -> what it comes to
    LOCKED: "its database is locked by another process",
    "Exceeded 30 redirects": "the server redirects in a circle",
    "NewConnectionError": "no server answers there",
    "Read timed out": "the server does not answer",
    "ConnectTimeout": "the server does not answer",
    "too many 50": "the server answers with errors (500 to 504) alone",
    "error code 401": "the server asks who you are: set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    "error code 403": "the server refuses: it does not permit this user to write",
}
_OTHER_SCHEMA = re.compile(r"found version (\w+)|revision identified by '(\w+)'")


def plain_words(error: BaseException, uri: str) -> str:
    """An error of MLflow in one line, without secrets, SQL, or the pages that a server sent."""
    text = str(error) or type(error).__name__
    if isinstance(error, Silent) and kind_of(uri) == "sqlite" and _is_locked(sqlite_path(uri)):
        text = LOCKED
    for words, meaning in _WORDS.items():
        if words in text:
            return meaning
    if match := _OTHER_SCHEMA.search(text):
        return _other_schema(match[1] or match[2], uri)
    first = text.partition("[SQL")[0].strip().partition("\n")[0]
    line = re.sub(r"^[A-Z_]+: |\([\w.]+Error\) ", "", first)
    line = "".join(c if c.isprintable() else "?" for c in line)
    shown = redact(hide_addresses(line))
    return shown if len(shown) <= LENGTH else f"{shown[:LENGTH]}..."


def _is_locked(path: str) -> bool:
    """True if another process holds an sqlite file so that none can write."""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=0)) as opened:
            opened.execute("begin immediate")
    except sqlite3.OperationalError as error:
        return LOCKED in str(error)
    return False


def _other_schema(revision: str, uri: str) -> str:
    """What to do with a database that another version of MLflow made."""
    from alembic.script import ScriptDirectory
    from mlflow import __file__ as package
    from mlflow import __version__ as version

    steps = ScriptDirectory(str(Path(package).parent / "store" / "db_migrations"))
    try:
        steps.get_revision(revision)
    except Exception:  # alembic's, for one that it does not know
        return (
            f"a newer MLflow than {version} made its database: install that one, or name another "
            "machine.tracker"
        )
    again = f"copy it, then: mlflow db upgrade {shlex.quote(uri)}"
    return f"an older MLflow than {version} made its database: {again}"
