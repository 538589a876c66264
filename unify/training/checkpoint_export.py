"""`unify export RUN`: a checkpoint's weights in a safetensors file, as finished runs leave them.

It works on a run that was stopped or has failed, too. Nothing in a checkpoint is executed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.checkpoint import load as read_tensors

from unify.assembly.assemble import assemble
from unify.assembly.exported_weights import save_export
from unify.config import read
from unify.nn.frozen import load_kept, names_of_one
from unify.runs.checkpoint_folder import STATE, damage, latest_valid, step_of, steps
from unify.runs.folder import Run
from unify.runs.lookup import recorded_needed
from unify.training.strategies import OPTIMIZER, files, read_rest
from unify.training.trainer import calibrate
from unify.training.validation import best_step

MODEL = "model."  # what names of the experiment's state start with
AVERAGE = "ema"  # the optimizer's state of a parameter that is its average


def export(run: Run, which: str = "last", out: Path | None = None, raw: bool = False) -> Path:
    """Write `which` checkpoint, `last`, `best` or the number of its step; the folder written.

    The averaged weights, or with `raw` those in training.
    """
    folder = checkpoint_of(run, which)
    config = read(run.folder / "config.yaml")
    recipe = assemble(config, recorded_needed(run))
    if not isinstance(recipe.model, nn.Module):
        raise ValueError(f"{run.folder}: a vocabulary has no checkpoints; its export is all")
    state = tensors(folder / STATE)
    weights = {k.removeprefix(MODEL): v for k, v in state.items() if k.startswith(MODEL)}
    if not raw:
        start = f"{OPTIMIZER}{AVERAGE}.{MODEL}"
        weights |= {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    for name, first in names_of_one(recipe.model).items():
        if first in weights:
            weights[name] = weights[first]
    rest = read_rest(folder / STATE)
    load_kept(recipe.model, weights, rest["left_out"])
    recipe.model.eval()
    calibrate(recipe)
    out = out or run.folder / f"export-{folder.name}{'-raw' if raw else ''}"
    save_export(recipe.model, config["model"], out)
    return out


def checkpoint_of(run: Run, which: str) -> Path:
    """A checkpoint that verifies; ValueError says which there are."""
    folder = run.folder / "checkpoints"
    there = {step_of(path): path for path in steps(folder)}
    best = best_step(run.folder)
    said = f"{run.folder} has checkpoints of steps {', '.join(map(str, there)) or 'none'}"
    if which == "last":
        found = latest_valid(folder)
    elif which == "best":
        if best is None:
            raise ValueError(f"{said}; no validation loss was measured (logging.validation_rows)")
        found = there[best]
    else:
        found = there.get(int(which)) if which.isdigit() else None
    if found is None:
        raise ValueError(f"{said}; --checkpoint takes last, best or one of them, not {which}")
    if reason := damage(found):
        raise ValueError(f"{found} is damaged: {reason}")
    return found


def tensors(folder: Path) -> dict[str, Tensor]:
    """All that the shards of a checkpoint hold, whole."""
    reader = HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata
    state = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
        for name, entry in known.items()
    }
    with files():
        read_tensors(state, storage_reader=reader, no_dist=True)
    return state
