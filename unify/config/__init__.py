"""From YAML to built objects, one way: load -> complete -> build; then nothing sees the config.

    completed = load_recipe("experiments/transfusion.yaml", ["optimizer.lr=1e-3"])
    recipe = build_recipe(completed, load_weights)

A *completed* config is plain data that holds every number of a run: each node `{class: ...}` has
all arguments of its constructor. `ConfigError` lists all that is wrong, one problem per line, each
`file:line: key: what; remedy`. Nothing is instantiated before everything has been checked, and
nothing that is not a subclass of what its place is annotated with ever is.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_origin

from unify.config.check import Completion
from unify.config.classes import contracts, locate_class, names, options, parameters, shape
from unify.config.cross import cross_checks
from unify.config.grid import named, of_arm, of_budget, points, words
from unify.config.load import OVERLAYS, Tree, arm, finish, load, override
from unify.config.tree import COMMAND_LINE, ConfigError, Node, Problem, dump, parse, suggest
from unify.recipe import Cluster, Machine, Recipe, Study

__all__ = [
    "ConfigError",
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

Completed = dict[str, Any]
LoadWeights = Callable[[Any, Any], None]
Construct = Callable[[type, dict[str, Any]], Any]

NAMING_ARMS = {"claims": ("higher", "lower"), "controls": ("arm", "than")}

# What a run was trained on and with is its identity; where it ran and how it is scored is not.
OUTSIDE_HASH = (
    "machine",
    "logging",
    "tiny",
    "study",
    "name",
    "replicate",
    "evaluation",
    "image_sampling",
    "text_sampling",
)


def complete(tree: Tree, schema: type | None = None, partial: bool = False) -> Completed:
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
) -> Completed:
    """An experiment file, completed; `name` is the file's stem unless it says another."""
    completed = complete(load(path, overrides, tiny, trusted), Recipe)
    completed["name"] = completed["name"] or Path(path).stem
    return completed


def load_study(
    path: str | Path,
    overrides: Sequence[str] = (),
    tiny: bool = False,
    one_arm: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Study, dict[str, Completed]]:
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
    arms: dict[str, Completed] = {}
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


def _built(completed: Completed, schema: type, path: str | Path) -> Any:
    """What it is itself not content with is a ConfigError, too."""
    try:
        return build(completed, expect=schema)
    except ValueError as error:
        raise ConfigError([Problem(str(path), 0, "", str(error))]) from error


def _unknown(tree: Tree, study: Completed, arms: Collection[str]) -> list[Problem]:
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
) -> Completed:
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


def save(completed: Completed, path: str | Path) -> None:
    """Write a completed config as YAML."""
    Path(path).write_text(dump(completed), encoding="utf-8")


def read(path: str | Path, trusted: bool = False, schema: type | None = None) -> Completed:
    """A completed config, read back equal and checked again.

    Unless `trusted`, or loaded before in this process, no Python file that it names is run.
    """
    problems: list[Problem] = []
    root = parse(Path(path).read_text(encoding="utf-8"), str(path), problems)
    return complete(Tree(root, problems, trusted), schema)


def on_machine(machine: Completed, words: Sequence[str]) -> Completed:
    """`machine` as `machine.key=value` words have it; ConfigError for any other word."""
    problems: list[Problem] = []
    root = override(Node({}, COMMAND_LINE), words, problems)
    for key in root.value.keys() - {"machine"}:
        message = "a run that is finished keeps its settings; say machine.*, or train another"
        problems.append(root.value[key].problem(key, message))
    completed = complete(Tree(root, problems), Recipe, partial=True)["machine"]
    said = root.get("machine")
    return machine | {key: completed[key] for key in (said.value if said else ())}


class Needed(NamedTuple):
    """An experiment whose weights another starts from: its file, form, and what its seeds add."""

    path: str
    tiny: bool = False
    seed: int = 0


def needed_key(weights: Mapping[str, Any]) -> str:
    """What a needed run goes by: its path, and the seed if there is one."""
    return weights["run"] + (f" seed {weights['seed']}" if weights.get("seed") else "")


def needed_runs(completed: Completed) -> dict[str, Needed]:
    """The experiments whose weights this one starts from, what they need themselves first.

    By their keys, paths being absolute, in the order to train them.
    """
    found: dict[str, Needed] = {}

    def visit(value: Any) -> None:
        children = value.values() if isinstance(value, dict) else value
        for child in children if isinstance(value, (dict, list)) else ():
            visit(child)
        weights = value.get("weights") if isinstance(value, dict) and "class" in value else None
        if isinstance(weights, dict):
            said = Needed(weights["run"], weights.get("tiny", False), weights.get("seed", 0))
            found.setdefault(needed_key(weights), said)

    visit({key: value for key, value in completed.items() if key not in OVERLAYS})
    return found


def config_hash(
    completed: Completed, needed_hashes: Mapping[str, str], data_fingerprint: str
) -> str:
    """10 hex digits that name what is trained.

    They cover the completed config without OUTSIDE_HASH, so machine and evaluation may change, and
    no place of a file: a needed run counts by its own hash (`needed_hashes` by the key that
    `needed_runs` gives), a weights folder by the hash in its config.json, the data source by its
    fingerprint, a class in a Python file by the file's and its own name.
    """

    def identity(value: Any) -> Any:
        if isinstance(value, list):
            return [identity(item) for item in value]
        if not isinstance(value, dict):
            return value
        out = {key: identity(item) for key, item in value.items()}
        if "class" in value:
            out["class"] = os.path.basename(value["class"])
            weights = value.get("weights")
            if isinstance(weights, dict):
                named = [weights["part"]] if "part" in weights else []
                out["weights"] = " ".join([needed_hashes[needed_key(weights)], *named])
            elif weights is not None:
                saved = json.loads((Path(weights) / "config.json").read_text(encoding="utf-8"))
                out["weights"] = saved["hash"]
        return out

    kept = {key: value for key, value in completed.items() if key not in OUTSIDE_HASH}
    if isinstance(kept.get("data"), dict):
        kept["data"] = {k: v for k, v in kept["data"].items() if k != "source"}
    text = json.dumps([identity(kept), data_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def build(
    value: Any,
    load_weights: LoadWeights | None = None,
    expect: Any = object,
    construct: Construct | None = None,
) -> Any:
    """The objects that a completed node describes, parts before what they are part of.

    `expect` is the contract of the place. `load_weights(part, weights)` is called on every part
    whose node names weights, right after it was constructed; weights are `{"run": path}`, with
    the name of a `part` or not, or the path of a folder. `construct(cls, arguments)` replaces
    `cls(**arguments)`. Raises what the constructors raise.
    """
    parts = contracts(expect)
    if isinstance(value, dict) and parts and ("class" in value or is_dataclass(parts[0])):
        return _build_part(value, parts, load_weights, construct)
    for hint in options(expect):
        origin, inner = shape(hint)
        if isinstance(value, dict) and origin is dict:
            return {
                k: build(child, load_weights, inner[0], construct) for k, child in value.items()
            }
        if isinstance(value, list) and origin is list:
            items = [build(child, load_weights, inner[0], construct) for child in value]
            return tuple(items) if (get_origin(hint) or hint) is tuple else items
        if isinstance(value, list) and origin is tuple:
            children = zip(value, inner, strict=True)
            return tuple(build(c, load_weights, item, construct) for c, item in children)
        if isinstance(value, str) and origin is Path:
            return Path(value)
    return copy.deepcopy(value)


def _build_part(
    node: dict[str, Any],
    expected: tuple[type, ...],
    load_weights: LoadWeights | None,
    construct: Construct | None,
) -> Any:
    cls: Any = locate_class(node["class"], trusted=False) if "class" in node else expected[0]
    if not issubclass(cls, expected):
        raise ValueError(f"{node['class']} is not a {names(expected)}; complete the config first")
    known = parameters(cls)
    arguments = {
        key: build(child, load_weights, known[key].hint, construct)
        for key, child in node.items()
        if key not in ("class", "weights")
    }
    part = construct(cls, arguments) if construct else cls(**arguments)
    if load_weights is not None and "weights" in node:
        load_weights(part, node["weights"])
    return part


def build_recipe(
    completed: Completed,
    load_weights: LoadWeights | None = None,
    schema: type = Recipe,
    construct: Construct | None = None,
) -> Any:
    """The `Recipe` (or another dataclass of the top level) with every part built."""
    return build(completed, load_weights, schema, construct)
