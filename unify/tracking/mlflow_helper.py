"""The process that sends to MLflow: started by mlflow_process.py, one for a command.

    asked    a file of JSON lines that the command adds to: {id, folder, uri, do, register}
    told     a file of JSON lines for the command: {stage}, {sent: ids, records}, {failed, why}

`do` is `follow` (a run that is being written), `run` (one that is over), `study` or `end`. Standard
input only wakes this process, and ends however the command ends: what it followed is sent then.
Everything that is printed while a folder is sent goes to its tracking.log.
"""

import json
import os
import select
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unify.support.terminal import echo
from unify.tracking.mlflow_delivery import Shipment, sole_sender
from unify.tracking.mlflow_parent import send_study
from unify.tracking.mlflow_registry import register
from unify.tracking.mlflow_store import has_database, import_mlflow, plain_words
from unify.tracking.silence import Silent, limit
from unify.tracking.system_metrics import SystemMetrics

POLL = 3.0  # seconds between two looks at a run folder
LONGEST_POLL = 60.0  # while a store takes nothing
LOG = "tracking.log"
STANDARD_INPUT = 0
MAKING = "its database was being made"


@dataclass
class Task:
    """A folder that is sent: followed until `final`, then sent to its end."""

    folder: Path
    uri: str
    study: bool
    final: bool = False
    model: str = ""  # to be registered under this name
    ids: list[int] = field(default_factory=list)  # of the requests that it answers
    said: str = ""  # the last message in its log
    shipment: Shipment | None = None
    lock: ExitStack = field(default_factory=ExitStack)

    def send(self) -> int:
        """Send what is new, or the rest; returns the number of journal records."""
        if self.study:
            send_study(self.folder, self.uri)
            return 0
        if self.shipment is None:
            self.lock.enter_context(sole_sender(self.folder))
            self.shipment = Shipment(self.folder, self.uri)
        records = self.shipment.send(self.final)
        if self.final and self.model:
            register(self.folder, self.uri, self.model)
        return records

    def failed(self) -> None:
        """Begin anew at the next try: the run may be gone, or the connection broken."""
        self.lock.close()
        self.shipment = None


class Helper:
    """Tasks in the order in which they were asked for, and what the command is told of them."""

    def __init__(self, asked: int, told: int, silence: float):
        self.asked, self.told, self.silence = asked, told, silence
        self.read, self.ended, self.failures = 0, False, 0
        self.tasks: dict[Path, Task] = {}
        self.system: SystemMetrics | None = None

    def tell(self, **line: Any) -> None:
        os.write(self.told, json.dumps(line).encode() + b"\n")

    def look(self) -> None:
        """Read the requests that are new."""
        new = os.pread(self.asked, 2**30, self.read)
        whole = new[: new.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            request = json.loads(line)
            if request["do"] == "end":
                self.ended = True
                continue
            folder = Path(request["folder"])
            task = self.tasks.get(folder)
            if task is None or task.uri != request["uri"]:
                task = Task(folder, request["uri"], request["do"] == "study")
                self.tasks[folder] = task
            if request["do"] != "follow":
                task.final, task.model = True, request.get("register", "")
                task.ids.append(request["id"])

    def work(self) -> None:
        """Try every task once; a store that fails is not asked again for the others."""
        down: dict[str, str] = {}
        for task in list(self.tasks.values()):
            why = down.get(task.uri) or self._try(task, down)
            if why and task.ids:
                self.tell(failed=str(task.folder), why=why)
            elif not why and task.final:
                task.lock.close()
                del self.tasks[task.folder]
        self.failures = self.failures + 1 if down else 0

    def _try(self, task: Task, down: dict[str, str]) -> str:
        """Send one task; returns why it failed, and adds that to `down` if the store did."""
        try:
            _log_to(task.folder)
            made = has_database(task.uri)
            self.tell(stage=f"{task.folder.name} was being sent" if made else MAKING)
            with limit(self.silence, end=self.ended):
                records = task.send()
                self._send_system(task)
            if task.final:
                self.tell(sent=task.ids, records=records)
            return ""
        except (Exception, Silent) as error:
            why = plain_words(error, task.uri)
            of_folder = isinstance(error, ValueError) or getattr(error, "filename", None)
            if not of_folder:
                down[task.uri] = why
        task.failed()
        if why != task.said:
            echo(f"MLflow at {task.uri}: {why}", err=True)
            task.said = why
        return why

    def _send_system(self, task: Task) -> None:
        """Read the machine for a run that is being written; its values are sent now and then."""
        if task.shipment is None or (task.final and self.system is None):
            return
        if self.system is None:
            self.system = SystemMetrics()
            return
        self.system.sample()
        if task.final or self.system.due():
            task.shipment.send_system(self.system.take(), time.time())
        if task.final:
            self.system = None

    def wait(self) -> None:
        """Until the command asks for more, or ends, or the next look is due."""
        pause = min(LONGEST_POLL, POLL * 2.0**self.failures)
        awake = select.select([STANDARD_INPUT], [], [], pause)[0]
        if awake and not os.read(STANDARD_INPUT, 2**16):
            self.ended = True


def _log_to(folder: Path) -> None:
    """Send standard error to a folder's log."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 2)
    os.close(log)


def serve(asked: int, told: int, silence: float) -> int:
    """Send until the command ends, then the rest. Returns the exit status: 0 if all was sent.

    Args:
        asked: descriptor of the file of requests.
        told: descriptor of the file of answers.
        silence: seconds for which a store may do nothing.
    """
    helper = Helper(asked, told, silence)
    helper.tell(stage="MLflow was being imported")
    import_mlflow()
    while True:
        helper.look()
        if helper.ended:
            helper.look()
            for task in helper.tasks.values():  # the command was killed: nothing is followed now
                task.final = True
        helper.work()
        if helper.ended:
            return 1 if helper.tasks else 0
        with suppress(InterruptedError):
            helper.wait()


if __name__ == "__main__":
    status = serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    os._exit(status)  # threads of libraries may wait for a silent server
