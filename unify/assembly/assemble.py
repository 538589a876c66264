"""A run's parts, built: with the weights they start from, or those that the run has reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh

from unify.assembly.exported_weights import load_export
from unify.assembly.sharding import construct, shard
from unify.config import build_recipe, needed_key, on_machine, read
from unify.config.annotations import locate_class
from unify.distributed.ranks import broadcast_first, device_of, join, world
from unify.nn.init import kept_parameters
from unify.paradigm import Paradigm, Trainable
from unify.runs.folder import Run
from unify.runs.lookup import recorded_needed
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.tokenizer import Tokenizer


def assemble(config: Config, needed: dict[str, Run], meta: bool = False) -> Recipe:
    """Build every part; trained parts get the weights of the runs they name.

    With `meta`, parameters that are to be drawn have no memory yet, and those that are loaded only
    that of the file, which the ranks of a machine share (unify/assembly/sharding.py).
    """
    torch.manual_seed(config["seeds"]["init"])

    def load_weights(part: Any, weights: Any) -> None:
        said = weights if isinstance(weights, dict) else {}
        folder = needed[needed_key(said)].folder / "export" if said else Path(weights)
        load_export(part, folder, said.get("part", ""), mapped=meta)

    def seeded_construct(cls: type, arguments: Config) -> Any:
        if issubclass(cls, Tokenizer) and not tokenizer:  # untrained: alike, whatever is around it
            torch.manual_seed(config["seeds"]["init"])
        return construct(cls, arguments) if meta else cls(**arguments)

    tokenizer = issubclass(locate_class(config["model"]["class"], trusted=True), Tokenizer)
    recipe = build_recipe(config, load_weights, construct=seeded_construct)
    if meta and any(p.is_meta for p in kept_parameters(recipe.model)):
        return assemble(config, needed)  # it fills tables of its own from what is pretrained
    return recipe


def in_shards(config: Config) -> bool:
    """Whether the model of a run is cut over several ranks: a paradigm's, not a tokenizer's."""
    cls = locate_class(config["model"]["class"], trusted=True)
    sharded = config["machine"]["strategy"] == "fsdp" and world().size > 1
    return sharded and issubclass(cls, Paradigm)


def open_run(
    folder: Path, trusted_files: bool = False, machine: Config | None = None
) -> tuple[Run, Config, Recipe]:
    """A finished run, its configuration, and its parts with the exported weights, in eval mode.

    On the devices of this process, which is perhaps one rank of several: then in shards if the run
    was trained so. `machine` says so instead of the run's own.
    """
    run = Run(folder)
    config = read(run.folder / "config.yaml", trusted=trusted_files) if run.info else {}
    config["machine"] |= {key: machine[key] for key in PLACEMENT} if machine else {}
    accelerator = config["machine"]["accelerator"]
    join(config["machine"]["timeout"], accelerator)
    state = broadcast_first(run.info["state"])  # as the first rank sees it, who writes it
    if state != "finished":
        raise ValueError(f"{folder} is {state}; finish it with `unify train` first")
    cut, device = in_shards(config), device_of(accelerator)
    recipe = assemble(config, recorded_needed(run), meta=cut)
    load_export(recipe.model, run.folder / "export", mapped=cut)
    if cut:
        assert isinstance(recipe.model, Paradigm)
        shard(recipe.model, init_device_mesh(device.type, (world().size,)))
    if isinstance(recipe.model, Trainable):
        parts = recipe.model.tokenizers().values() if isinstance(recipe.model, Paradigm) else ()
        for part in (*parts, *(() if cut else (recipe.model,))):
            if isinstance(part, torch.nn.Module):
                part.to(device)
        recipe.model.eval()
    return run, config, recipe


def machine_of(folder: Path, words: Sequence[str]) -> Config:
    """Where a finished run is opened: on one device, unless `machine.key=value` words say more.

    What a launcher starts has as many ranks as it starts.
    """
    known = read(folder / "config.yaml", trusted=True)["machine"] if Run(folder).info else {}
    return on_machine({**known, "devices": 1, "nodes": 1}, words)


PLACEMENT = ("devices", "nodes", "strategy", "accelerator", "timeout")  # where a model is opened
