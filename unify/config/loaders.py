"""Files to completed configs: experiments, clusters, and what a run wrote down."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unify.config.completion import Completion
from unify.config.construction import build
from unify.config.cross_checks import cross_checks
from unify.config.loading import Tree, load, override, read_yaml
from unify.config.read_once import once
from unify.config.yaml_tree import COMMAND_LINE, ConfigError, Node, Problem, dump
from unify.schema.cluster import Cluster
from unify.schema.completed import Config
from unify.schema.experiment import Machine, Recipe
from unify.schema.study import Study
from unify.support.atomic_files import write_atomically
from unify.support.file_names import wrong_name


def complete(tree: Tree, schema: type | None = None, partial: bool = False) -> Config:
    """The tree with every absent argument filled in, as plain data.

    Args:
        schema: the dataclass of the top level; None: Study for a tree with `arms`, else Recipe.
        partial: the tree is a fragment, to be the base of others: keys without a default may be
            missing.

    Raises ConfigError with all problems of the tree.
    """
    if schema is None:
        schema = Study if "arms" in tree.root.value else Recipe
    completion = Completion(list(tree.problems), schema, tree.trusted, tree.tiny)
    root = cross_checks(completion.top(tree.root, partial), completion)
    if completion.problems:
        raise ConfigError(completion.problems)
    return root.plain()


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), tiny: bool = False, trusted: bool = True
) -> Config:
    """An experiment file, completed; `name` is the file's stem unless it gives another.

    It is completed once for the same arguments while its files stay as they are.
    """
    return copy.deepcopy(_recipe(str(path), tuple(overrides), tiny, trusted))


@once
def _recipe(path: str, overrides: tuple[str, ...], tiny: bool, trusted: bool) -> Config:
    completed = complete(load(path, overrides, tiny, trusted), Recipe)
    name = completed["name"] or Path(path).stem
    if message := wrong_name(name):  # of the file
        raise ConfigError([Problem(path, 0, "name", f"{message}; say it with `name:`")])
    return completed | {"name": name}


def load_cluster(path: str | Path) -> Cluster:
    """A cluster file, completed and built. Raises ConfigError."""
    tree = load(path)
    completed = complete(tree, Cluster)
    machine = tree.root.get("machine")
    if machine is not None:  # a cluster gives some of its keys
        complete(Tree(machine), Machine)
    return build_top(completed, Cluster, path)


def build_top(completed: Config, schema: type, path: str | Path) -> Any:
    """The dataclass of a file's top level. Its own ValueError becomes a ConfigError."""
    try:
        return build(completed, expect=schema)
    except ValueError as error:
        raise ConfigError([Problem(str(path), 0, "", str(error))]) from error


def save(completed: Config, path: str | Path) -> None:
    """Write a completed config as YAML."""
    write_atomically(Path(path), dump(completed))


def read(path: str | Path, trusted: bool = False, schema: type | None = None) -> Config:
    """A completed config that `save` wrote, equal to what it was, and checked again.

    Unless `trusted`, no Python file that it names is run; one loaded before in this process serves.
    """
    problems: list[Problem] = []
    root = read_yaml(str(path), problems)
    return complete(Tree(root, problems, trusted), schema)


def on_machine(machine: Config, words: Sequence[str]) -> Config:
    """The `machine` block of a finished run, changed by `machine.key=value` words.

    Raises ConfigError for any other word.
    """
    problems: list[Problem] = []
    root = override(Node({}, COMMAND_LINE), words, problems)
    for key in root.value.keys() - {"machine"}:
        message = "a run that is finished keeps its settings; say machine.*, or train another"
        problems.append(root.value[key].problem(key, message))
    completed = complete(Tree(root, problems), Recipe, partial=True)["machine"]
    given = root.get("machine")
    return machine | {key: completed[key] for key in (given.value if given else ())}
