"""`${a.b}`, the value of another key, said or left to its default; `${oc.env:NAME}`, the value of
an environment variable, always a string.

OmegaConf looks both up, through chains of them too. Nothing else that it could do is allowed.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unify.config.read_once import watch
from unify.config.yaml_tree import BROKEN, KeyPath, Node, Problem, absolute_class
from unify.support.environment import is_secret

_ALLOWED = re.compile(r"\$\{(?:oc\.env:[^${}]+|[\w.\[\]-]+)\}")
_VARIABLE = re.compile(r"\$\{oc\.env:([^,}]+)")
_FIRST_KEY = re.compile(r"\$\{(\w+)")


@dataclass(frozen=True)
class Reference(Node):
    """A `${...}` at a place annotated with `hint`: what it refers to is checked once resolved."""

    hint: Any = Any


def is_reference(node: Node) -> bool:
    """True for a string with `${` in it."""
    return isinstance(node.value, str) and "${" in node.value


def first_keys(root: Node) -> set[str]:
    """The top-level keys that references lead to; empty where there are no references."""
    keys: set[str] = set()

    def visit(leaf: Node, path: KeyPath) -> Node:
        if is_reference(leaf):
            keys.update(_FIRST_KEY.findall(leaf.value) or [""])
        return leaf

    root.map_leaves(visit)
    return keys


def refuse_code(root: Node, problems: list[Problem]) -> Node:
    """The tree without references to anything but keys and environment variables, nor to secrets.

    Each of those is a problem. The variables that are left are watched.
    """

    def visit(leaf: Node, path: KeyPath) -> Node:
        if not is_reference(leaf):
            return leaf
        names = _VARIABLE.findall(leaf.value)
        if "${" in _ALLOWED.sub("", leaf.value) or "\\$" in leaf.value:
            message = f"{leaf.value!r}: write ${{key.sub}} or ${{oc.env:NAME}}; nothing else is run"
        elif secrets := [*filter(is_secret, names)]:
            message = f"{secrets[0]} is a secret, and a config is written down; leave it out"
        else:
            for name in names:
                watch(os.environ.get, name)
            return leaf
        problems.append(leaf.problem(".".join(map(str, path)), message))
        return leaf.like(BROKEN)

    return root.map_leaves(visit)


def chooses_part(path: KeyPath) -> bool:
    """True at `class` and inside `weights`: what stands there decides which defaults there are."""
    return path[-1] == "class" or "weights" in path


def resolve(
    root: Node,
    context: Any,
    problems: list[Problem],
    settle: Callable[[Node, Any, KeyPath], Node],
    wanted: Callable[[KeyPath], bool] = lambda path: True,
) -> Node:
    """The tree with its references resolved, those whose path is `wanted`.

    Args:
        context: plain data in which they are looked up (see `with_defaults`).
        settle: the node for a reference, of the reference itself, its value, and its path.
    """
    lookup: Any = None

    def visit(leaf: Node, path: KeyPath) -> Node:
        nonlocal lookup
        if not is_reference(leaf) or not wanted(path):
            return leaf
        value = lookup = OmegaConf.create(context) if lookup is None else lookup
        try:
            for step in path:
                value = value[step]
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
        except (OmegaConfBaseException, RecursionError) as error:
            reason = str(error).splitlines()[0].rpartition("interpolation: ")[2].strip("'\"")
            message = f"{leaf.value!r} cannot be resolved: {reason}; correct the reference"
            problems.append(leaf.problem(".".join(map(str, path)), message))
            return leaf.like(BROKEN)
        return settle(leaf, value, path)

    return root.map_leaves(visit)


def with_defaults(given: Any, defaults: Any) -> Any:
    """Plain data as given, and `defaults` for keys that are not.

    Classes and weights are those of the defaults, whose paths are absolute.
    """
    if not isinstance(given, dict) or not isinstance(defaults, dict):
        return given
    both = {key: with_defaults(value, defaults.get(key)) for key, value in given.items()}
    placed = {key: defaults[key] for key in ("class", "weights") if key in defaults}
    return {**defaults, **both, **placed}


def with_absolute_paths(leaf: Node, path: KeyPath) -> Node:
    """A leaf of `class` or `weights` whose path no longer depends on the file it stands in."""
    if path[-1] == "class":
        return leaf.like(absolute_class(leaf))
    if path[-1] == "weights" or path[-2:] == ("weights", "run"):
        is_path = isinstance(leaf.value, str) and not is_reference(leaf)
        return leaf.like(os.path.abspath(leaf.folder / leaf.value)) if is_path else leaf
    return leaf
