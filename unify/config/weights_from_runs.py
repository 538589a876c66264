"""Parts that start from trained weights.

A node without `class` takes class and arguments, too, from what was trained:

    {weights: {run: other.yaml}}                  the `model` of another experiment
    {weights: {run: other.yaml, part: llm.trunk}} a part of it
    {weights: {run: other.yaml, seed: 1}}         the experiment with 1 added to each of its seeds
    {weights: folder}                             an export, as the folder's config.json says
"""

import json
import os
from pathlib import Path
from typing import Any, Protocol

from unify.config.annotations import locate_class
from unify.config.loading import load
from unify.config.read_once import stamp, watch
from unify.config.yaml_tree import COMMAND_LINE, ConfigError, Node, Problem, join, suggest
from unify.support.ranges import Seed

KEYS = ("run", "tiny", "part", "seed")


class Completing(Protocol):
    """The completion of the tree in which the weights stand (`config.completion.Completion`)."""

    problems: list[Problem]
    trusted: bool
    tiny: bool
    inside: tuple[str, ...]

    def value(self, node: Node, hint: Any, key: str) -> Node: ...

    def model_of(self, path: str, root: Node, tiny: bool) -> Node | None: ...


def weights_of(
    completion: Completing, node: Node, classless: bool, key: str
) -> tuple[Node, Node | None]:
    """The value of `weights`, its path made absolute, and the part that it describes.

    The part is a node with class and arguments, read only for a `classless` node; else, or after a
    problem, None. `key` is that of the weights.
    """
    run = node.get("run") if isinstance(node.value, dict) else node
    if run is None or not isinstance(run.value, str):
        message = "expected {run: experiment.yaml} or a folder with config.json"
        completion.problems.append(node.problem(key, message))
        return node, None
    path = os.path.abspath(run.folder / run.value)
    if run is node:
        base = _from_folder(completion, node, path, key) if classless else None
        return node.like(path), base
    for name, child in node.value.items():
        if name not in KEYS:
            message = f"unknown key{suggest(name, KEYS)}; weights takes {', '.join(KEYS)}"
            completion.problems.append(child.problem(join(key, name), message))
    small, part = node.get("tiny"), node.get("part")
    tiny = completion.tiny or (
        small is not None and completion.value(small, bool, join(key, "tiny")).value is True
    )
    weights = {"run": path, **({"tiny": True} if tiny else {})}
    seed = node.get("seed")
    if seed is not None and (added := completion.value(seed, Seed, join(key, "seed")).value):
        weights["seed"] = added
    if part is not None:
        weights["part"] = completion.value(part, str, join(key, "part")).value
    base = _from_run(completion, run, path, tiny, join(key, "run")) if classless else None
    if base is not None and part is not None:
        base = _part_of(completion, base, part, join(key, "part"))
    return node.like(weights), base


def _from_run(completion: Completing, node: Node, path: str, tiny: bool, key: str) -> Node | None:
    """The completed `model` of another experiment."""
    if path in completion.inside:
        circle = " -> ".join(Path(p).name for p in (*completion.inside, path))
        message = f"runs need each other in a circle: {circle}; remove one"
        completion.problems.append(node.problem(key, message))
        return None
    try:
        tree = load(path, (), tiny, completion.trusted)
    except ConfigError as error:
        # the path came from this node: what is said of the path is said of the node
        completion.problems += [
            node.problem(key, p.message) if p.file == COMMAND_LINE else p for p in error.problems
        ]
        return None
    completion.problems += tree.problems
    model = tree.root.get("model")
    if model is None or not isinstance(model.value, dict):
        message = f"{path} has no `model`; name an experiment that trains one"
        completion.problems.append(node.problem(key, message))
        return None
    completed = completion.model_of(path, tree.root, tiny)
    return completed if completed is not None and completed.get("class") is not None else None


def _part_of(completion: Completing, model: Node, part: Node, key: str) -> Node | None:
    """The part of a completed model at a dotted name."""
    current = model
    for step in str(part.value).split("."):
        parts = {k: v for k, v in current.value.items() if v.get("class") is not None}
        if step not in parts:
            hint = suggest(step, parts) or f"; it has {', '.join(parts) or 'none'}"
            message = f"the model has no part {step!r}{hint}"
            completion.problems.append(part.problem(key, message))
            return None
        current = parts[step]
    return current


def _from_folder(completion: Completing, node: Node, path: str, key: str) -> Node | None:
    """Class and arguments of an exported part, from its config.json; only classes of `unify`."""
    file = Path(path) / "config.json"
    watch(stamp, str(file))
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        part = {**saved["args"], "class": saved["class"]}
        _refuse_code(part)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        message = f"{file} does not describe a part ({error}); name a folder that was exported"
        completion.problems.append(node.problem(key, message))
        return None
    return Node({}, str(file)).like(part)


def _refuse_code(value: Any) -> None:
    """ValueError if a part, or one below it, has a class from outside `unify`.

    An exported folder may come from anywhere: what it names must not run code.
    """
    if isinstance(value, dict) and "class" in value:
        name = value["class"]
        if ".py:" in name or not name.startswith("unify."):
            raise ValueError(f"{name!r} is no class of unify: say `class:` beside `weights:`")
        locate_class(name, trusted=False)
    if isinstance(value, dict) and "weights" in value:
        weights = value["weights"]
        run = weights["run"] if isinstance(weights, dict) else weights
        # exports hold absolute paths; a relative one could name code of the folder's own
        if not os.path.isabs(run):
            raise ValueError(f"its weights come from {run!r}, which is no absolute path")
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, (dict, list)):
            _refuse_code(child)
