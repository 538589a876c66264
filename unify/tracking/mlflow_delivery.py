"""Delivery of a run folder to MLflow: what it does not have yet, and the sending of that.

    journal.jsonl, run.json, config.yaml, samples/, eval/    what is sent
    shipped.json    what has been sent, by URI: run id, last record per kind, files

Delivery is at least once, and idempotent: a record's timestamp comes from the journal, and MLflow
keeps one of two metrics that are equal in name, step, time and value.
"""

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from unify.runs.journal import Journal
from unify.runs.stored_scores import array_of, read_scores
from unify.runs.study_files import has_value
from unify.support.atomic_files import write_atomically
from unify.tracking.mlflow_store import connect, find_experiment, has_database, revive
from unify.tracking.run_content import (
    flatten,
    metrics_of,
    mlflow_name,
    new_files,
    tags_of,
    unsent,
)

BATCH = 1000  # metrics in one request: MLflow's limit
PARAMS = 100  # parameters in one request: MLflow's limit
VALUE_LENGTH = 6000  # characters of a parameter: MLflow's limit
STATUS = {"finished": "FINISHED", "failed": "FAILED"}  # run.json's states; any other: KILLED
SHIPPED, LOCK = "shipped.json", ".tracking.lock"
SYSTEM = "system/"  # where MLflow's pages look for metrics of the machine


class Shipment:
    """Keeps what of a run folder has been sent to one URI, and sends the rest."""

    def __init__(self, folder: Path, uri: str):
        self.folder, self.uri, self.journal = folder, uri, Journal(folder)
        self.path = folder / SHIPPED
        self.all = read_shipped(folder)
        self.state = self.all.setdefault(uri, {})
        self.client: Any = None

    def send(self, final: bool = False) -> int:
        """Send what is new in the run folder; returns how many journal records that was.

        With `final`, also say how the run ended: one that did not write it down was killed. A run
        that is gone from the store, with its experiment or the store itself, is made anew.
        """
        if self.client is None:
            facts, client = read_facts(self.folder), connect(self.uri)
            self._open(client, facts)
            self.client = client
        sent = self._send_records()
        self._send_files(final)
        if final:
            status = _status(self.folder)
            self.client.set_terminated(self.state["run_id"], status)
            self.state["status"] = status
            self._remember()
        return sent

    def send_system(self, metrics: Mapping[str, float], seconds: float) -> None:
        """Send metrics of the machine, which no journal keeps, of a time in seconds."""
        from mlflow.entities import Metric

        step = self.state["system"] = self.state.get("system", -1) + 1
        time = round(seconds * 1000)
        batch = [Metric(SYSTEM + name, value, time, step) for name, value in metrics.items()]
        self.client.log_batch(self.state["run_id"], metrics=batch)
        self._remember()

    def _open(self, client: Any, facts: Mapping[str, Any]) -> None:
        """Find or create the experiment and the run; log tags and parameters once."""
        from mlflow.entities import Param, RunTag

        settings = read_settings(self.folder)
        experiment, tags = find_experiment(client, self.uri, facts["study"]), tags_of(facts)
        if "run_id" in self.state and revive(client, self.state["run_id"]):
            self.state.update({key: self.state.get(key) or {} for key in ("marks", "files")})
            client.update_run(self.state["run_id"], status="RUNNING")
        else:
            run = client.create_run(experiment, run_name=self.folder.name, tags=tags)
            self.state.clear()
            self.state.update(run_id=run.info.run_id, marks={}, files={}, tags=tags)
            self._remember()
            self._name_data(client, facts, settings)
        if self.state.get("tags") != tags:
            new = [RunTag(key, value) for key, value in tags.items()]
            client.log_batch(self.state["run_id"], tags=new)
            self.state["tags"] = tags
        if "params" not in self.state:  # MLflow refuses another value, as a resumed run may have
            flat = flatten(settings)
            params = [Param(mlflow_name(key), value[:VALUE_LENGTH]) for key, value in flat]
            for start in range(0, len(params), PARAMS):
                client.log_batch(self.state["run_id"], params=params[start : start + PARAMS])
            self.state["params"] = True
        self._remember()

    def _name_data(
        self, client: Any, facts: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        """Log the data as MLflow's dataset input, by its fingerprint."""
        from mlflow.entities import Dataset, DatasetInput

        source = settings.get("data", {}).get("source", {})
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
        """Send files that are new, or changed since they were sent."""
        new = new_files(self.folder, final, self.state["files"])
        for relative, facts in new.items():
            parent = None if relative.parent == Path() else relative.parent.as_posix()
            self.client.log_artifact(self.state["run_id"], str(self.folder / relative), parent)
            self.state["files"][str(relative)] = facts
        if new:
            self._remember()

    def _remember(self) -> None:
        """Write down what has been sent, so that a later process goes on from there."""
        write_atomically(self.path, json.dumps(self.all))


def is_sent(folder: Path, uri: str) -> bool:
    """True if all of a run that is over has been sent, as far as its own folder tells."""
    state = read_shipped(folder).get(uri, {})
    if state.get("status") != _status(folder) or not has_database(uri):
        return False
    left = list(unsent(Journal(folder).records(), state.get("marks") or {}))
    return not left and not new_files(folder, True, state.get("files") or {})


def _status(folder: Path) -> str:
    """How a run ended, in MLflow's words."""
    return STATUS.get(read_facts(folder)["state"], "KILLED")


def journal_scores(folder: Path) -> None:
    """Copy the scores of `eval/scores.json` into the journal, which MLflow is sent, once.

    ValueError for scores that were edited or damaged.
    """
    stored = read_scores(folder)
    record: dict[str, Any] = {"step": read_facts(folder).get("steps"), "kind": "eval"}
    for row in stored.rows if stored else []:
        if has_value(row):
            name = array_of(row)  # of a metric in several ways, one for each
            record[name] = row["value"]
            beside = {key: row.get(key) for key in ("low", "high", "n")}
            numbers = {k: v for k, v in beside.items() if v is not None and math.isfinite(v)}
            record |= {f"{name}.{key}": value for key, value in numbers.items()}
    journal = Journal(folder)
    if len(record) > 2 and record not in journal.records("eval")[-1:]:
        journal.write(record["step"], "eval", record)


@contextmanager
def sole_sender(folder: Path) -> Iterator[None]:
    """One sender per run folder: ValueError for a second. The lock goes with its process."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is being sent by another process; wait for it") from None
        yield


def read_shipped(folder: Path) -> dict[str, Any]:
    """shipped.json of a folder, by URI; empty where there is none, or none that can be read.

    Sending is idempotent: what is forgotten is sent again.
    """
    try:
        content = json.loads((folder / SHIPPED).read_text())
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {uri: state for uri, state in entries if isinstance(state, dict)}


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
