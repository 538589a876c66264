"""Completing a tree against constructor signatures, and every check that needs no built object.

    {class: unify.x.Y, width: 64}     to be built as Y(width=64, and every default)
    {weights: ...}                    as another experiment or an export has it (weights.py)

Nothing is instantiated here: classes are located, compared with the contract that their place
expects (its annotation), and asked for their signatures. Every problem is collected.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from unify.config.annotations import (
    REQUIRED,
    UNWRITTEN,
    Parameter,
    class_name,
    contracts,
    describe,
    locate_class,
    mismatch,
    names,
    nullable,
    options,
    parameters,
    shape,
)
from unify.config.loading import OVERLAYS, interpolate, merge, references
from unify.config.weights_from_runs import weights_of
from unify.config.yaml_tree import (
    BROKEN,
    Node,
    Problem,
    is_reference,
    join,
    reference,
    suggest,
)

RESERVED = ("class", "weights")


@dataclass
class Completion:
    """One pass over a tree. `inside`: the files whose `model` is being read for its weights."""

    problems: list[Problem]
    schema: type  # the dataclass of the top level
    trusted: bool
    tiny: bool
    inside: tuple[str, ...] = ()

    def resolve(self, root: Node) -> Node:
        """The tree with its references resolved, to defaults too: hence a first, silent pass."""
        if not references(root):
            return root
        defaults = replace(self, problems=[]).top(root, partial=True).plain()
        return interpolate(root, defaults, self.problems)

    def top(self, root: Node, partial: bool = False) -> Node:
        """The top level; `partial`: keys without a default may be missing."""
        known = parameters(self.schema)
        overlays = {k: v for k, v in root.value.items() if k in OVERLAYS and k in known}
        rest = {k: v for k, v in root.value.items() if k not in overlays}
        wanted = {k: p for k, p in known.items() if k not in overlays}
        for key, node in overlays.items():
            if not isinstance(node.value, dict):
                self.problems.append(node.problem(key, f"expected a mapping, not {node.plain()!r}"))
        if partial:
            wanted = {k: p for k, p in wanted.items() if k in rest or p.default is not REQUIRED}
        done = self.arguments(root, rest, wanted, self.schema.__name__, "")
        return Node({**done, **overlays}, root.file, root.line)

    def arguments(
        self, node: Node, given: dict[str, Node], known: dict[str, Parameter], taker: str, key: str
    ) -> dict[str, Node]:
        """`given` checked against `known`, and completed from its defaults."""
        for name, child in given.items():
            if name not in known:
                takes = ", ".join(known) or "nothing"
                message = f"unknown key{suggest(name, known)}; {taker} takes {takes}"
                self.problems.append(child.problem(join(key, name), message))
        done = {}
        for name, (hint, default) in known.items():
            where = join(key, name)
            if name in given and given[name].value is None and default is None:
                done[name] = given[name]
            elif name in given:
                done[name] = self.value(given[name], hint, where)
            elif default is REQUIRED:
                message = f"missing; {taker} needs it: add `{name}:` ({describe(hint)})"
                self.problems.append(node.problem(where, message))
            elif default is not UNWRITTEN:
                filled = node.like(default)
                done[name] = filled if default is None else self.value(filled, hint, where)
        return done

    def value(self, node: Node, hint: Any, key: str) -> Node:
        """One value against its annotation."""
        if node.value is BROKEN or is_reference(node):
            return node
        choices = options(hint)
        parts = contracts(hint)
        if isinstance(node.value, dict) and parts:
            names_part = any(word in node.value for word in RESERVED)
            if names_part or len(parts) == len([c for c in choices if c is not NoneType]):
                return self.part(node, parts, key)
        problems: list[Problem] = []
        for choice in sorted(choices, key=lambda c: type(node.value) is not c):
            trial = replace(self, problems=[])
            done = trial.one(node, choice, key)
            if not trial.problems:
                return done
            problems = trial.problems
        if len(choices) > 1:
            problems = [node.problem(key, mismatch(node.plain(), hint))]
        self.problems += problems
        return node

    def one(self, node: Node, hint: Any, key: str) -> Node:
        """One value against an annotation that is no union."""
        value, (origin, inner) = node.value, shape(hint)
        if origin in (list, tuple) and isinstance(value, list):
            hints = inner if origin is tuple else inner * len(value)
            if len(hints) == len(value):
                pairs = enumerate(zip(value, hints, strict=True))
                items = [self.value(v, h, join(key, i)) for i, (v, h) in pairs]
                return replace(node, value=items)
        elif origin is dict and isinstance(value, dict):
            if inner[0] is Any:
                return self.free(node, key)
            # null takes a key of the base away, where null itself is no value
            kept = {k: v for k, v in value.items() if v.value is not None or nullable(inner[0])}
            filled = {k: self.value(v, inner[0], join(key, k)) for k, v in kept.items()}
            return replace(node, value=filled)
        elif origin is Literal:
            if any(value == a and type(value) is type(a) for a in inner):
                return node
        elif origin is float and type(value) in (int, float):
            return replace(node, value=float(value))
        elif origin in (bool, int, str, Path, NoneType):
            if type(value) is (str if origin is Path else origin):
                return node
        elif contracts(hint) and isinstance(value, dict):
            return self.part(node, contracts(hint), key)
        elif origin is Any or not inspect.isclass(origin):
            return self.free(node, key)
        self.problems.append(node.problem(key, mismatch(node.plain(), hint)))
        return node

    def free(self, node: Node, key: str) -> Node:
        """A value of any kind, but no part: without a contract nothing is ever built."""
        if isinstance(node.value, dict):
            if "class" in node.value:
                message = "nothing is built here; annotate the parameter with the contract it takes"
                self.problems.append(node.value["class"].problem(join(key, "class"), message))
            for name, child in node.value.items():
                self.free(child, join(key, name))
        elif isinstance(node.value, list):
            for index, child in enumerate(node.value):
                self.free(child, join(key, index))
        return node

    # Parts

    def part(self, node: Node, expected: tuple[type, ...], key: str) -> Node:
        """A node that is to be built: the contract check, then its arguments."""
        given = {k: v for k, v in node.value.items() if k not in RESERVED}
        says, weights = node.get("class"), node.get("weights")
        if self.tiny and says is not None and weights is not None and not _started(weights):
            weights = None
        first = len(self.problems)
        if weights is not None:
            weights, base = weights_of(self, weights, says is None, join(key, "weights"))
            if base is not None:
                says = weights.like(base.value["class"].value)
                given = merge(base, replace(node, value=given)).value
                given = {k: v for k, v in given.items() if k not in RESERVED}
        if len(self.problems) > first:
            return node
        implied = says is None
        if says is None:
            says = self.implied(node, expected, key)
        found = self.located(says, expected, key) if says is not None else None
        if says is None or found is None:
            return node
        try:
            known = parameters(found)
        except ValueError as error:
            self.problems.append(node.problem(key, str(error)))
            return node
        done = self.arguments(node, given, known, found.__name__, key)
        if not (implied and dataclasses.is_dataclass(found)):
            done = {"class": says.like(reference(says)), **done}
        if weights is not None:
            done["weights"] = weights
        return replace(node, value=done)

    def implied(self, node: Node, expected: tuple[type, ...], key: str) -> Node | None:
        """The class of a node without `class`, where its place admits but one that can be built."""
        if len(expected) == 1 and not inspect.isabstract(expected[0]):
            name = class_name(expected[0])
            if name or dataclasses.is_dataclass(expected[0]):
                return node.like(expected[0] if name is None else name)
        message = f"missing; name a class that is a {names(expected)}"
        self.problems.append(node.problem(join(key, "class"), message))
        return None

    def located(self, says: Node, expected: tuple[type, ...], key: str) -> type | None:
        """The class, if it is one that the place expects."""
        name, message = reference(says), ""
        if isinstance(name, type):
            return name
        if says.value is BROKEN:
            return None
        try:
            if not isinstance(name, str):
                raise ValueError(f"expected the name of a class, not {says.plain()!r}")
            found = locate_class(name, self.trusted)
            if not issubclass(found, expected):
                message = f"{name} is not a {names(expected)}; name a class that is"
            elif inspect.isabstract(found):
                lacks = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
                message = f"{name} is abstract (it lacks {lacks}); name a subclass"
        except ValueError as error:
            message = str(error)
        if message:
            self.problems.append(says.problem(join(key, "class"), message))
            return None
        return found


def _started(weights: Node) -> bool:
    """Not where a tiny form is built anew, and only the seed of what it replaces is left."""
    return not isinstance(weights.value, dict) or set(weights.value) != {"seed"}
