"""Exported weights: how they are written, named by a hash, and loaded into a built part."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unify.distributed.ranks import broadcast_first, full_tensor, is_first
from unify.nn.frozen import kept_state, load_kept, sources
from unify.nn.provenance import mark_loaded
from unify.paradigm import Fitted
from unify.runs.export_folder import (
    DESCRIPTION,
    add_file,
    hash_files,
    hash_of_unchanged,
    stamps,
    weight_files,
)
from unify.runs.folder import Run, write_json
from unify.support.atomic_files import replaced
from unify.support.strict_json import read_mapping

WEIGHTS = "model.safetensors"
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
        with replaced(folder / WEIGHTS) as staging:
            save_file(state, staging, metadata)
    digest = hash_files(folder)
    arguments = {key: value for key, value in node.items() if key not in ("class", "weights")}
    write_json(folder / DESCRIPTION, {"class": node["class"], "args": arguments, "hash": digest})
    return digest


def load_export(
    part: Any, folder: Path, name: str = "", mapped: bool = False, recorded: str = ""
) -> None:
    """Fill a freshly built part with exported weights, strictly; its provenance names them.

    Args:
        part: a module, or a fitted part, which loads itself.
        folder: the export of a run.
        name: load the sub-module of this name; the export must hold it, which it does not of a
            tokenizer or of what was left out.
        mapped: make parameters views of the file, which the processes of a machine share, until
            something writes to them.
        recorded: the hash that a run has recorded of them; by default, that of their config.json.

    ValueError if the weights that are read have another hash, or if keys or shapes differ.
    """
    folder = Path(folder)
    described = recorded or _described_hash(folder)
    if isinstance(part, Fitted) and not name:
        _compare(folder, hash_files(folder), described, bool(recorded))
        part.load(folder)
        return
    try:
        source, state, gone = _read(folder, name)
    except ValueError:
        _compare(folder, hash_files(folder), described, bool(recorded))  # says more, if damaged
        raise
    _compare(folder, source, described, bool(recorded))
    if name:
        if not state:
            raise ValueError(
                f"{folder} holds no weights of {name}: a tokenizer, or what was frozen there, has "
                "a source of its own; name that one"
            )
        source = hashlib.sha256(f"{source} {name}".encode()).hexdigest()[:12]
    load_kept(part, state, gone, mapped)
    mark_loaded(part, source)


def check_written(run: Run) -> None:
    """ValueError if the weights of a finished run are not those that it recorded.

    They are read only if the size or the time of a file is not as recorded when it was written.
    """
    recorded, folder = run.info.get("written"), run.folder / "export"
    if recorded is not None and stamps(folder) != recorded:
        _compare(folder, hash_of_unchanged(folder), run.weights, recorded=True)


def _described_hash(folder: Path) -> str:
    path, again = folder / DESCRIPTION, _remedy(folder)
    if not path.is_file():
        raise ValueError(f"{path} is gone; {again}")
    return str(read_mapping(path, again, {"hash": str, "class": str}).get("hash"))


def _remedy(folder: Path) -> str:
    """How an export is made again: from the checkpoints of its run, where it has any."""
    run = folder.parent
    if any((run / "checkpoints").glob("step-*")):
        return f"write them again by `unify export {run} --out {folder}`"
    return "export them again"


def _compare(folder: Path, found: str, wanted: str, recorded: bool) -> None:
    if found != wanted:
        who, remedy = "their config.json", _remedy(folder)
        if recorded:
            who, remedy = "the run that uses them", f"remove {folder.parent} and train it again"
            remedy = f"{_remedy(folder)}, or {remedy}" if "`" in _remedy(folder) else remedy
        raise ValueError(
            f"{folder}: the weights differ from the hash that {who} recorded: it is {found}, and "
            f"was {wanted}; put the files of {wanted} back, or {remedy}"
        )


def _read(folder: Path, name: str) -> tuple[str, dict[str, torch.Tensor], dict[str, str]]:
    """The hash of an export, and of the sub-module `name` state dict and left-out parts.

    Tensors are views of the file, hashed as they are read; left-out parts are name -> source. Names
    have no prefix.
    """
    digest = hashlib.sha256()
    state: dict[str, torch.Tensor] = {}
    gone: dict[str, str] = {}
    start = f"{name}." if name else ""
    for path in weight_files(folder):
        if path.name != WEIGHTS:
            add_file(digest, path)
            continue
        digest.update(path.name.encode())
        metadata, tensors = _tensors(path, digest)
        gone = json.loads(metadata.get(LEFT_OUT, "{}"))
        for key, tensor in tensors:
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
            if key.startswith(start):
                state[key.removeprefix(start)] = tensor
    gone = {k.removeprefix(start): v for k, v in gone.items() if k.startswith(start)}
    return digest.hexdigest()[:12], state, gone


def _tensors(path: Path, digest: Any) -> tuple[dict[str, str], Iterator[tuple[str, torch.Tensor]]]:
    """The metadata of a safetensors file, whose header is added to `digest`, and its tensors.

    These come in the order of the file: their bytes are the rest of it, without gaps.
    """
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, "pt")
        with path.open("rb") as raw:
            size = raw.read(8)
            digest.update(size + raw.read(int.from_bytes(size, "little")))
        return file.metadata() or {}, ((key, file.get_tensor(key)) for key in file.offset_keys())
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); export it again") from error
