"""Delivery of a run folder to MLflow: what it does not have yet, and the sending of that.

    journal.jsonl, run.json, config.yaml, samples/, eval/    what is sent
    shipped.json    what has been sent, by URI: run id, last record per kind, files

Delivery is at least once, and idempotent: a record's timestamp comes from the journal, and MLflow
keeps one of two metrics that are equal in name, step, time and value.
"""

import fcntl
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from unify.runs.journal import Journal
from unify.support.atomic_files import write_atomically

BATCH = 1000  # metrics in one request: MLflow's limit
PARAMS = 100  # parameters in one request: MLflow's limit
VALUE_LENGTH = 6000  # characters of a parameter: MLflow's limit
ARTIFACTS = ("config.yaml", "run.json", "git.diff", "samples", "eval")
AT_THE_END = ("journal.jsonl",)  # grows with every record: sent when the run has ended
SUFFIXES = {".yaml", ".json", ".jsonl", ".npz", ".diff", ".png"}
STATUS = {"finished": "FINISHED", "failed": "FAILED"}  # run.json's states; any other: KILLED
SHIPPED = "shipped.json"
SQLITE = "sqlite:///"


class Shipment:
    """Keeps what of a run folder has been sent to one URI, and sends the rest."""

    def __init__(self, folder: Path, uri: str):
        self.folder, self.uri, self.journal = folder, uri, Journal(folder)
        self.name = without_password(uri)
        self.path = folder / SHIPPED
        self.all = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.state = self.all.setdefault(self.name, {"marks": {}, "files": {}})
        self.client: Any = None

    def send(self, final: bool = False) -> int:
        """Send what is new in the run folder; returns how many journal records that was.

        With `final`, also say how the run ended: one that did not write it down was killed.
        """
        if self.client is None:
            facts, client = read_facts(self.folder), connect(self.uri)
            self._open(client, facts)
            self.client = client
        sent = self._send_records()
        self._send_files(final)
        if final:
            status = STATUS.get(read_facts(self.folder)["state"], "KILLED")
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
            self._name_data(client, facts)
        if "params" not in self.state:  # MLflow refuses another value, as a resumed run may have
            flat = flatten(read_settings(self.folder))
            params = [Param(mlflow_name(key), value[:VALUE_LENGTH]) for key, value in flat]
            for start in range(0, len(params), PARAMS):
                client.log_batch(self.state["run_id"], params=params[start : start + PARAMS])
            self.state["params"] = True
            self._remember()

    def _name_data(self, client: Any, facts: Mapping[str, Any]) -> None:
        """Log the data as MLflow's dataset input, by its fingerprint."""
        from mlflow.entities import Dataset, DatasetInput

        source = read_settings(self.folder).get("data", {}).get("source", {})
        name = str(source.get("class", "data")).rpartition(".")[2]
        digest, written = str(facts.get("data", ""))[:36], json.dumps(source, default=str)
        data = Dataset(name=name, digest=digest, source_type="unify", source=written)
        client.log_inputs(self.state["run_id"], datasets=[DatasetInput(data)])

    def _send_records(self) -> int:
        """Send the metrics of new journal records; marks are written after each batch."""
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

    def _send_files(self, final: bool) -> None:
        """Send files that are new, or changed in size or time since they were sent."""
        for path in artifacts(self.folder, final):
            relative = path.relative_to(self.folder)
            facts = [path.stat().st_size, path.stat().st_mtime_ns]
            if self.state["files"].get(str(relative)) != facts:
                parent = None if relative.parent == Path() else relative.parent.as_posix()
                self.client.log_artifact(self.state["run_id"], str(path), parent)
                self.state["files"][str(relative)] = facts
                self._remember()

    def _remember(self) -> None:
        """Write down what has been sent, so that a later process goes on from there."""
        write_atomically(self.path, json.dumps(self.all))


def unsent(
    records: list[dict[str, Any]], marks: Mapping[str, list[int]]
) -> Iterator[tuple[dict[str, Any], list[int], float]]:
    """Journal records after the marks, each with its own mark and a time in seconds.

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
    """The numbers of a record by MLflow name, with the kind in front where kinds share names."""
    prefix = f"{record['kind']}/" if record["kind"] in ("health", "validation") else ""
    return {
        mlflow_name(prefix + name): float(value)
        for name, value in record.items()
        if name not in ("step", "time") and isinstance(value, int | float)
    }


def artifacts(folder: Path, ended: bool = False) -> list[Path]:
    """The files of a run folder that MLflow gets: settings, environment, samples and scores.

    Once the run has `ended`, its journal too: a report can then be made from MLflow alone.
    """
    tops = [folder / name for name in ARTIFACTS + (AT_THE_END if ended else ())]
    files = [file for top in tops for file in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [f for f in files if f.is_file() and f.suffix in SUFFIXES and f.name[0] != "."]


def tags_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Tags by which runs are searched in MLflow, from the facts of run.json."""
    git = (facts.get("environment") or {}).get("git") or {}
    named = {name: facts.get(name) for name in ("arm", "paradigm", "seed", "data")}
    named |= {"config_hash": facts.get("hash"), "git_sha": git.get("sha")}
    named |= {"mlflow.source.git.commit": git.get("sha")}  # what MLflow's pages call the version
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
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith(SQLITE):
        make_database(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(tracking_uri=uri)


def make_database(path: Path) -> None:
    """Create MLflow's sqlite file whole or not at all.

    MLflow makes its tables in dozens of migrations: two processes at once, or one that is killed
    half-way, would leave a file that no MLflow can open again.
    """
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            staging = path.with_name(f".{path.name}.tmp")
            staging.unlink(missing_ok=True)
            MlflowClient(tracking_uri=f"{SQLITE}{staging}").search_experiments()
            os.replace(staging, path)


def find_experiment(client: Any, uri: str, name: str) -> str:
    """The id of an experiment, created if need be; its artifacts lie beside an sqlite file."""
    from mlflow.exceptions import MlflowException

    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    place = None
    if uri.startswith(SQLITE):
        runs = Path(uri.removeprefix(SQLITE)).resolve().parent
        place = (runs / "mlartifacts" / name).as_uri()
    try:
        return client.create_experiment(name, artifact_location=place)
    except MlflowException:  # another run was faster
        return client.get_experiment_by_name(name).experiment_id


def read_facts(folder: Path) -> dict[str, Any]:
    """run.json; ValueError where there is none."""
    path = folder / "run.json"
    if not path.exists():
        raise ValueError(f"{folder} is not a run folder: it has no run.json")
    return json.loads(path.read_text())


def read_settings(folder: Path) -> dict[str, Any]:
    """config.yaml as plain data; empty where there is none."""
    path = folder / "config.yaml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def mlflow_name(name: str) -> str:
    """The name with what MLflow does not accept replaced by _, at most 250 characters."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


def without_password(text: str) -> str:
    """The text with user and password taken out of its URLs."""
    return re.sub(r"://[^/@\s]*@", "://", text)
