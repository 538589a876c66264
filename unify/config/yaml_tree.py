"""One YAML document to a tree in which every value knows the file and line that set it.

Numbers are read as YAML 1.2 has them (1e-4 is a float, `on` a string). Duplicate keys, aliases and
tags that name Python objects are refused. Nothing here imports, resolves or runs anything.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from unify.support.addresses import hide_addresses

COMMAND_LINE = "command line"
BROKEN = object()  # the value of a node whose problem was reported already

MOST_DIGITS = 100  # of a whole number
KeyPath = tuple[str | int, ...]  # keys of mappings and indices of lists, from the root


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where, and its remedy. `line` counts from 1; 0: unknown.

    What it repeats of a config is shown without the secrets of an address.
    """

    file: str
    line: int
    key: str
    message: str

    def __post_init__(self) -> None:
        for name in ("key", "message"):
            object.__setattr__(self, name, hide_addresses(getattr(self, name)))

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(ValueError):
    """All problems of a config, one per line of the message."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Node:
    """A mapping, a list or a plain value, and the file and line that set it.

    Trees share nodes (one file is the base of many): a changed tree is a new one, of new mappings.
    """

    value: Any  # dict[str, Node] | list[Node] | str | int | float | bool | None
    file: str
    line: int = 0

    @property
    def folder(self) -> Path:
        """The folder that relative paths in this node are relative to."""
        return Path() if self.file == COMMAND_LINE else Path(self.file).parent

    def get(self, key: str) -> Node | None:
        return self.value.get(key) if isinstance(self.value, dict) else None

    def plain(self) -> Any:
        """Dicts, lists and plain values, without files and lines."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return None if self.value is BROKEN else self.value

    def map_leaves(self, change: Callable[[Node, KeyPath], Node], path: KeyPath = ()) -> Node:
        """The tree with `change(leaf, path)` in place of each plain value."""
        if isinstance(self.value, dict):
            items = {k: v.map_leaves(change, (*path, k)) for k, v in self.value.items()}
            return replace(self, value=items)
        if isinstance(self.value, list):
            children = enumerate(self.value)
            return replace(self, value=[v.map_leaves(change, (*path, i)) for i, v in children])
        return change(self, path)

    def like(self, value: Any) -> Node:
        """A plain value as a node of the same file and line."""
        if isinstance(value, dict):
            return Node({str(k): self.like(v) for k, v in value.items()}, self.file, self.line)
        if isinstance(value, (list, tuple)):
            return Node([self.like(v) for v in value], self.file, self.line)
        return Node(value, self.file, self.line)

    def problem(self, key: str, message: str) -> Problem:
        return Problem(self.file, self.line, key, message)


def join(key: str, child: str | int) -> str:
    """The dotted name of a child."""
    return f"{key}.{child}" if key else str(child)


def suggest(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def absolute_class(node: Node) -> Any:
    """The value of `class:`, with the path of a Python file made absolute."""
    text = node.value
    if isinstance(text, str) and ".py:" in text:
        path, _, name = text.rpartition(":")
        return f"{os.path.abspath(node.folder / path)}:{name}"
    return text


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases are not supported; refer to another key with ${key}",
                problem_mark=mark,
            )
        return super().compose_node(parent, index)


_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[
    str, tuple[str | None, list[str], Callable[[str], Any]]
] = {  # tag -> (as written without quotes, first characters, reader)
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda s: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda s: s.lower() == "true"),
    "int": (
        r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+",
        list("-+0123456789"),
        lambda s: _whole(s),
    ),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
        r"|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
        lambda s: float(re.sub(r"_|\.(?=[iInN])", "", s)),
    ),
    "str": (None, [], str),
}


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text, 16) if text.startswith("0x") else int(text.replace("_", ""))


class _Dumper(yaml.SafeDumper):
    """Quotes every string that either YAML 1.1 or this reader would take for something else."""

    def ignore_aliases(self, data):
        return True


for _name, (_pattern, _first, _) in _SCALARS.items():
    if _pattern is not None:
        for _class in (_Loader, _Dumper):
            _class.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def dump(value: Any) -> str:
    """Plain values as YAML that `parse` reads back equal."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def parse(text: str, file: str, problems: list[Problem]) -> Node:
    """The tree of one YAML document.

    `file` is what nodes and problems are said to come from. A syntax error raises `ConfigError`
    with the problems so far; all else that is wrong is added to `problems`.
    """
    try:
        document = _Loader(text).get_single_node()
    except RecursionError:
        problem = Problem(file, 0, "", "not readable as YAML: it is nested too deeply")
        raise ConfigError([*problems, problem]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        if "\\t" in what:
            what += "; indent with spaces, not tabs"
        if mark and any("${" in line for line in text.splitlines()[mark.line : mark.line + 1]):
            what += '; inside [] and {} write "${key}" with quotes'
        problem = Problem(file, mark.line + 1 if mark else 0, "", f"not readable as YAML: {what}")
        raise ConfigError([*problems, problem]) from None
    return Node({}, file) if document is None else _convert(document, file, "", problems)


def _convert(node: yaml.Node, file: str, key: str, problems: list[Problem]) -> Node:
    value: Any = BROKEN
    place = Node(None, file, _line(node, file))
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        value = {}
        for name, child in node.value:
            word = str(getattr(name, "value", name))
            if word in value:
                again = Node(None, file, name.start_mark.line + 1)
                problems.append(again.problem(join(key, word), "given twice; keep one"))
            value[word] = _convert(child, file, join(key, word), problems)
    elif isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        items = enumerate(node.value)
        value = [_convert(child, file, join(key, i), problems) for i, child in items]
    elif isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _SCALARS:
        try:
            value = _SCALARS[node.tag.removeprefix(_TAG)][2](node.value)
        except ValueError as error:
            problems.append(place.problem(key, f"{error}; write a plain value"))
    else:
        message = f"the tag {node.tag!r} is not allowed; write a plain value"
        problems.append(place.problem(key, message))
    return replace(place, value=value)


def _line(node: yaml.Node, file: str) -> int:
    return 0 if file == COMMAND_LINE else node.start_mark.line + 1
