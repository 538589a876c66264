"""What tests of MLflow share: run folders, sending in this process, servers that misbehave."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from unify.runs.journal import Journal
from unify.tracking.mlflow_delivery import Shipment, sole_sender
from unify.tracking.mlflow_store import connect

FACTS = {
    "study": "colours",
    "arm": "ar_vq",
    "paradigm": "ArVq",
    "seed": 3,
    "hash": "abc123",
    "state": "running",
    "steps": 4,
    "weights": "beef",
    "environment": {
        "git": {"sha": "f00d", "dirty": False},
        "command": ["unify", "study", "a.yaml", "--tiny"],
    },
}
SETTINGS = {
    "name": "ar_vq",
    "model": {"class": "x.Y", "depth": 4, "long": "z" * 7000},
    "machine": {"tracker": "", "runs": "runs"},
    **{f"key{i}": i for i in range(150)},
}


def make_run(runs: Path, name: str = "ar_vq-s3-abc123", steps: int = 4) -> Path:
    folder = runs / "colours" / name
    folder.mkdir(parents=True)
    tell(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "samples").mkdir()
    (folder / "samples" / "step-00000002-x.png").write_bytes(b"png")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "big.json").write_text("{}")
    write(folder, range(1, steps + 1))
    return folder


def tell(folder: Path, **facts) -> None:
    (folder / "run.json").write_text(json.dumps(FACTS | facts))


def write(folder: Path, steps, shift: float = 0.0) -> None:
    journal = Journal(folder)
    for step in steps:
        journal.write(step, "health", {"time": 1e9 + step + shift, "samples_per_s": 10.0 + shift})
        journal.write(step, "train", {"loss": 1 / step, "loss/text": 0.1 * step, "data": "ff"})


def deliver(folder: Path, uri: str) -> int:
    """Send a run that is over, in this process; how many journal records that was."""
    with sole_sender(folder):
        return Shipment(folder, uri).send(final=True)


def find(uri: str, folder: Path):
    client = connect(uri)
    experiment = client.get_experiment_by_name("colours")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    [run] = [run for run in runs if run.info.run_name == folder.name]
    return client, run


def history(uri: str, folder: Path, name: str = "loss") -> list[tuple[int, float]]:
    client, run = find(uri, folder)
    result = client.get_metric_history(run.info.run_id, name)
    return sorted((metric.step, metric.value) for metric in result)


def losses(steps: int) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in range(1, steps + 1)]


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


MISBEHAVIOUR = {  # of a server -> words of what is said about it
    "silent": "nothing for",
    "drips": "nothing for",
    "slow": "nothing for",
    "endless": "nothing for",
    "errors": "errors",
    "garbage": "",
    "other json": "",
    "redirects": "redirects in a circle",
    "unauthorised": "MLFLOW_TRACKING_TOKEN",
}


@contextmanager
def bad_server(behaviour: str) -> Iterator[str]:
    """The address of a server on this machine that never answers as MLflow does."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            with suppress(OSError):  # who asked has given up
                getattr(self, "do_" + behaviour.replace(" ", "_"))()

        do_GET = do_POST = do_PUT = do_PATCH = answer

        def do_silent(self) -> None:
            ended.wait()

        def do_slow(self) -> None:
            ended.wait(30)
            self.reply(200, b"{}")

        def do_drips(self) -> None:
            self.head(200, 1_000_000)
            while not ended.wait(0.02):
                self.wfile.write(b" ")

        def do_endless(self) -> None:
            self.head(200)
            while not ended.is_set():
                self.wfile.write(b" " * 1000)
                time.sleep(0.001)

        def do_errors(self) -> None:
            self.reply(500, b"<html>a page\nof many lines</html>")

        def do_garbage(self) -> None:
            self.reply(200, b"\x00\xff<html>no json\n" * 100)

        def do_other_json(self) -> None:
            self.reply(200, b'{"a": [1, 2]}')

        def do_redirects(self) -> None:
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()

        def do_unauthorised(self) -> None:
            self.reply(401, b"You are not authenticated")

        def head(self, status: int, length: int | None = None) -> None:
            self.send_response(status)
            if length is not None:
                self.send_header("content-length", str(length))
            self.end_headers()

        def reply(self, status: int, body: bytes) -> None:
            self.head(status, len(body))
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        ended.set()
        server.shutdown()
