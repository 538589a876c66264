"""The journal shipped to MLflow, from a process of its own.

Training only ever writes local files. A helper process (this module, run on the run's folder)
reads them every few seconds and sends what MLflow does not have yet; `sync` sends the rest
afterwards. So a tracking server that is slow, down or silent cannot slow or stop training, and
importing MLflow or creating its database costs training nothing. (In a thread it would compete
for the interpreter, and loader workers forked during that import could inherit a held import
lock and hang.)

`mlflow_delivery.py` says what is sent. The helper's messages are in `tracking.log`.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from unify.runs.journal import Journal
from unify.runs.stored_scores import read_scores
from unify.runs.study_files import has_value
from unify.support.terminal import echo
from unify.tracking.mlflow_delivery import Shipment, read_facts, read_settings, without_password

WAIT = 2.0  # seconds that the end of a run waits for MLflow
POLL = 3.0  # seconds between two looks at the run folder
LOG, LOCK = "tracking.log", ".tracking.lock"
URI = "UNIFY_TRACKING_URI"  # the helper's environment variable


def tracker(folder: Path, setting: str, runs: Path | str) -> Any:
    """A context in which the run folder, which has its run.json, is followed to MLflow.

    `setting` is `machine.tracker`: an MLflow URI, empty for sqlite in `runs`, or "none".
    """
    return nullcontext() if setting == "none" else Tracker(folder, store_uri(setting, runs))


def store_uri(setting: str, runs: Path | str) -> str:
    """MLflow's URI: the setting, or an sqlite file in the folder of runs."""
    return setting or f"sqlite:///{Path(runs).resolve() / 'mlflow.db'}"


class Tracker:
    """Ships one run folder to MLflow while it is written. Never raises because of MLflow."""

    def __init__(self, folder: Path | str, uri: str):
        self.folder, self.uri = Path(folder).resolve(), uri

    def __enter__(self) -> Tracker:
        # The URI travels by environment: it may hold a password, and arguments are public.
        source = str(Path(__file__).resolve().parents[2])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        with (self.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "unify.tracking.mlflow_process", str(self.folder)],
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
    """Send everything in a run folder that MLflow does not have yet; returns the records sent.

    Without `uri`, to where the run's own settings say. ValueError for a run that is not tracked,
    that another process is sending, or whose scores were edited or damaged.
    """
    folder = Path(folder).resolve()
    read_scores(folder)
    setting = uri or read_settings(folder).get("machine", {}).get("tracker", "")
    if setting == "none":
        raise ValueError(f"{folder} is not tracked (machine.tracker is none): name an MLflow --uri")
    with _lock(folder, wait=False):
        return Shipment(folder, store_uri(setting, folder.parents[1])).send(final=True)


def ship_scores(folder: Path, setting: str, runs: Path | str) -> None:
    """Copy the scores of `eval/scores.json` into the journal, and send what MLflow does not have.

    An MLflow that cannot be reached costs a warning: the scores are in the run folder. ValueError
    for scores that were edited or damaged.
    """
    stored = read_scores(folder)
    rows = stored.rows if stored else []
    record = {row["metric"]: row["value"] for row in rows if has_value(row)}
    record = {"step": read_facts(folder)["steps"], "kind": "eval", **record}
    journal = Journal(folder)
    if record not in journal.records("eval")[-1:]:
        journal.write(record["step"], "eval", record)
    ship(folder, setting, runs)


def ship(folder: Path, setting: str, runs: Path | str) -> None:
    """Send the rest of a run that no process is writing; does nothing where nothing is tracked."""
    if setting != "none":
        with warned(f"all of {folder.name}; send the rest with: unify sync {folder}"):
            sync(folder, store_uri(setting, runs))


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn what MLflow raises into a warning that names `what`: all of it is in files."""
    try:
        yield
    except Exception as error:
        message = f"MLflow did not take {what} ({without_password(str(error))})"
        warnings.warn(message, stacklevel=3)


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
    """Send until standard input ends, which it does however the training process ends.

    Returns the exit status: 0 if everything was sent.
    """
    with _lock(folder, wait=True):
        shipment = Shipment(folder, uri)
        ended = False
        while True:
            try:
                shipment.send(final=ended)
                sent = True
            except Exception as error:  # whatever it is, training goes on and `sync` can repeat it
                message = without_password(f"{type(error).__name__}: {error}")
                echo(message, err=True)
                sent = False
            if ended:
                return 0 if sent else 1
            ended = bool(select.select([sys.stdin], [], [], POLL)[0])


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), os.environ[URI]))
