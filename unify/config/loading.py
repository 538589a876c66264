"""YAML files to one merged tree: includes, overrides, `${key}`.

    base: [base.yaml, data/shapes.yaml]     # relative to this file; later wins, own keys win
    model: {class: unify.paradigms.x.Y}     # another class replaces the node of the base whole
    data: {tasks: {vqa: null}}              # null takes a key of an open mapping away
    tiny: {model: {...}}                    # merged on top when asked for, before the command line

`${a.b}` refers to another key, said or left to its default, and `${oc.env:NAME}` to the environment
(always a string); OmegaConf resolves both, once defaults are known (check.py). Nothing here imports
or runs anything that a file names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unify.config.yaml_tree import (
    BROKEN,
    COMMAND_LINE,
    ConfigError,
    Node,
    Problem,
    is_reference,
    parse,
    reference,
    suggest,
)
from unify.support.environment import is_secret

OVERLAYS = ("tiny", "arms", "set")  # parts of configs: completed only once merged into one


@dataclass
class Tree:
    """A merged config with its `${...}`, and what was wrong so far.

    `trusted`: it may name Python files to load; `tiny`: its `tiny` block is merged.
    """

    root: Node
    problems: list[Problem] = field(default_factory=list)
    trusted: bool = True
    tiny: bool = False


def _replaces(below: Node, above: Node) -> bool:
    """Whether `above` says another class or other weights, so that nothing of `below` applies."""
    old, new = (
        (reference(node.value["class"]) if "class" in node.value else None, _weights(node))
        for node in (below, above)
    )
    said = [(o, n) for o, n in zip(old, new, strict=True) if n is not None]
    return old != (None, None) and any(o != n for o, n in said)


def _weights(node: Node) -> Any:
    """Where they come from; None where that is not said, though perhaps their seed is."""
    said = node.value["weights"].plain() if "weights" in node.value else None
    return None if isinstance(said, dict) and "run" not in said else said


def merge(below: Node, above: Node) -> Node:
    """Mappings merge key by key; anything else, and another class, replaces what was there."""
    both = isinstance(below.value, dict) and isinstance(above.value, dict)
    if not both or _replaces(below, above):
        return above
    merged = dict(below.value)
    for key, child in above.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return Node(merged, above.file, above.line)


def with_bases(node: Node, problems: list[Problem], inside: tuple[str, ...] = ()) -> Node:
    """The node merged onto the files that its `base` names, theirs included."""
    if not isinstance(node.value, dict):
        raise ConfigError([*problems, node.problem("", "expected `key: value` lines")])
    own = dict(node.value)
    base = own.pop("base", None)
    bases = [] if base is None else base.value if isinstance(base.value, list) else [base]
    merged = Node({}, node.file, node.line)
    for child in bases:
        merged = merge(merged, _read(child, "base", problems, inside))
    return merge(merged, Node(own, node.file, node.line))


def arm(node: Node, shared: Node | None, problems: list[Problem]) -> Node:
    """An arm of a study: its file, then what all arms share, then its own keys."""
    own = dict(node.value) if isinstance(node.value, dict) else {"base": node}
    base = {"base": own.pop("base")} if "base" in own else {}
    root = with_bases(Node(base, node.file, node.line), problems)
    if shared is not None:
        root = merge(root, shared)
    return merge(root, Node(own, node.file, node.line))


def _read(name: Node, key: str, problems: list[Problem], inside: tuple[str, ...]) -> Node:
    """The file that a node names, relative to the file that the node stands in."""

    def fail(message: str) -> ConfigError:
        return ConfigError([*problems, name.problem(key, message)])

    if not isinstance(name.value, str):
        raise fail(f"expected the name of a YAML file, not {name.plain()!r}")
    file = os.path.normpath(name.folder / name.value)
    real = os.path.realpath(file)
    if real in inside:
        circle = " -> ".join(Path(f).name for f in (*inside[inside.index(real) :], real))
        raise fail(f"files include each other in a circle: {circle}; remove one `base`")
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = Path(file).parent
        others = [f.name for f in near.iterdir()] if near.is_dir() else []
        reason = getattr(error, "strerror", None) or "not UTF-8"
        hint = suggest(Path(file).name, others) or "; paths are relative to the file that says them"
        raise fail(f"cannot read {file}: {reason}{hint}") from None
    return with_bases(parse(text, file, problems), problems, (*inside, real))


def _overlay(below: Node | None, keys: Sequence[str], value: Node, full: str) -> Node:
    """`value` at `keys` as a tree to be merged onto `below`; numbers count into lists."""
    if not keys:
        return value
    if below is not None and isinstance(below.value, list):
        items = list(below.value)
        if not keys[0].isdecimal() or int(keys[0]) >= len(items):
            raise ConfigError(
                [value.problem(full, f"{keys[0]!r} is no index of a list of {len(items)}")]
            )
        index = int(keys[0])
        items[index] = merge(items[index], _overlay(items[index], keys[1:], value, full))
        return Node(items, COMMAND_LINE)
    child = below.get(keys[0]) if below is not None else None
    return Node({keys[0]: _overlay(child, keys[1:], value, full)}, COMMAND_LINE)


def override(root: Node, overrides: Sequence[str], problems: list[Problem]) -> Node:
    """Merge `key.sub=value` words; those that name a class first, as it clears its node."""

    def clears(word: str) -> bool:
        return word.split("=")[0].endswith((".class", ".weights"))

    for word in sorted(overrides, key=clears, reverse=True):
        key, equals, text = word.removeprefix("--").partition("=")
        if not equals or not key:
            problems.append(Problem(COMMAND_LINE, 0, word, "expected key=value"))
            continue
        wrong: list[Problem] = []
        try:
            value = parse(text, COMMAND_LINE, wrong) if text.strip() else Node(None, COMMAND_LINE)
            root = merge(root, _overlay(root, key.split("."), value, key))
        except ConfigError as error:
            wrong = error.problems
        problems += [Problem(COMMAND_LINE, 0, key, p.message) for p in wrong]
    return root


_ALLOWED = re.compile(r"\$\{(?:oc\.env:[^${}]+|[\w.\[\]-]+)\}")
_VARIABLE = re.compile(r"\$\{oc\.env:([^,}]+)")


def references(root: Node) -> bool:
    """Whether `interpolate` has anything to do."""
    return any(is_reference(leaf) for _, leaf in _leaves(_used(root), ()))


def interpolate(root: Node, defaults: Any, problems: list[Problem]) -> Node:
    """The tree with every `${...}` resolved against itself and, where a key is not said, against
    `defaults` (plain data). OVERLAYS keep theirs."""
    root = root.copy()  # arms of a study share nodes
    leaves = [(path, leaf) for path, leaf in _leaves(_used(root), ()) if is_reference(leaf)]
    for path, leaf in leaves:
        if "${" in _ALLOWED.sub("", leaf.value):
            message = f"{leaf.value!r}: write ${{key.sub}} or ${{oc.env:NAME}}; nothing else is run"
            problems.append(leaf.problem(".".join(map(str, path)), message))
            leaf.value = BROKEN
        elif secrets := [*filter(is_secret, _VARIABLE.findall(leaf.value))]:
            message = f"{secrets[0]} is a secret, and a config is written down; leave it out"
            problems.append(leaf.problem(".".join(map(str, path)), message))
            leaf.value = BROKEN
    context = OmegaConf.create(_filled(_used(root).plain(), defaults))
    resolved = []
    for path, leaf in leaves:
        if leaf.value is BROKEN:
            continue
        value: Any = context
        try:
            for step in path:
                value = value[step]
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
        except (OmegaConfBaseException, RecursionError) as error:
            reason = str(error).splitlines()[0].rpartition("interpolation: ")[2].strip("'\"")
            message = f"{leaf.value!r} cannot be resolved: {reason}; correct the reference"
            problems.append(leaf.problem(".".join(map(str, path)), message))
            value = BROKEN
        resolved.append((leaf, value))
    for leaf, value in resolved:
        leaf.value = leaf.like(value).value
    return root


def _used(root: Node) -> Node:
    return Node({k: v for k, v in root.value.items() if k not in OVERLAYS}, root.file, root.line)


def _filled(said: Any, defaults: Any) -> Any:
    if not isinstance(said, dict) or not isinstance(defaults, dict):
        return said
    both = {k: _filled(v, defaults.get(k)) for k, v in said.items()}
    placed = {k: defaults[k] for k in ("class", "weights") if k in defaults}  # paths are absolute
    return {**{k: v for k, v in defaults.items() if k not in OVERLAYS}, **both, **placed}


def _leaves(node: Node, path: tuple[str | int, ...]) -> Iterable[tuple[tuple, Node]]:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _leaves(child, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from _leaves(child, (*path, index))
    else:
        yield path, node


def load(
    path: str | Path, overrides: Sequence[str] = (), tiny: bool = False, trusted: bool = True
) -> Tree:
    """A YAML file with its bases, its `tiny` block if asked for, and command-line overrides.

    `trusted`: the user named the file, so it may name Python files to load classes from. Raises
    `ConfigError` where a file cannot be read; other problems wait in the tree for `complete`.
    """
    problems: list[Problem] = []
    root = _read(Node(str(path), COMMAND_LINE), "", problems, ())
    return finish(root, problems, overrides, tiny, trusted)


def finish(
    root: Node, problems: list[Problem], overrides: Sequence[str], tiny: bool, trusted: bool
) -> Tree:
    """What is merged on top of the files."""
    small = root.get("tiny")
    if tiny and small is not None:
        root = merge(root, small)
    return Tree(override(root, overrides, problems), problems, trusted, tiny)
