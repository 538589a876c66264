"""Exported weights: how they are written, named by a hash, and loaded into a built part."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unify.distributed.ranks import broadcast_first, full_tensor, is_first
from unify.nn.frozen import kept_state, load_kept, sources
from unify.nn.provenance import mark_loaded
from unify.paradigm import Fitted
from unify.runs.folder import write_json

LEFT_OUT = "left_out"  # key in the file's metadata: the frozen parts that it does not hold


def save_export(model: nn.Module | Fitted, node: dict[str, Any], folder: Path) -> str:
    """Write the weights of a model and the node that builds it; all ranks call.

    Frozen parts with a source of their own are left out; the file names them (nn/frozen.py).
    Returns the hash of the weights, 12 hex digits.
    """
    state = {}
    if not isinstance(model, Fitted):
        for key, value in kept_state(model).items():  # one at a time: only one is whole in memory
            full = full_tensor(value.detach())
            if is_first():  # clones: safetensors refuses tensors that share memory (tied weights)
                state[key] = full.cpu().clone().contiguous()
    return broadcast_first(_write_export(model, state, node, folder) if is_first() else "")


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
    """The hash, 12 hex digits, of every file of an export except its config.json."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != "config.json":
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()[:12]


def load_export(part: Any, folder: Path, name: str = "", mapped: bool = False) -> None:
    """Fill a freshly built part with exported weights, strictly; its provenance names them.

    Args:
        part: a module, or a fitted part, which loads itself.
        folder: the export of a run.
        name: load the sub-module of this name; the export must hold it, which it does not of a
            tokenizer or of what was left out.
        mapped: make parameters views of the file, which the processes of a machine share, until
            something writes to them.

    ValueError if the files have changed since they were written, or if keys or shapes differ.
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
    mark_loaded(part, source)


def _exported(folder: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """State dict and left-out parts (name -> source) of the sub-module `name`, with no prefix."""
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
