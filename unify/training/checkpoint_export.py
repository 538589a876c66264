"""`unify export RUN`: write the weights of a checkpoint as finished runs export theirs.

It also works on a run that was stopped or has failed. Nothing in a checkpoint is executed.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.checkpoint import load as read_tensors

from unify.assembly.assemble import assemble
from unify.assembly.exported_weights import save_export
from unify.nn.frozen import load_kept, names_of_one
from unify.runs.checkpoint_folder import STATE, damage, latest_valid, step_of, steps
from unify.runs.export_folder import check_own_export
from unify.runs.folder import Run
from unify.runs.kept_code import check_code
from unify.runs.lookup import recorded_needed
from unify.runs.saved_config import saved_config
from unify.training.strategies import OPTIMIZER, files, read_rest
from unify.training.trainer import calibrate
from unify.training.validation import best_step

MODEL = "model."  # prefix of the names of the module's state
AVERAGE = "ema"  # name of the averaged weights in the optimizer's state


def export(run: Run, which: str = "last", out: Path | None = None, raw: bool = False) -> Path:
    """Write the weights of a checkpoint.

    Args:
        run: whose checkpoint.
        which: `last`, `best` (lowest validation loss) or the number of a step.
        out: folder to write; None: `export-<checkpoint>` in the run's folder.
        raw: the weights in training instead of their average.

    Returns:
        the folder written.

    ValueError for a folder that holds anything else than an export.
    """
    if out is not None:
        check_own_export(out, run.folder)
    folder = checkpoint_of(run, which)
    config = saved_config(run)
    check_code(run, config)
    recipe = assemble(config, recorded_needed(run))
    if not isinstance(recipe.model, nn.Module):
        raise ValueError(f"{run.folder}: a vocabulary has no checkpoints; its export is all")
    state = tensors(folder / STATE)
    weights = {k.removeprefix(MODEL): v for k, v in state.items() if k.startswith(MODEL)}
    if not raw:
        prefix = f"{OPTIMIZER}{AVERAGE}.{MODEL}"
        weights |= {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
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
    """Folder of a checkpoint, verified; ValueError lists those that exist."""
    folder = run.folder / "checkpoints"
    saved = {step_of(path): path for path in steps(folder)}
    best = best_step(run.folder)
    listed = f"{run.folder} has checkpoints of steps {', '.join(map(str, saved)) or 'none'}"
    if which == "last":
        chosen = latest_valid(folder)
    elif which == "best":
        if best is None:
            raise ValueError(f"{listed}; no validation loss was measured (logging.validation_rows)")
        chosen = saved[best]
    else:
        chosen = saved.get(int(which)) if which.isdigit() else None
    if chosen is None:
        raise ValueError(f"{listed}; --checkpoint takes last, best or one of them, not {which}")
    if reason := damage(chosen):
        raise ValueError(f"{chosen} is damaged: {reason}")
    return chosen


def tensors(folder: Path) -> dict[str, Tensor]:
    """Whole tensors of a checkpoint by name, from its shards."""
    reader = HuggingFaceStorageReader(str(folder))
    entries = reader.read_metadata().state_dict_metadata
    state = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
        for name, entry in entries.items()
    }
    with files():
        read_tensors(state, storage_reader=reader, no_dist=True)
    return state
