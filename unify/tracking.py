"""The journal shipped to MLflow, from a process of its own.

Training only ever writes local files. A helper process (`python -m unify.tracking RUN`) reads them
every few seconds and sends what MLflow does not have yet; `sync` sends the rest afterwards. So a
tracking server that is slow, down or silent cannot slow or stop training, and importing MLflow or
creating its database costs training nothing. (In a thread it would compete for the interpreter, and
loader workers forked during that import could inherit a held import lock and hang.)

    journal.jsonl, run.json, config.yaml, samples/, eval/    what is sent
    shipped.json     what has been sent, by URI: run id, last record per kind, files
    tracking.log     what the helper has to say

Delivery is at least once, and idempotent: a record's timestamp comes from the journal, and MLflow
keeps one of two metrics that are equal in name, step, time and value.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import select
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml

from unify.files import write_atomically
from unify.journal import Journal

WAIT = 2.0  # seconds that the end of a run waits for MLflow
POLL = 3.0  # seconds between two looks at the run folder
BATCH = 1000  # metrics in one request: MLflow's limit
PARAMS = 100  # parameters in one request: MLflow's limit
VALUE_LENGTH = 6000  # characters of a parameter: MLflow's limit
ARTIFACTS = ("config.yaml", "run.json", "git.diff", "samples", "eval")
SUFFIXES = {".yaml", ".json", ".diff", ".png"}
STATUS = {"finished": "FINISHED", "failed": "FAILED"}  # run.json's states; any other: KILLED
SHIPPED, LOG, LOCK = "shipped.json", "tracking.log", ".tracking.lock"
URI = "UNIFY_TRACKING_URI"  # the helper's environment variable


def tracker(folder: Path, setting: str, runs: Path | str) -> Any:
    """A context in which the run folder, which has its run.json, is followed to MLflow.

    `setting` is `machine.tracker`: an MLflow URI, empty for sqlite in `runs`, or "none".
    """
    return nullcontext() if setting == "none" else Tracker(folder, store_uri(setting, runs))


def store_uri(setting: str, runs: Path | str) -> str:
    return setting or f"sqlite:///{Path(runs).resolve() / 'mlflow.db'}"


class Tracker:
    """Ships one run folder to MLflow while it is written. Never raises because of MLflow."""

    def __init__(self, folder: Path | str, uri: str):
        self.folder, self.uri = Path(folder).resolve(), uri

    def __enter__(self) -> Tracker:
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
        return self

    def __exit__(self, *_: object) -> None:
        """The run is over, and run.json says how: wait at most WAIT for the rest to be sent."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
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


def sync(folder: Path | str, uri: str = "") -> int:
    """Send everything in a run folder that MLflow does not have yet; how many records that was.

    Without `uri`, to where the run's own settings say.
    """
    folder = Path(folder).resolve()
    setting = uri or _settings(folder).get("machine", {}).get("tracker", "")
    if setting == "none":
        raise ValueError(f"{folder} is not tracked (machine.tracker is none): name an MLflow --uri")
    with _lock(folder, wait=False):
        return Shipment(folder, store_uri(setting, folder.parents[1])).send(final=True)


def ship_scores(folder: Path, setting: str, runs: Path | str) -> None:
    """Put the rows of `eval/scores.json` into the journal, and send what MLflow does not have.

    An MLflow that cannot be reached costs a warning: the scores are in the run folder.
    """
    rows = json.loads((folder / "eval" / "scores.json").read_text())["rows"]
    record = {row["metric"]: row["value"] for row in rows if math.isfinite(row["value"])}
    record = {"step": _facts(folder)["steps"], "kind": "eval", **record}
    journal = Journal(folder)
    if record not in journal.records("eval")[-1:]:
        journal.write(record["step"], "eval", record)
    if setting != "none":
        try:
            sync(folder, store_uri(setting, runs))
        except Exception as error:
            warnings.warn(
                f"MLflow did not take the scores of {folder.name} ({error}); send them with: "
                f"unify sync {folder}",
                stacklevel=2,
            )


class Shipment:
    """What of a run folder has been sent to one URI, and the sending of the rest."""

    def __init__(self, folder: Path, uri: str):
        self.folder, self.uri, self.journal = folder, uri, Journal(folder)
        self.name = re.sub(r"://[^/@]*@", "://", uri)  # without user and password
        self.path = folder / SHIPPED
        self.all = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.state = self.all.setdefault(self.name, {"marks": {}, "files": {}})
        self.client: Any = None

    def send(self, final: bool = False) -> int:
        """One pass over the run folder, which returns how many records it sent.

        With `final`, also say how the run ended: one that did not write it down was killed.
        """
        if self.client is None:
            client = connect(self.uri)
            self._open(client, _facts(self.folder))
            self.client = client
        sent = self._send_records()
        self._send_files()
        if final:
            status = STATUS.get(_facts(self.folder)["state"], "KILLED")
            self.client.set_terminated(self.state["run_id"], status)
        return sent

    def _open(self, client: Any, facts: Mapping[str, Any]) -> None:
        """Find or create the experiment and the run; log tags and parameters once."""
        from mlflow.entities import Param

        if "run_id" in self.state:
            client.update_run(self.state["run_id"], status="RUNNING")
        else:
            experiment = find_experiment(client, self.uri, facts["study"])
            run = client.create_run(experiment, run_name=self.folder.name, tags=tags_of(facts))
            self.state["run_id"] = run.info.run_id
            self._remember()
        if "params" not in self.state:  # MLflow refuses another value, as a resumed run may have
            flat = flatten(_settings(self.folder))
            params = [Param(_name(key), value[:VALUE_LENGTH]) for key, value in flat]
            for start in range(0, len(params), PARAMS):
                client.log_batch(self.state["run_id"], params=params[start : start + PARAMS])
            self.state["params"] = True
            self._remember()

    def _send_records(self) -> int:
        from mlflow.entities import Metric

        batch: list[Metric] = []
        marks, sent = dict(self.state["marks"]), 0

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
            sent += 1
        flush()
        return sent

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


def tags_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """What to search runs by."""
    git = (facts.get("environment") or {}).get("git") or {}
    named = {name: facts.get(name) for name in ("arm", "paradigm", "seed", "data")}
    named |= {"config_hash": facts.get("hash"), "git_sha": git.get("sha")}
    return {name: str(value) for name, value in named.items() if value is not None}


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
        runs = Path(uri.removeprefix("sqlite:///")).resolve().parent
        place = (runs / "mlartifacts" / name).as_uri()
    try:
        return client.create_experiment(name, artifact_location=place)
    except MlflowException:  # another run was faster
        return client.get_experiment_by_name(name).experiment_id


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.exists():
        raise ValueError(f"{folder} is not a run folder: it has no run.json")
    return json.loads(path.read_text())


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


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
