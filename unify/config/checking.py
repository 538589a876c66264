"""`unify check`: all problems of one file, whatever it holds."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from unify.config.loaders import complete, load_cluster
from unify.config.loading import load
from unify.config.studies import load_study
from unify.config.yaml_tree import ConfigError, Problem
from unify.metrics.sealed_prompts import seal_of
from unify.schema.cluster import Cluster
from unify.schema.completed import Config
from unify.schema.experiment import Recipe


def check_file(path: str | Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """All problems of an experiment (its `tiny` form too), a study, a cluster or a fragment."""
    try:
        tree = load(path, overrides)
        if not tree.root.value:
            return [Problem(str(path), 0, "", "is empty: an experiment has a `model`")]
        if "arms" in tree.root.value:
            _, arms = load_study(path, overrides)
            return [p for name, arm in arms.items() for p in _open_seals(path, arm, f"arms.{name}")]
        elif tree.root.value.keys() & ({f.name for f in fields(Cluster)} - {"machine"}):
            load_cluster(path)
        else:
            done = complete(tree, Recipe, partial="model" not in tree.root.value)
            if "model" in tree.root.value and "tiny" in tree.root.value:
                complete(load(path, overrides, tiny=True), Recipe)
            return _open_seals(path, done)
    except ConfigError as error:
        return error.problems
    return []


def _open_seals(path: str | Path, config: Config, prefix: str = "") -> list[Problem]:
    """A problem for each metric whose `sealed` names a file that seals nothing."""
    problems = []
    for place, metric in enumerate(config.get("evaluation") or ()):
        try:
            if metric.get("sealed"):
                seal_of(metric["sealed"])
        except ValueError as error:
            key = ".".join(part for part in (prefix, f"evaluation.{place}.sealed") if part)
            message = str(error).removeprefix("sealed: ")
            problems.append(Problem(str(path), 0, key, message))
    return problems
