"""The command line in a process from a fork server, which has imported what takes long.

ended = commands("train", "-c", file, cwd=..., VARIABLE="value")     # status, out, err
process = commands.start("train", ...)                               # and `ended(process)` later
"""

import multiprocessing
import os
import resource
import runpy
import sys
from pathlib import Path
from typing import Any, NamedTuple

from places import PYTHONPATH

from unify.distributed.ranks import free_port

FILE = Path(__file__).parent.parent / "experiments" / "transfusion.yaml"
TRAIN = ["train", "-c", str(FILE), "--tiny"]  # a run of seconds, which needs no other


def weights(runs: Path) -> bytes:
    """Of the one run there."""
    (result,) = runs.glob("default/*/export/model.safetensors")
    return result.read_bytes()


class Ended(NamedTuple):
    status: int
    out: str
    err: str


class Commands:
    """`unify ...`, as many as a test needs; what they print is kept in `folder`."""

    def __init__(self, folder: Path):
        # the fork server does not get pytest's sys.path
        os.environ["PYTHONPATH"] = PYTHONPATH
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["resume_child"])
        self.folder, self.count = folder, 0

    def __call__(self, *words: object, cwd: Path | None = None, **variables: str) -> Ended:
        return self.ended(self.start(*words, cwd=cwd, **variables))

    def start(self, *words: object, cwd: Path | None = None, target=None, **variables: str):
        """`target`: what the child does with these arguments; `run` or a function around it."""
        self.count += 1
        log = self.folder / f"command{self.count}"
        arguments = ([*map(str, words)], str(log), str(cwd or Path.cwd()), variables)
        process = self.context.Process(target=target or run, args=arguments, name=str(log))
        process.start()
        return process

    def ended(self, process, seconds: float = 300) -> Ended:
        process.join(seconds)
        status = process.exitcode
        process.kill()
        process.join()
        printed = [Path(f"{process.name}.{name}").read_text() for name in ("out", "err")]
        return Ended(status, *printed)


def run(words: list[str], *place: Any) -> None:
    """In the child: what `unify` does when it is called by these words."""
    _become(["unify", *words], *place)

    from unify.cli import main

    main()


def run_file(words: list[str], *place: Any) -> None:
    """In the child: what Python does when it is called with a file and these words."""
    _become(words, *place)
    runpy.run_path(words[0], run_name="__main__")


def _become(words: list[str], log: str, cwd: str, variables: dict[str, str]) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of its loader workers, as usual
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = words

    import torch

    torch.set_num_threads(1)


def seats(ranks: int) -> list[dict[str, str]]:
    """What a launcher tells each of so many ranks on this machine; one alone has none."""
    if ranks == 1:
        return [{}]
    group = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    each = [group | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(ranks)]
    return [{key: str(value) for key, value in seat.items()} for seat in each]


def run_within(mebibytes: int, *arguments) -> None:
    """`run` in a process that may take so much more memory than it has with torch imported."""
    import torch  # noqa: F401

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    run(*arguments)
