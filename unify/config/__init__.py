"""YAML to built objects, one way: load -> complete -> build; then nothing sees the config.

    completed = load_recipe("experiments/transfusion.yaml", ["optimizer.lr=1e-3"])
    recipe = build_recipe(completed, load_weights)

A *completed* config is plain data that holds every number of a run: each node `{class: ...}` has
all arguments of its constructor. `ConfigError` lists all that is wrong, one problem per line, each
`file:line: key: what; remedy`. Nothing is instantiated before everything has been checked, and
nothing that is not a subclass of what its place is annotated with ever is.

    yaml_tree: file -> Node; loading: files -> Tree; completion: Tree -> plain data;
    construction: plain data -> objects
"""

from unify.config.annotations import locate_class
from unify.config.checking import check_file
from unify.config.construction import LoadWeights, build, build_recipe
from unify.config.identity import (
    OUTSIDE_HASH,
    Needed,
    config_hash,
    needed_key,
    needed_runs,
    scoring_weights,
    trained_code,
    trained_keys,
    user_files,
    weight_folders,
)
from unify.config.loaders import complete, load_cluster, load_recipe, on_machine, read, save
from unify.config.loading import Tree, load
from unify.config.studies import load_study
from unify.config.yaml_tree import ConfigError, Problem, dump

__all__ = [
    "OUTSIDE_HASH",
    "ConfigError",
    "LoadWeights",
    "Needed",
    "Problem",
    "Tree",
    "build",
    "build_recipe",
    "check_file",
    "complete",
    "config_hash",
    "dump",
    "load",
    "load_cluster",
    "load_recipe",
    "load_study",
    "locate_class",
    "needed_key",
    "needed_runs",
    "on_machine",
    "read",
    "save",
    "scoring_weights",
    "trained_code",
    "trained_keys",
    "user_files",
    "weight_folders",
]
