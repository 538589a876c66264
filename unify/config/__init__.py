"""From YAML to built objects, one way: load -> complete -> build; then nothing sees the config.

    completed = load_recipe("experiments/transfusion.yaml", ["optimizer.lr=1e-3"])
    recipe = build_recipe(completed, load_weights)

A *completed* config is plain data that holds every number of a run: each node `{class: ...}` has
all arguments of its constructor. `ConfigError` lists all that is wrong, one problem per line, each
`file:line: key: what; remedy`. Nothing is instantiated before everything has been checked, and
nothing that is not a subclass of what its place is annotated with ever is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from unify.config.annotations import locate_class
from unify.config.completion import Completion
from unify.config.construction import LoadWeights, build, build_recipe
from unify.config.cross_checks import cross_checks
from unify.config.grid import named, of_arm, of_budget, points, words
from unify.config.identity import (
    OUTSIDE_HASH,
    Needed,
    config_hash,
    needed_key,
    needed_runs,
)
from unify.config.loading import Tree, arm, finish, load, override
from unify.config.yaml_tree import COMMAND_LINE, ConfigError, Node, Problem, dump, parse, suggest
from unify.schema.cluster import Cluster
from unify.schema.completed import Config
from unify.schema.experiment import Machine, Recipe
from unify.schema.study import Study

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
]

NAMING_ARMS = {"claims": ("higher", "lower"), "controls": ("arm", "than")}


def complete(tree: Tree, schema: type | None = None, partial: bool = False) -> Config:
    """The tree with every absent argument filled in, as plain data.

    `schema` is the dataclass of the top level: by default Study for a file with `arms`, else
    Recipe. `partial`: a fragment, to be the base of others, may lack keys that have no default.
    Raises ConfigError with all problems of the tree.
    """
    if schema is None:
        schema = Study if "arms" in tree.root.value else Recipe
    completion = Completion(list(tree.problems), schema, tree.trusted, tree.tiny)
    root = completion.top(completion.resolve(tree.root), partial)
    cross_checks(root, completion)
    if completion.problems:
        raise ConfigError(completion.problems)
    return root.plain()


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), tiny: bool = False, trusted: bool = True
) -> Config:
    """An experiment file, completed; `name` is the file's stem unless it says another."""
    completed = complete(load(path, overrides, tiny, trusted), Recipe)
    completed["name"] = completed["name"] or Path(path).stem
    return completed


def load_study(
    path: str | Path,
    overrides: Sequence[str] = (),
    tiny: bool = False,
    one_arm: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Study, dict[str, Config]]:
    """A study and its arms, completed: file < the study's `set` < the arm's own keys < overrides.

    An override whose first word is a key of Study (`seeds`, `name`, ...) changes the study, any
    other every arm; those of `one_arm` change that arm alone. With a `grid`, each of its points
    makes an arm of every one.
    """
    own = {field.name for field in fields(Study)}
    ours: list[str] = []
    theirs: list[str] = []
    for word in overrides:
        first = word.removeprefix("--").partition("=")[0].partition(".")[0]
        (ours if first in own else theirs).append(word)
    tree = load(path, ours)
    study = complete(tree, Study)
    arms: dict[str, Config] = {}
    problems: list[Problem] = []
    grid = points(tree.root.get("grid"), problems)
    said: dict[str, Any] = {}
    for base, node in tree.root.value["arms"].value.items():
        for point in grid:
            name = named(base, point, grid)
            said[name] = study["arms"][base]
            if of_budget(point):
                study["budgets"][name] = {**(study["budget"] or {}), **of_budget(point)}
            try:
                changes = [*words(of_arm(point)), *theirs, *(one_arm or {}).get(name, ())]
                arms[name] = _arm(name, node, tree, study["name"], changes, tiny)
            except ConfigError as error:
                problems += [node.problem(f"arms.{name}", str(p)) for p in error.problems]
    extra = [f"{arm},default" for arm in said] if (study["tune"] or {}).get("defaults") else []
    problems += _unknown(tree, study, {*said, *extra})
    if problems:
        raise ConfigError(problems)
    study["arms"] = said
    return _built(study, Study, path), arms


def load_cluster(path: str | Path) -> Cluster:
    """What jobs ask for; ConfigError as for the others."""
    tree = load(path)
    completed = complete(tree, Cluster)
    machine = tree.root.get("machine")
    if machine is not None:  # of which a cluster says some keys
        complete(Tree(machine), Machine)
    return _built(completed, Cluster, path)


def _built(completed: Config, schema: type, path: str | Path) -> Any:
    """What it is itself not content with is a ConfigError, too."""
    try:
        return build(completed, expect=schema)
    except ValueError as error:
        raise ConfigError([Problem(str(path), 0, "", str(error))]) from error


def _unknown(tree: Tree, study: Config, arms: Collection[str]) -> list[Problem]:
    """Arms that a study names and has not."""
    problems: list[Problem] = []
    if study["baseline"] and study["baseline"] not in arms:
        message = f"no arm {study['baseline']!r}{_instead(study['baseline'], arms)}"
        problems.append(tree.root.value["baseline"].problem("baseline", message))
    for part, roles in NAMING_ARMS.items():
        for index, item in enumerate(study[part]):
            for role in roles:
                if item[role] not in arms:
                    where = tree.root.value[part].value[index].value[role]
                    message = f"no arm {item[role]!r}{_instead(item[role], arms)}"
                    problems.append(where.problem(f"{part}.{index}.{role}", message))
    for base, width in study["widths"].items():
        for role, arm_ in (("", base), (".like", width["like"])):
            if arm_ and arm_ not in arms:
                where = tree.root.value["widths"].value[base]
                problems.append(
                    where.problem(f"widths.{base}{role}", f"no arm {arm_!r}{suggest(arm_, arms)}")
                )
    for arm_ in study["budgets"].keys() - arms:
        where = tree.root.value["budgets"].value[arm_]
        problems.append(where.problem(f"budgets.{arm_}", f"no arm {arm_!r}{suggest(arm_, arms)}"))
    return problems


def _instead(word: str, arms: Collection[str]) -> str:
    return suggest(word, arms) or f"; it has {', '.join(sorted(arms))}"


def _arm(
    name: str, node: Node, tree: Tree, study: str, overrides: Sequence[str], tiny: bool
) -> Config:
    problems: list[Problem] = []
    root = arm(node, tree.root.get("set"), problems)
    merged = finish(root, problems, overrides, tiny, tree.trusted)
    merged.root.value |= {"study": node.like(study), "name": node.like(name)}
    return complete(merged, Recipe)


def check_file(path: str | Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """All that is wrong with an experiment (its `tiny` form too), a study, cluster or fragment."""
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


def save(completed: Config, path: str | Path) -> None:
    """Write a completed config as YAML."""
    Path(path).write_text(dump(completed), encoding="utf-8")


def read(path: str | Path, trusted: bool = False, schema: type | None = None) -> Config:
    """A completed config, read back equal and checked again.

    Unless `trusted`, or loaded before in this process, no Python file that it names is run.
    """
    problems: list[Problem] = []
    root = parse(Path(path).read_text(encoding="utf-8"), str(path), problems)
    return complete(Tree(root, problems, trusted), schema)


def on_machine(machine: Config, words: Sequence[str]) -> Config:
    """`machine` as `machine.key=value` words have it; ConfigError for any other word."""
    problems: list[Problem] = []
    root = override(Node({}, COMMAND_LINE), words, problems)
    for key in root.value.keys() - {"machine"}:
        message = "a run that is finished keeps its settings; say machine.*, or train another"
        problems.append(root.value[key].problem(key, message))
    completed = complete(Tree(root, problems), Recipe, partial=True)["machine"]
    said = root.get("machine")
    return machine | {key: completed[key] for key in (said.value if said else ())}
