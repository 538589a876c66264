"""The parts of a run, built: with the weights they start from, or those of a finished run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh

from unify.assembly.exported_weights import load_export
from unify.assembly.sharding import construct, shard
from unify.config import build_recipe, needed_key, on_machine, scoring_weights
from unify.config.annotations import locate_class
from unify.distributed.ranks import broadcast_first, device_of, join, world
from unify.nn.init import kept_parameters
from unify.noise import seed_torch
from unify.paradigm import Paradigm, Trainable
from unify.runs.folder import Run
from unify.runs.kept_code import check_code
from unify.runs.lookup import recorded_needed
from unify.runs.saved_config import saved_config
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.tokenizer import Tokenizer


def assemble(config: Config, needed: dict[str, Run], meta: bool = False) -> Recipe:
    """Build every part of a run; parts that name a needed run get its weights.

    Args:
        config: a completed experiment.
        needed: the finished runs that it starts from, by key (runs/lookup.py).
        meta: leave parameters that will be drawn on the meta device, without memory, and map those
            that are loaded from their files, which the ranks of a machine share (sharding.py).
    """
    seed_torch(config["seeds"]["init"])

    def load_weights(part: Any, weights: Any) -> None:
        of_run = weights if isinstance(weights, dict) else {}
        if not of_run:
            load_export(part, Path(weights), mapped=meta)
            return
        run = needed[needed_key(of_run)]
        name = of_run.get("part", "")
        load_export(part, run.folder / "export", name, mapped=meta, recorded=run.weights)

    def seeded_construct(cls: type, arguments: Config) -> Any:
        # an untrained tokenizer is the same, whatever was drawn for the parts built before it
        if issubclass(cls, Tokenizer) and not tokenizer:
            seed_torch(config["seeds"]["init"])
        return construct(cls, arguments) if meta else cls(**arguments)

    tokenizer = issubclass(locate_class(config["model"]["class"], trusted=True), Tokenizer)
    recipe = build_recipe(config, load_weights, construct=seeded_construct)
    hashes = {key: run.weights for key, run in needed.items()}
    for metric, node in zip(recipe.evaluation, config["evaluation"], strict=True):
        metric.own_weights = scoring_weights(node, hashes)
        metric.configured = {key: value for key, value in node.items() if key != "class"}
    if meta and any(p.is_meta for p in kept_parameters(recipe.model)):
        # a part computed tables from pretrained weights, so these need memory while it is built
        return assemble(config, needed)
    return recipe


def in_shards(config: Config) -> bool:
    """True if the model of a run is cut over ranks: FSDP, of a paradigm and not a tokenizer."""
    cls = locate_class(config["model"]["class"], trusted=True)
    sharded = config["machine"]["strategy"] == "fsdp" and world().size > 1
    return sharded and issubclass(cls, Paradigm)


def open_run(
    folder: Path,
    trusted_files: bool = False,
    machine: Config | None = None,
    scoring: Config | None = None,
) -> tuple[Run, Config, Recipe]:
    """A finished run, its configuration, and its parts with the exported weights, in eval mode.

    Parts lie on the device of this process; of several ranks, each holds its shards of a model
    that is trained by FSDP. ValueError if the run is not finished.

    Args:
        folder: the run folder.
        trusted_files: run the Python files that the configuration names.
        machine: settings that replace the run's own, as far as PLACEMENT names them.
        scoring: keys that replace the run's own, of those outside of what was trained.
    """
    run = Run(folder)
    config = saved_config(run, trusted_files) if run.info else {}
    config["machine"] |= {key: machine[key] for key in PLACEMENT} if machine else {}
    config |= scoring or {}
    accelerator = config["machine"]["accelerator"]
    join(config["machine"]["timeout"], accelerator)
    state = broadcast_first(
        run.info["state"]
    )  # the first rank writes it, others may read an older one
    if state != "finished":
        raise ValueError(f"{folder} is {state}; finish it with `unify train` first")
    check_code(run, config)
    cut, device = in_shards(config), device_of(accelerator)
    recipe = assemble(config, recorded_needed(run), meta=cut)
    load_export(recipe.model, run.folder / "export", mapped=cut, recorded=run.weights)
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
    """The machine to open a finished run on: one device, unless `machine.key=value` words differ.

    torchrun and srun set the number of ranks themselves.
    """
    run = Run(folder)
    own = saved_config(run, trusted_files=True)["machine"] if run.info else {}
    return on_machine({**own, "devices": 1, "nodes": 1}, words)


# keys of `machine` that decide where and how a finished model is opened and computes
PLACEMENT = ("devices", "nodes", "strategy", "accelerator", "timeout", "precision")
