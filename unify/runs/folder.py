"""Run folders: what a run leaves behind, and how weights are found again.

runs/<study>/<name>-s<seed>-<hash>/
    config.yaml     the completed configuration
    run.json        what, when, where, state: running | finished | failed
    journal.jsonl   metrics by step
    checkpoints/    to resume from
    samples/ eval/  pictures and scores
    export/         config.json (class, arguments) and weights (safetensors)
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unify.distributed.ranks import is_first, told, whole
from unify.support.atomic_files import write_atomically
from unify.nn.frozen import kept_state, load_kept, sources
from unify.paradigm import Fitted, Paradigm

LEFT_OUT = "left_out"  # what a weights file calls the frozen parts that it does not hold


class Run:
    """A run folder and its `run.json`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    @property
    def info(self) -> dict[str, Any]:
        path = self.folder / "run.json"
        if not path.exists():
            raise ValueError(
                f"{self.folder} is not a run folder: it has no run.json; give the folder that "
                "`unify train` printed"
            )
        return json.loads(path.read_text())

    @property
    def finished(self) -> bool:
        return (self.folder / "run.json").exists() and self.info["state"] == "finished"

    def update(self, **facts: Any) -> None:
        """Merge facts into run.json; a reader never sees half a file. The first rank writes."""
        if not is_first():
            return
        known = self.info if (self.folder / "run.json").exists() else {}
        write_json(self.folder / "run.json", {**known, **facts})

    @contextmanager
    def writing(self, wait: bool = False) -> Iterator[None]:
        """One writer at a time; the lock goes with its process, however that ends.

        Another writer is waited for with `wait`, else a ValueError. The first rank locks for all.
        """
        with ExitStack() as stack:
            while refused := told(self._refused(stack) if is_first() else ""):
                if not (wait and BUSY in refused):
                    raise ValueError(refused)
                time.sleep(0.2)  # all ranks ask again: none waits for another for long
            yield

    def _refused(self, stack: ExitStack) -> str:
        """Take the lock; why not, if it cannot be had."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / ".lock", "w")  # noqa: SIM115 (closed below)
        except OSError as error:
            return (
                f"{self.folder} cannot be written ({error.strerror}: {error.filename}); say "
                "another folder with `machine.runs=`"
            )
        try:
            # not flock: a killed run's loader workers would go on holding the lock for a while
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return f"{self.folder} {BUSY}; wait for it or stop it"
            return (
                f"{self.folder} cannot be locked ({error.strerror}): its file system has no "
                "locks; put `machine.runs` on one that has"
            )
        stack.enter_context(lock)
        return ""


BUSY = "is being written by another process"


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1, default=str))


def save_export(model: nn.Module | Fitted, node: dict[str, Any], folder: Path) -> str:
    """Write weights and how to build them; returns their hash (12 hex digits). All ranks call.

    Frozen parts with a source of their own are left out; the file names them (nn/frozen.py).
    """
    state = {}
    if not isinstance(model, Fitted):
        for key, value in kept_state(model).items():  # all ranks put one after another together
            full = whole(value.detach())
            if is_first():  # clones: safetensors refuses tensors that share memory (tied weights)
                state[key] = full.cpu().clone().contiguous()
    return told(_write_export(model, state, node, folder) if is_first() else "")


def _write_export(
    model: nn.Module | Fitted, state: dict[str, torch.Tensor], node: dict[str, Any], folder: Path
) -> str:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, Fitted):
        model.save(folder)
    else:
        gone = sources(model)
        metadata = {LEFT_OUT: json.dumps(gone, sort_keys=True)} if gone else None
        save_file(state, folder / "model.safetensors", metadata)
    digest = hash_files(folder)
    arguments = {key: value for key, value in node.items() if key not in ("class", "weights")}
    write_json(folder / "config.json", {"class": node["class"], "args": arguments, "hash": digest})
    return digest


def hash_files(folder: Path) -> str:
    """12 hex digits over every file of an export but its config."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != "config.json":
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()[:12]


def load_export(part: Any, folder: Path, name: str = "", mapped: bool = False) -> None:
    """Fill a freshly built part with exported weights; every key must be there and be used.

    `name`: with what the exported model has under it, which must be neither a tokenizer nor left
    out. Its `source_hash` says from now on where they came from. With `mapped`, parameters are
    views of the file, which all processes of a machine share, until something writes to them.
    """
    described = json.loads((Path(folder) / "config.json").read_text())
    if not isinstance(described, dict) or hash_files(Path(folder)) != described.get("hash"):
        raise ValueError(
            f"{folder}: weights differ from the hash in config.json; export them again"
        )
    if isinstance(part, Fitted) and not name:
        part.load(folder)
        return
    state, gone, source = *_exported(Path(folder), name), described["hash"]
    if name:
        if not state:
            raise ValueError(
                f"{folder} holds no weights of {name}: a tokenizer, or what was frozen there, has "
                "a source of its own; name that one"
            )
        source = hashlib.sha256(f"{source} {name}".encode()).hexdigest()[:12]
    load_kept(part, state, gone, mapped)
    part.pretrained = True  # initialise() leaves it alone
    part.source_hash = source


def _exported(folder: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The state that an export has under a name, and the parts left out there, by names in it."""
    from safetensors import SafetensorError, safe_open

    start, path = f"{name}." if name else "", folder / "model.safetensors"
    try:
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if key.startswith(start)]  # noqa: SIM118 (no mapping)
            gone = json.loads((file.metadata() or {}).get(LEFT_OUT, "{}"))
            state = {key.removeprefix(start): file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); export it again") from error
    return state, {k.removeprefix(start): v for k, v in gone.items() if k.startswith(start)}


def parameter_counts(model: Any) -> dict[str, int]:
    """Total and trainable parameters of the model, and those of its frozen tokenizers."""
    if not isinstance(model, nn.Module):
        return {"total": 0, "trainable": 0, "frozen_tokenizers": 0}
    tokenizers = model.tokenizers().values() if isinstance(model, Paradigm) else ()
    return {
        "total": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "frozen_tokenizers": sum(
            p.numel() for t in tokenizers if isinstance(t, nn.Module) for p in t.parameters()
        ),
    }


def autocast(precision: str, device: torch.device | str):
    """The context in which a run of this precision computes outside the trainer."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16-mixed")
