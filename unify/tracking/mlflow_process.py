"""What a command has for MLflow, sent by a process of its own: one for the whole command.

Training only ever writes local files. The process (mlflow_helper.py) reads them every few seconds
and sends what MLflow does not have yet; `unify sync` sends the rest afterwards. So a tracking
server that is slow, down or silent cannot slow or stop training, and importing MLflow or creating
its database costs training nothing. (In a thread it would compete for the interpreter, and loader
workers forked during that import could inherit a held import lock and hang.)

    with delivery():                    the command: `unify train`, the whole of `unify study`
        with tracker(folder, ...):      a run, followed while it is written
            ...
        ship_scores(folder, ...)        its scores
        ship_study(folder, ...)         the study above its runs

Nothing of it waits but the end of `delivery`, for WAIT seconds at the most, whatever the server
does. What MLflow does not have then is said in one line, with the command that sends it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from unify.support.addresses import secret_in, sqlite_address
from unify.support.environment import redact
from unify.support.terminal import echo
from unify.tracking.mlflow_delivery import is_sent, journal_scores

WAIT = 2.0  # seconds that a command waits for MLflow, once, at its end
SILENCE = 30.0  # seconds for which a store may do nothing while a command goes on
FEW = 3  # runs of one folder that are named one by one
LOG = "tracking.log"
NO_WAIT = "UNIFY_MLFLOW_LATER"  # set for the processes of a command that sends the rest itself


def store_uri(setting: str, runs: Path | str) -> str:
    """MLflow's URI: the setting, or an sqlite file in the folder of runs.

    ValueError, which does not repeat it, for one that holds a secret.
    """
    if held := secret_in(setting):
        raise ValueError(f"the address of MLflow (machine.tracker, --uri): {held}")
    return setting or sqlite_address(str(Path(runs).resolve() / "mlflow.db"))


@dataclass
class Delivery:
    """What one command asks to be sent, and the process that sends it. Only `close` waits."""

    silence: float = SILENCE
    asked: list[tuple[Path, str, bool]] = field(default_factory=list)  # folder, URI, sent before
    process: subprocess.Popen | None = None
    trouble: str = ""  # why the process could not be started or told

    def ask(
        self, do: str, folder: Path, uri: str, register: str = "", before: bool = False
    ) -> None:
        """Ask for a folder to be sent; `do`: follow, run or study, as mlflow_helper.py says.

        `before`: all of it was sent before, and is only looked after; it is not missed.
        """
        if do != "follow":
            self.asked.append((folder, uri, before))
        number = len(self.asked) - 1
        self._write(id=number, do=do, folder=str(folder.resolve()), uri=uri, register=register)

    def _write(self, **request: object) -> None:
        try:
            if self.process is None:
                self._start()
            os.write(self._requests.fileno(), json.dumps(request).encode() + b"\n")
            assert self.process is not None
            assert self.process.stdin is not None
            with suppress(BlockingIOError, BrokenPipeError):  # it has been woken often enough
                os.write(self.process.stdin.fileno(), b".")
        except OSError as error:
            self.trouble = f"the process that sends could not be used ({error})"

    def _start(self) -> None:
        self._requests: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this)
        self._answers: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        files = self._requests.fileno(), self._answers.fileno()
        source = str(Path(__file__).resolve().parents[2])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-P", "-m", "unify.tracking.mlflow_helper", *map(str, files)]
        self.process = subprocess.Popen(
            [*command, str(self.silence)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,  # until it opens the log of a folder
            pass_fds=files,
            start_new_session=True,  # Ctrl-C is for training; the process ends with its input
        )
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)

    def close(self, wait: float | None) -> None:
        """Nothing more is asked for: wait, None for as long as it works, then end the process."""
        if self.process is None or self.process.stdin is None:
            return
        self._write(do="end")
        self.process.stdin.close()
        try:
            self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.trouble = f"{wait:g} s were over while {self._last('stage', 'it was started')}"
        finally:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):  # one that a dead file system holds
                self.process.wait(0.2)

    def answers(self) -> list[dict]:
        """What the process has told so far."""
        if self.process is None:
            return []
        told = os.pread(self._answers.fileno(), 2**30, 0)
        return [json.loads(line) for line in told.splitlines() if line.endswith(b"}")]

    def records(self) -> int:
        """How many journal records were sent."""
        return sum(answer.get("records", 0) for answer in self.answers())

    def missing(self) -> dict[Path, tuple[str, str]]:
        """The folders that MLflow does not have all of, with their URI and the reason."""
        sent = {n for answer in self.answers() for n in answer.get("sent", ())}
        why = self._last("why", "") or self.trouble or self._last_words()
        return {
            folder: (uri, why)
            for number, (folder, uri, before) in enumerate(self.asked)
            if number not in sent and not before
        }

    def _last_words(self) -> str:
        """Of a process that ended early: the last line that it wrote to standard error."""
        if self.process is None:
            return "no process that sends was started"
        said = os.pread(self._errors.fileno(), 2**20, 0).decode("utf-8", "replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "")
        return redact(f"the process that sends ended early. {last}".strip())

    def _last(self, key: str, default: str) -> str:
        said = [answer[key] for answer in self.answers() if key in answer]
        return said[-1] if said else default


_open: list[Delivery] = []  # of this process; the outermost `delivery` has opened it


@contextmanager
def delivery() -> Iterator[Delivery]:
    """The deliveries of one command; within another, that one. Its end says what is not sent."""
    if _open:
        yield _open[0]
        return
    _open.append(Delivery())
    failed = True
    try:
        yield _open[0]
        failed = False
    finally:
        ended = _open.pop()
        later = NO_WAIT in os.environ
        ended.close(0.0 if later else WAIT)
        if failed or not later:
            _say_missing(ended)


def _say_missing(ended: Delivery) -> None:
    """One plain line on what was not sent, on standard error and in the folders' logs."""
    missing = ended.missing()
    if not missing:
        return
    uri, why = next(iter(missing.values()))
    names = together(list(missing))
    line = (
        f"MLflow at {uri} does not have all of {', '.join(map(str, names))} ({why}); send the rest "
        f"with: unify sync {shlex.join(map(str, names))}"
    )
    with suppress(OSError):
        echo(line, err=True)
    for folder in missing:
        with suppress(OSError), (folder / LOG).open("a") as log:
            log.write(line + "\n")


def together(folders: list[Path]) -> list[Path]:
    """The folders, with that of a study for its runs where it, or more than FEW, are named."""
    names: list[Path] = []
    for folder in folders:
        beside = sum(other.parent == folder.parent for other in folders)
        study = folder.parent in folders or (beside > FEW and (folder / "run.json").exists())
        names.append(folder.parent if study else folder)
    return list(dict.fromkeys(names))


@contextmanager
def tracker(folder: Path, setting: str, runs: Path | str) -> Iterator[None]:
    """A context in which the run folder, which has its run.json, is followed to MLflow.

    `setting` is `machine.tracker`: an MLflow URI, empty for sqlite in `runs`, or "none".
    """
    if setting == "none":
        yield
        return
    uri = store_uri(setting, runs)
    with delivery() as deliveries:
        deliveries.ask("follow", folder, uri)
        try:
            yield
        finally:  # the run is over, and run.json says how
            deliveries.ask("run", folder, uri)


def ship(folder: Path, setting: str, runs: Path | str) -> None:
    """Send the rest of a run that no process is writing; does nothing where nothing is tracked."""
    if setting != "none":
        uri = store_uri(setting, runs)
        with delivery() as deliveries:
            deliveries.ask("run", folder, uri, before=is_sent(folder, uri))


def ship_scores(folder: Path, setting: str, runs: Path | str) -> None:
    """Copy the scores of `eval/scores.json` into the journal, and send what MLflow does not have.

    ValueError for scores that were edited or damaged.
    """
    journal_scores(folder)
    ship(folder, setting, runs)


def ship_study(folder: Path, setting: str, runs: Path | str) -> None:
    """Send what a study left, after its runs, unless nothing is tracked."""
    if setting != "none":
        with delivery() as deliveries:
            deliveries.ask("study", folder, store_uri(setting, runs))
