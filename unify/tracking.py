"""The journal shipped to MLflow, from a process of its own.

Training only ever writes local files. A helper process (`python -m unify.tracking RUN`) reads them
every few seconds and sends what MLflow does not have yet; `sync` sends the rest afterwards. So a
tracking server that is slow, down or silent cannot slow or stop training, and importing MLflow or
creating its database costs training nothing. (In a thread it would compete for the interpreter, and
loader workers forked during that import could inherit a held import lock and hang.)

    tracking.json    what to send besides the journal: experiment, run name, tags, parameters, status
    shipped.json     what has been sent, by URI: run id, last record per kind, files
    tracking.log     what the helper has to say

Delivery is at least once, and idempotent: a record's timestamp comes from the journal, and MLflow
keeps one of two metrics that are equal in name, step, time and value.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import select
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from unify.files import write_atomically
from unify.journal import Journal

WAIT = 2.0  # seconds that the end of a run waits for MLflow
POLL = 3.0  # seconds between two looks at the run folder
BATCH = 1000  # metrics in one request: MLflow's limit
VALUE_LENGTH = 6000  # characters of a parameter: MLflow's limit
ARTIFACTS = ("config.yaml", "environment.json", "git.diff", "run.json", "samples", "eval")
SUFFIXES = {".yaml", ".json", ".diff", ".png"}
SPEC, SHIPPED, LOG, LOCK, URI = (
    "tracking.json",
    "shipped.json",
    "tracking.log",
    ".tracking.lock",
    "UNIFY_TRACKING_URI",
)


class Tracking(Protocol):
    def start(self, params: Mapping[str, Any]) -> None: ...
    def finish(self, status: str = "FINISHED") -> bool: ...


class NoTracker:
    """Journal only."""

    def start(self, params: Mapping[str, Any]) -> None:
        pass

    def finish(self, status: str = "FINISHED") -> bool:
        return True


class Tracker:
    """Ships one run folder to MLflow while it is written. Never raises because of MLflow."""

    def __init__(self, folder: Path | str, uri: str, experiment: str, tags: Mapping[str, Any]):
        self.folder, self.uri = Path(folder).resolve(), uri
        self.spec = {
            "experiment": experiment,
            "run_name": self.folder.name,
            "tags": {name: str(value) for name, value in tags.items()},
        }

    def start(self, params: Mapping[str, Any]) -> None:
        """Describe the run and start the helper; `params` is the completed config, as plain data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.spec["params"] = dict(flatten(params))
        self._say("RUNNING")
        # The URI travels by environment: it may hold a password, and arguments are public.
        source = str(Path(__file__).resolve().parents[1])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        with (self.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "unify.tracking", str(self.folder)],
                env=os.environ | {URI: self.uri, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for training; the helper ends with its input
            )

    def finish(self, status: str = "FINISHED") -> bool:
        """Say how the run ended (FINISHED, FAILED, KILLED), wait at most WAIT; is all sent?"""
        self._say(status)
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            complete = self.process.wait(timeout=WAIT) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            complete = False
        if not complete:
            warnings.warn(
                f"MLflow does not have all of {self.folder.name} (see {self.folder / LOG}); "
                f"send the rest with: unify sync {self.folder}",
                stacklevel=2,
            )
        return complete

    def _say(self, status: str) -> None:
        write_atomically(
            self.folder / SPEC, json.dumps(self.spec | {"status": status}, ensure_ascii=False)
        )


def make_tracker(
    setting: str, folder: Path, runs: Path, experiment: str, tags: Mapping[str, Any]
) -> Tracking:
    """`machine.tracker`: an MLflow URI, empty for sqlite in the runs folder, or "none"."""
    if setting == "none":
        return NoTracker()
    return Tracker(folder, tracking_uri(setting, runs), experiment, tags)


def tracking_uri(setting: str, runs: Path | str) -> str:
    return setting or f"sqlite:///{Path(runs).resolve() / 'mlflow.db'}"


def sync(folder: Path | str, uri: str) -> None:
    """Send everything in a run folder that the MLflow at `uri` does not have yet."""
    folder = Path(folder).resolve()
    if not (folder / SPEC).exists():
        raise ValueError(f"{folder} was not tracked: it has no {SPEC}")
    with _lock(folder, wait=False):
        Shipment(folder, uri).send(final=True)


class Shipment:
    """What of a run folder has been sent to one URI, and the sending of the rest."""

    def __init__(self, folder: Path, uri: str):
        self.folder, self.uri, self.journal = folder, uri, Journal(folder)
        self.name = re.sub(r"://[^/@]*@", "://", uri)  # without user and password
        self.path = folder / SHIPPED
        self.all = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.state = self.all.setdefault(self.name, {"marks": {}, "files": {}})
        self.client: Any = None

    def send(self, final: bool = False) -> None:
        """One pass over the run folder; with `final`, also say how the run ended."""
        self.spec = json.loads((self.folder / SPEC).read_text())
        if self.client is None:
            client = connect(self.uri)
            self._open(client)
            self.client = client
        self._send_records()
        self._send_files()
        if final:
            ended = self.spec["status"] != "RUNNING"  # else it was killed before it could say so
            status = self.spec["status"] if ended else "KILLED"
            self.client.set_terminated(self.state["run_id"], status)

    def _open(self, client: Any) -> None:
        """Find or create the experiment and the run; log tags and parameters once."""
        from mlflow.entities import Param

        if "run_id" in self.state:
            client.update_run(self.state["run_id"], status="RUNNING")
        else:
            experiment = find_experiment(client, self.uri, self.spec["experiment"])
            name, tags = self.spec["run_name"], self.spec["tags"]
            run = client.create_run(experiment, run_name=name, tags=tags)
            self.state["run_id"] = run.info.run_id
            self._remember()
        if "params" not in self.state:
            params = [Param(_name(k), v[:VALUE_LENGTH]) for k, v in self.spec["params"].items()]
            for start in range(0, len(params), 100):  # MLflow takes 100 at a time
                client.log_batch(self.state["run_id"], params=params[start : start + 100])
            self.state["params"] = True
            self._remember()

    def _send_records(self) -> None:
        from mlflow.entities import Metric

        batch: list[Metric] = []
        marks = dict(self.state["marks"])

        def flush() -> None:
            if batch:
                self.client.log_batch(self.state["run_id"], metrics=batch)
                self.state["marks"] = dict(marks)
                self._remember()
                batch.clear()

        for record, mark, seconds in unsent(self.journal.records(), self.state["marks"]):
            metrics = [
                Metric(name, value, round(seconds * 1000), record["step"])
                for name, value in metrics_of(record).items()
            ]
            if len(batch) + len(metrics) > BATCH:
                flush()
            batch += metrics
            marks[record["kind"]] = mark
        flush()

    def _send_files(self) -> None:
        for path in artifacts(self.folder):
            relative = path.relative_to(self.folder)
            facts = [path.stat().st_size, path.stat().st_mtime_ns]
            if self.state["files"].get(str(relative)) != facts:
                parent = None if relative.parent == Path() else relative.parent.as_posix()
                self.client.log_artifact(self.state["run_id"], str(path), parent)
                self.state["files"][str(relative)] = facts
                self._remember()

    def _remember(self) -> None:
        write_atomically(self.path, json.dumps(self.all))


def unsent(
    records: list[dict[str, Any]], marks: Mapping[str, list[int]]
) -> Iterator[tuple[dict[str, Any], list[int], float]]:
    """Records after the marks, each with its own mark and a time in seconds.

    A mark is (step, how many records of this kind at this step), per kind: so neither a resumed
    run, which cuts the journal and writes the same steps again, nor a second evaluation of the same
    step sends anything twice or too little. The time is that of the health record before.
    """
    seen: Counter[tuple[str, int]] = Counter()
    seconds = 0.0
    for record in records:
        kind, step = record["kind"], record["step"]
        seconds = record.get("time", seconds)
        seen[kind, step] += 1
        mark = [step, seen[kind, step]]
        if mark > list(marks.get(kind, [-1, 0])):
            yield record, mark, seconds


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by MLflow name; `health/` before those that are not results."""
    prefix = "health/" if record["kind"] == "health" else ""
    return {
        _name(prefix + name): float(value)
        for name, value in record.items()
        if name not in ("step", "time") and isinstance(value, int | float)
    }


def artifacts(folder: Path) -> list[Path]:
    """The files of a run folder that MLflow gets: settings, environment, samples, scores."""
    tops = [folder / name for name in ARTIFACTS]
    files = [file for top in tops for file in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [f for f in files if f.is_file() and f.suffix in SUFFIXES and f.name[0] != "."]


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """`{"a": {"b": 1}}` -> ("a.b", "1"); lists stay whole."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from flatten(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, str(values)


def connect(uri: str) -> Any:
    """An MLflow client that sends no telemetry, is quiet, and gives up soon."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def find_experiment(client: Any, uri: str, name: str) -> str:
    """The id of the experiment, made if need be; beside an sqlite file lie its artifacts."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    place = None
    if uri.startswith("sqlite:///"):
        runs = Path(unquote(uri.removeprefix("sqlite:///"))).resolve().parent
        place = (runs / "mlartifacts" / name).as_uri()
    try:
        return client.create_experiment(name, artifact_location=place)
    except MlflowException:  # another run was faster
        return client.get_experiment_by_name(name).experiment_id


def _name(name: str) -> str:
    """A name that MLflow accepts."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


@contextmanager
def _lock(folder: Path, wait: bool) -> Iterator[None]:
    """One shipper per run folder; the lock goes with the process that held it."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ValueError(f"{folder} is being sent by another process; wait for it") from None
        yield


def serve(folder: Path, uri: str) -> int:
    """Ship until standard input ends, which it does however the training process ends."""
    with _lock(folder, wait=True):
        shipment = Shipment(folder, uri)
        ended = False
        while True:
            try:
                shipment.send(final=ended)
                sent = True
            except Exception as error:  # whatever it is, training goes on and `sync` can repeat it
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                sent = False
            if ended:
                return 0 if sent else 1
            ended = bool(select.select([sys.stdin], [], [], POLL)[0])


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), os.environ[URI]))
