"""Parts that start from trained weights, and are built as what was trained.

{weights: {run: other.yaml}}                  the `model` of another experiment
{weights: {run: other.yaml, part: llm.trunk}} a part of it
{weights: {run: other.yaml, seed: 1}}         the experiment with 1 added to each of its seeds
{weights: folder}                             an export, as the folder's config.json says
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unify.config.annotations import locate_class
from unify.config.loading import load
from unify.config.yaml_tree import ConfigError, Node, join, suggest
from unify.paradigm import Fitted, Trainable

if TYPE_CHECKING:
    from unify.config.completion import Completion

KEYS = ("run", "tiny", "part", "seed")


def weights_of(
    completion: Completion, node: Node, classless: bool, key: str
) -> tuple[Node, Node | None]:
    """`{run: file}` or a folder, its path made absolute; the part it holds if asked for."""
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
    said = {"run": path, **({"tiny": True} if tiny else {})}
    seed = node.get("seed")
    if seed is not None and (added := completion.value(seed, int, join(key, "seed")).value):
        said["seed"] = added
    if part is not None:
        said["part"] = completion.value(part, str, join(key, "part")).value
    base = _from_run(completion, run, path, tiny, join(key, "run")) if classless else None
    if base is not None and part is not None:
        base = _part_of(completion, base, part, join(key, "part"))
    return node.like(said), base


def _from_run(completion: Completion, node: Node, path: str, tiny: bool, key: str) -> Node | None:
    """The completed `model` of another experiment."""
    if path in completion.inside:
        circle = " -> ".join(Path(p).name for p in (*completion.inside, path))
        message = f"runs need each other in a circle: {circle}; remove one"
        completion.problems.append(node.problem(key, message))
        return None
    try:
        tree = load(path, (), tiny, completion.trusted)
    except ConfigError as error:
        reasons = [p.message for p in error.problems if p.file == "command line"]
        completion.problems += [node.problem(key, reason) for reason in reasons]
        completion.problems += [p for p in error.problems if p.file != "command line"]
        return None
    completion.problems += tree.problems
    inner = replace(completion, tiny=tiny, inside=(*completion.inside, path))
    model = inner.resolve(tree.root).get("model")
    if model is None or not isinstance(model.value, dict):
        message = f"{path} has no `model`; name an experiment that trains one"
        completion.problems.append(node.problem(key, message))
        return None
    done = inner.part(model, (Trainable, Fitted), "model")
    return done if done.get("class") is not None else None


def _part_of(completion: Completion, model: Node, part: Node, key: str) -> Node | None:
    """The part of a completed model that a name with dots says."""
    found = model
    for step in str(part.value).split("."):
        parts = {k: v for k, v in found.value.items() if v.get("class") is not None}
        if step not in parts:
            hint = suggest(step, parts) or f"; it has {', '.join(parts) or 'none'}"
            message = f"the model has no part {step!r}{hint}"
            completion.problems.append(part.problem(key, message))
            return None
        found = parts[step]
    return found


def _from_folder(completion: Completion, node: Node, path: str, key: str) -> Node | None:
    """What config.json of an exported part says; only classes of `unify` itself."""
    file = Path(path) / "config.json"
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        said = {**saved["args"], "class": saved["class"]}
        _refuse_code(said)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        message = f"{file} does not describe a part ({error}); name a folder that was exported"
        completion.problems.append(node.problem(key, message))
        return None
    return Node({}, str(file)).like(said)


def _refuse_code(value: Any) -> None:
    """ValueError where a part, or one below, is of other code: a folder may come from anywhere."""
    if isinstance(value, dict) and "class" in value:
        name = value["class"]
        if ".py:" in name or not name.startswith("unify."):
            raise ValueError(f"{name!r} is no class of unify: say `class:` beside `weights:`")
        locate_class(name, trusted=False)
    if isinstance(value, dict) and "weights" in value:
        weights = value["weights"]
        run = weights["run"] if isinstance(weights, dict) else weights
        if not os.path.isabs(run):  # we write no other; it may name code of the folder's own
            raise ValueError(f"its weights come from {run!r}, which is no absolute path")
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, (dict, list)):
            _refuse_code(child)
