"""YAML files to one merged tree: includes, the `tiny` block, overrides.

    base: [base.yaml, data/shapes.yaml]     # relative to this file; later wins, own keys win
    model: {class: unify.paradigms.x.Y}     # another class replaces the node of the base whole
    data: {tasks: {vqa: null}}              # null takes a key of an open mapping away
    tiny: {model: {...}}                    # merged on top when asked for, before the command line

Nothing here imports or runs anything that a file names.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unify.config.override_words import not_one_value
from unify.config.read_once import once, stamp, watch
from unify.config.shipped import where_shipped
from unify.config.yaml_tree import (
    COMMAND_LINE,
    ConfigError,
    Node,
    Problem,
    absolute_class,
    parse,
    suggest,
)

OVERLAYS = ("tiny", "arms", "set")  # top-level keys that are completed only once merged into others


@dataclass
class Tree:
    """A merged config, its `${...}` as written, and the problems so far."""

    root: Node
    problems: list[Problem] = field(default_factory=list)
    trusted: bool = True  # it may name Python files to load
    tiny: bool = False  # its `tiny` block is merged


def _replaces(below: Node, above: Node) -> bool:
    """True if `above` has another class or other weights, so that nothing of `below` applies."""
    old, new = (
        (absolute_class(node.value["class"]) if "class" in node.value else None, _weights(node))
        for node in (below, above)
    )
    given = [(o, n) for o, n in zip(old, new, strict=True) if n is not None]
    return old != (None, None) and any(o != n for o, n in given)


def _weights(node: Node) -> Any:
    """The run or folder of a node's weights; None if it gives none, or only another seed."""
    weights = node.value["weights"].plain() if "weights" in node.value else None
    return None if isinstance(weights, dict) and "run" not in weights else weights


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
    """The tree of one arm of a study: its file, then the study's `set`, then its own keys."""
    own = dict(node.value) if isinstance(node.value, dict) else {"base": node}
    base = {"base": own.pop("base")} if "base" in own else {}
    root = with_bases(Node(base, node.file, node.line), problems)
    if shared is not None:
        root = merge(root, shared)
    return merge(root, Node(own, node.file, node.line))


def _read(name: Node, key: str, problems: list[Problem], inside: tuple[str, ...]) -> Node:
    """The tree of the file that a node names, relative to the file that the node stands in.

    `inside`: the real paths of the files that include it.
    """

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
        root = read_yaml(file, problems)
    except (OSError, UnicodeDecodeError) as error:
        near = Path(file).parent
        others = [f.name for f in near.iterdir()] if near.is_dir() else []
        reason, hint = getattr(error, "strerror", None), "; save it as UTF-8"
        if reason:
            hint = where_shipped(Path(file)) or suggest(Path(file).name, others)
            hint = hint or "; paths are relative to the file that says them"
        reason = reason or "not UTF-8"
        raise fail(f"cannot read {file}: {reason}{hint}") from None
    return with_bases(root, problems, (*inside, real))


def read_yaml(file: str, problems: list[Problem]) -> Node:
    """One file as a tree, without its bases. Raises OSError, UnicodeDecodeError, `ConfigError`."""
    try:
        root, new = _parsed(file)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    problems += new
    return root


@once
def _parsed(file: str) -> tuple[Node, list[Problem]]:
    problems: list[Problem] = []
    watch(stamp, file)
    if os.path.exists(file) and not os.path.isfile(file):
        message = "is no plain file: a folder, pipe or device cannot be read again"
        raise ConfigError([Problem(file, 0, "", message)])
    return parse(Path(file).read_text(encoding="utf-8"), file, problems), problems


def _overlay(below: Node | None, keys: Sequence[str], value: Node, full: str) -> Node:
    """A tree with `value` at the path `keys`, to be merged onto `below`.

    A number among the keys is an index where `below` has a list. `full`: the dotted key.
    """
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


def _without_effect(root: Node, key: str, value: Node) -> str:
    """The message for `{}`, which merges nothing into a mapping that holds something."""
    below: Node | None = root
    for step in key.split("."):
        below = below.get(step) if below is not None else None
    if value.value != {} or below is None or not isinstance(below.value, dict) or not below.value:
        return ""
    keys = ", ".join(below.value)
    return f"{{}} takes nothing of a mapping away; say `{key}.<key>=null` for keys of it ({keys})"


def override(root: Node, overrides: Sequence[str], problems: list[Problem]) -> Node:
    """The tree with `key.sub=value` words merged onto it.

    Words that name a class or weights go first: another class clears its node. A word whose value
    YAML would cut or split is a problem (override_words.py).
    """

    def clears(word: str) -> bool:
        return word.split("=")[0].endswith((".class", ".weights"))

    for word in sorted(overrides, key=clears, reverse=True):
        key, equals, text = word.removeprefix("--").partition("=")
        if key.partition(".")[0] == "tiny":  # it is merged by now
            message = (
                f"say `{key.removeprefix('tiny.')}=...`, with --tiny: it is merged above `tiny`"
            )
            problems.append(Problem(COMMAND_LINE, 0, key, message))
            continue
        if not equals or not key:
            problems.append(Problem(COMMAND_LINE, 0, word, "expected key=value"))
            continue
        new: list[Problem] = []
        try:
            value = parse(text, COMMAND_LINE, new) if text else Node(None, COMMAND_LINE)
            message = "" if new else not_one_value(text) or _without_effect(root, key, value)
            if message:
                raise ConfigError([value.problem(key, message)])
            root = merge(root, _overlay(root, key.split("."), value, key))
        except ConfigError as error:
            new = error.problems
        problems += [Problem(COMMAND_LINE, 0, key, p.message) for p in new]
    return root


def load(
    path: str | Path, overrides: Sequence[str] = (), tiny: bool = False, trusted: bool = True
) -> Tree:
    """A YAML file with its bases, its `tiny` block if asked for, and command-line overrides.

    Args:
        trusted: whether it may name Python files to load classes from: the user named the file.

    Raises `ConfigError` if a file cannot be read; other problems wait in the tree for `complete`.
    """
    problems: list[Problem] = []
    root = _read(Node(str(path), COMMAND_LINE), "", problems, ())
    return finish(root, problems, overrides, tiny, trusted)


def finish(
    root: Node, problems: list[Problem], overrides: Sequence[str], tiny: bool, trusted: bool
) -> Tree:
    """The files' tree with the `tiny` block, if asked for, and the overrides merged onto it."""
    overlay = root.get("tiny")
    if tiny and overlay is not None:
        root = merge(root, overlay)
    return Tree(override(root, overrides, problems), problems, trusted, tiny)
