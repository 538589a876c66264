"""Frozen parts: without gradient, in eval mode whatever their parent does, and stored only once.

    freeze(part)           e.g. the language model of `queries_dit`
    part.source_hash       12 hex digits of what its weights came from: an export, weight files

A frozen part with a source is left out of its parent's checkpoints and exports. They name its
source instead, and are loaded into a parent whose part came from the same one.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MethodType
from typing import TypeVar

import torch
from torch import Tensor, nn

from unify.nn.provenance import forget_source, provenance
from unify.support.atomic_files import sha256

Part = TypeVar("Part", bound=nn.Module)

NAMED = 4  # keys that an error message names
WEIGHTS = (".safetensors", ".bin")


def freeze(part: Part) -> Part:
    """Take the gradient from all its parameters and keep it in eval mode; returns it."""
    part.requires_grad_(False)
    # a parent's train() calls this of every child: dropout and statistics would wake up
    object.__setattr__(part, "train", MethodType(_stay, part))
    return part.eval()


def _stay(part: nn.Module, mode: bool = True) -> nn.Module:
    return type(part).train(part, False)


def sources(model: nn.Module) -> dict[str, str]:
    """Parts that a state of `model` leaves out, by qualified name: the hash of their source.

    A part counts as frozen only if none of its parameters has a gradient.
    """
    hashes: dict[str, str] = {}
    for name, part in model.named_modules():
        source = provenance(part).source_hash
        if not name or source is None or _inside(name, hashes):
            continue
        if not any(parameter.requires_grad for parameter in part.parameters()):
            hashes[name] = source
    return hashes


def left_out(model: nn.Module) -> set[str]:
    """Keys of the state dict that its frozen parts with a source have."""
    parts = sources(model)
    return {key for key in model.state_dict() if _inside(key, parts)}


def kept_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without the keys of `left_out`."""
    gone = left_out(model)
    return {key: value for key, value in model.state_dict().items() if key not in gone}


def load_kept(
    model: nn.Module,
    state: Mapping[str, Tensor],
    parts: Mapping[str, str] | None = None,
    mapped: bool = False,
) -> None:
    """Load what `kept_state` returned, strictly.

    `parts` are the `sources` of the model that the state was taken from (default: of this one).
    ValueError unless this model has those parts from the same sources, the missing keys are exactly
    theirs, and all others have the same shapes. A part that is filled from `state` has no source of
    its own any more. With `mapped`, parameters become those tensors themselves instead of copies.
    """
    parts = sources(model) if parts is None else parts
    _same_sources(model, parts)
    wanted = {k: v.shape for k, v in model.state_dict().items() if not _inside(k, parts)}
    # what was a number once and is a list of one now (nn/text_latent.py)
    numbers = {k: v for k, v in state.items() if v.ndim == 0 and wanted.get(k) == (1,)}
    state = {**state, **{k: v.reshape(1) for k, v in numbers.items()}}
    other = [k for k, shape in wanted.items() if k in state and state[k].shape != shape]
    sizes = {f"{k} of {_size(state[k].shape)} instead of {_size(wanted[k])}" for k in other}
    problems = [
        f"{verb} {_some(keys)}"
        for verb, keys in (
            ("lack", wanted.keys() - state.keys()),
            ("have no place for", state.keys() - wanted.keys()),
            ("have", sizes),
        )
        if keys
    ]
    if problems:
        where = f" (left out: {', '.join(parts)})" if parts else ""
        raise ValueError(
            f"the weights {' and '.join(problems)}{where}; build the model with the settings that "
            "they were trained with"
        )
    _become(model, state) if mapped else model.load_state_dict(state, strict=False)
    for name, part in model.named_modules():
        if name and not _inside(name, parts):
            forget_source(part)


def _become(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load as `load_state_dict(assign=True)` does, but keep tied parameters tied."""
    first = names_of_one(model)
    with torch.no_grad():
        model.load_state_dict(state, strict=False, assign=True)
    for name, one in first.items():
        if name != one and name in state:
            owner, _, own = name.rpartition(".")
            setattr(model.get_submodule(owner), own, model.get_parameter(one))


def names_of_one(module: nn.Module) -> dict[str, str]:
    """Names of parameters -> the first name of the same one (tied weights have several)."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(parameter), name)
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }


def _same_sources(model: nn.Module, parts: Mapping[str, str]) -> None:
    modules = dict(model.named_modules())
    for name, source in parts.items():
        here = provenance(modules.get(name)).source_hash
        if here != source:
            raise ValueError(
                f"the weights were saved without {name}, which came from {source}; here it comes "
                f"from {here or 'nowhere'}: build it from the same weights"
            )


def _inside(name: str, parts: Iterable[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _some(keys: set[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(sorted(keys)[:NAMED]) + more


def _size(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "1"


def content_hash(part: nn.Module, folder: str = "") -> str:
    """12 hex digits over the weight files and the config of a folder, or else over the state."""
    digest = hashlib.sha256()
    files = sorted(Path(folder).glob("*")) if folder else []
    if any(path.suffix in WEIGHTS for path in files):
        for path in files:
            if path.suffix in WEIGHTS or path.name == "config.json":
                digest.update(f"{path.name} {sha256(path)}".encode())
        return digest.hexdigest()[:12]
    for key, tensor in sorted(part.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy())
    return digest.hexdigest()[:12]
