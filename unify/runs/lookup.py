"""Which folder is the run of a configuration, whether it is there, and what it needs"""

from __future__ import annotations

from pathlib import Path

from unify.config import (
    build,
    config_hash,
    load_recipe,
    needed_runs,
)
from unify.data.module import Data
from unify.runs.equal_training import same_training
from unify.runs.folder import Run
from unify.schema.completed import Config


def run_of(config: Config, weights: dict[str, str]) -> Run:
    """The run folder of a configuration, by the hashes of the weights that it starts from."""
    data = build(config["data"])
    assert isinstance(data, Data)
    digest = config_hash(config, weights, data.fingerprint())
    name = f"{config['name']}-s{config['seeds']['init']}-{digest}"
    return Run(Path(config["machine"]["runs"]) / config["study"] / name)


def needed_configs(parent: Config) -> dict[str, Config]:
    """The configurations of the runs that one needs, by their keys, on its machine."""
    configs = {}
    for key, needed in needed_runs(parent).items():
        config = load_recipe(needed.path, tiny=needed.tiny)
        configs[key] = {**seeded(config, needed.seed), "machine": parent["machine"]}
    return configs


def seeded(config: Config, added: int) -> Config:
    """A configuration with a number added to each of its seeds."""
    return {**config, "seeds": {name: own + added for name, own in config["seeds"].items()}}


def replicate(config: Config, seed: int) -> Config:
    """An arm under one of its study's seeds."""
    return {**seeded(config, seed), "replicate": seed}


def find_run(config: Config, reuse: bool = False) -> Run | None:
    """The run of a configuration, if its folder is there; nothing is trained.

    With `reuse`, else a finished one that would be used instead of training.
    """
    needed = find_needed(config)
    if needed is None:
        return None
    run = run_of(config, {path: part.info["weights"] for path, part in needed.items()})
    if (run.folder / "run.json").is_file():
        return run
    return same_training(run, config) if reuse else None


def find_needed(config: Config) -> dict[str, Run] | None:
    """The finished runs that a configuration starts from, by key; None if one is missing."""
    needed = {}
    for path, part in needed_configs(config).items():
        run = find_run(part, reuse=True)
        if run is None or not run.finished:
            return None
        needed[path] = run
    return needed


def find_run_if_data(config: Config, reuse: bool = False) -> Run | None:
    """The run of a configuration (`reuse`: or of another study, trained alike); None, too, where
    the data that it names is not there."""
    try:
        return find_run(config, reuse)
    except (ValueError, OSError):
        return None
