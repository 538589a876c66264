"""`unify check`: all problems of one file, whatever it holds."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from unify.config.loaders import complete, load_cluster
from unify.config.loading import load
from unify.config.studies import load_study
from unify.config.yaml_tree import ConfigError, Problem
from unify.schema.cluster import Cluster
from unify.schema.experiment import Recipe


def check_file(path: str | Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """All problems of an experiment (its `tiny` form too), a study, a cluster or a fragment."""
    try:
        tree = load(path, overrides)
        if "arms" in tree.root.value:
            load_study(path, overrides)
        elif tree.root.value.keys() & ({f.name for f in fields(Cluster)} - {"machine"}):
            load_cluster(path)
        else:
            complete(tree, Recipe, partial="model" not in tree.root.value)
            if "model" in tree.root.value and "tiny" in tree.root.value:
                complete(load(path, overrides, tiny=True), Recipe)
    except ConfigError as error:
        return error.problems
    return []
