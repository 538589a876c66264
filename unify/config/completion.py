"""Completing a tree from constructor signatures, with every check that needs no built object.

    {class: unify.x.Y, width: 64}     to be built as Y(width=64, and every default)
    {weights: ...}                    as in another experiment or an export (weights_from_runs.py)

Nothing is instantiated here: classes are located, compared with the contract that their place
expects (its annotation), and asked for their signatures. Every problem is collected.

One pass, from the top down. References to other keys wait for its end, when all defaults are there;
only those that choose a class or weights are resolved before it, since defaults depend on them.
"""

import dataclasses
import inspect
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Literal

from unify.config.annotations import (
    PLAIN,
    REQUIRED,
    UNWRITTEN,
    Parameter,
    bare,
    class_name,
    contracts,
    describe,
    fits,
    locate_class,
    mismatch,
    names,
    nullable,
    options,
    parameters,
    shape,
)
from unify.config.loading import OVERLAYS, merge
from unify.config.references import (
    Reference,
    chooses_part,
    first_keys,
    is_reference,
    refuse_code,
    resolve,
    with_absolute_paths,
    with_defaults,
)
from unify.config.values import wrong_number, wrong_value
from unify.config.weights_from_runs import weights_of
from unify.config.yaml_tree import BROKEN, KeyPath, Node, Problem, absolute_class, join, suggest
from unify.schema.study import GONE

RESERVED = ("class", "weights")


@dataclass
class Completion:
    """One pass over a tree."""

    problems: list[Problem]
    schema: type  # the dataclass of the top level
    trusted: bool  # the tree may name Python files to load
    tiny: bool  # the tree is the `tiny` form
    inside: tuple[str, ...] = ()  # the files whose `model` is being read for its weights
    classes: dict[str, type] = field(default_factory=dict)  # of the parts, by key

    def top(self, root: Node, partial: bool = False) -> Node:
        """The top level; `partial`: keys without a default may be missing."""
        accepted = parameters(self.schema)
        overlays = {k: v for k, v in root.value.items() if k in OVERLAYS and k in accepted}
        for key, node in overlays.items():
            if not isinstance(node.value, dict):
                self.problems.append(node.problem(key, f"expected a mapping, not {node.plain()!r}"))
        rest = replace(root, value={k: v for k, v in root.value.items() if k not in overlays})
        wanted = {k: p for k, p in accepted.items() if k not in overlays}
        if partial:
            given = rest.value
            wanted = {k: p for k, p in wanted.items() if k in given or p.default is not REQUIRED}
        has_references = bool(first_keys(rest))
        if has_references:
            rest = self.with_parts_chosen(refuse_code(rest, self.problems))
        values = self.arguments(rest, rest.value, wanted, self.schema.__name__, "")
        done = replace(root, value=values)
        if has_references:
            context = with_defaults(rest.plain(), done.plain())
            done = resolve(done, context, self.problems, self.settled)
        return replace(root, value={**done.value, **overlays})

    def with_parts_chosen(self, root: Node) -> Node:
        """The tree with the references resolved that choose a class or weights.

        They reach what the files say, and the defaults of the top level.
        """
        accepted = parameters(self.schema).items()
        defaults = {k: p.default for k, p in accepted if p.default not in (REQUIRED, UNWRITTEN)}
        context = with_defaults(root.map_leaves(with_absolute_paths).plain(), defaults)
        return resolve(root, context, self.problems, lambda leaf, v, _: leaf.like(v), chooses_part)

    def settled(self, node: Node, value: Any, path: KeyPath) -> Node:
        """The value of a reference, checked against the annotation of its place."""
        if not isinstance(node, Reference):  # of a part that is reported and was not completed
            return node.like(value)
        return self.value(node.like(value), node.hint, ".".join(map(str, path)))

    def model_of(self, path: str, root: Node, tiny: bool) -> Node | None:
        """The completed `model` of another experiment, given its file and tree.

        Nothing else of it is completed but what its references lead to.
        """
        keys = {"model", *first_keys(root)}
        needed = replace(root, value={k: v for k, v in root.value.items() if k in keys})
        inner = replace(self, tiny=tiny, inside=(*self.inside, path), classes={})
        return inner.top(needed, partial=True).get("model")

    def arguments(
        self,
        node: Node,
        given: dict[str, Node],
        accepted: dict[str, Parameter],
        taker: str,
        key: str,
    ) -> dict[str, Node]:
        """The arguments `given` at a node, checked against `accepted` and completed from it.

        `taker` is the name, in messages, of the class that accepts them.
        """
        for name, child in given.items():
            if name not in accepted:
                takes = ", ".join(accepted) or "nothing"
                message = f"unknown key{suggest(name, accepted)}; {taker} takes {takes}"
                gone = GONE.get(taker, {}).get(name)
                message = f"is no key any more; {gone}" if gone else message
                self.problems.append(child.problem(join(key, name), message))
        done = {}
        for name, (hint, default) in accepted.items():
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
        if node.value is BROKEN:
            return node
        if is_reference(node):
            return Reference(node.value, node.file, node.line, hint)
        choices, parts = list(options(hint)), contracts(hint)
        if isinstance(node.value, dict) and parts:
            names_part = any(word in node.value for word in RESERVED)
            if names_part or len(parts) == len([c for c in choices if bare(c) is not NoneType]):
                return self.part(node, parts, key)
        # the type itself before one that it converts to: 1 is an int where float | int is expected
        exact = (Literal, type(node.value))
        choices.sort(key=lambda choice: shape(choice)[0] not in exact)
        if len(choices) > 1:
            choices = [choice for choice in choices if fits(node, choice)]
        if choices:
            return self.one(node, choices[0], key)
        self.problems.append(node.problem(key, mismatch(node.plain(), hint)))
        return node

    def one(self, node: Node, hint: Any, key: str) -> Node:
        """One value against an annotation that is no union."""
        value, (origin, inner) = node.value, shape(hint)
        if origin in (list, tuple) and isinstance(value, list):
            hints = inner if origin is tuple else inner * len(value)
            if len(hints) == len(value):
                pairs, before = enumerate(zip(value, hints, strict=True)), len(self.problems)
                items = [self.value(v, h, join(key, i)) for i, (v, h) in pairs]
                done = replace(node, value=items)
                right = len(self.problems) == before  # of a wrong item that is said alone
                return self.in_range(done, hint, key) if right else done
        elif origin is dict and isinstance(value, dict) and inner[0] is not Any:
            # null takes a key of the base away, where null itself is no value
            kept = {k: v for k, v in value.items() if v.value is not None or nullable(inner[0])}
            filled = {k: self.value(v, inner[0], join(key, k)) for k, v in kept.items()}
            return replace(node, value=filled)
        elif contracts(hint) and isinstance(value, dict):
            return self.part(node, contracts(hint), key)
        elif fits(node, hint):
            if origin is float:
                node = replace(node, value=float(value))
            plain = origin in (*PLAIN, Literal)
            return self.in_range(node, hint, key) if plain else self.free(node, key)
        self.problems.append(node.problem(key, mismatch(node.plain(), hint)))
        return node

    def in_range(self, node: Node, hint: Any, key: str) -> Node:
        """A value of the right form, with a problem if it is not within its annotation's limits."""
        if message := wrong_value(node.plain(), hint):
            self.problems.append(node.problem(key, message))
        return node

    def free(self, node: Node, key: str) -> Node:
        """A value of any kind, but no part: without a contract nothing is ever built."""
        if is_reference(node):
            return self.value(node, Any, key)
        if isinstance(node.value, dict):
            if "class" in node.value:
                message = "nothing is built here; annotate the parameter with the contract it takes"
                self.problems.append(node.value["class"].problem(join(key, "class"), message))
            items = {name: self.free(child, join(key, name)) for name, child in node.value.items()}
            return replace(node, value=items)
        if isinstance(node.value, list):
            children = enumerate(node.value)
            return replace(node, value=[self.free(v, join(key, i)) for i, v in children])
        if type(node.value) is float and (message := wrong_number(node.value)):
            self.problems.append(node.problem(key, message))
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
        cls = self.located(says, expected, key) if says is not None else None
        if says is None or cls is None:
            return node
        self.classes[key] = cls
        try:
            accepted = parameters(cls)
        except ValueError as error:
            self.problems.append(node.problem(key, str(error)))
            return node
        done = self.arguments(node, given, accepted, cls.__name__, key)
        if not (implied and dataclasses.is_dataclass(cls)):
            done = {"class": says.like(absolute_class(says)), **done}
        if weights is not None:
            done["weights"] = weights
        return replace(node, value=done)

    def implied(self, node: Node, expected: tuple[type, ...], key: str) -> Node | None:
        """The class of a node without `class`: that of its place, if it admits only one."""
        if len(expected) == 1 and not inspect.isabstract(expected[0]):
            name = class_name(expected[0])
            if name or dataclasses.is_dataclass(expected[0]):
                return node.like(expected[0] if name is None else name)
        message = f"missing; name a class that is a {names(expected)}"
        self.problems.append(node.problem(join(key, "class"), message))
        return None

    def located(self, says: Node, expected: tuple[type, ...], key: str) -> type | None:
        """The class that `class:` names, if its place expects it; else a problem and None."""
        name, message = absolute_class(says), ""
        if isinstance(name, type):
            return name
        if says.value is BROKEN:
            return None
        try:
            if not isinstance(name, str):
                raise ValueError(f"expected the name of a class, not {says.plain()!r}")
            cls = locate_class(name, self.trusted)
            if not issubclass(cls, expected):
                message = f"{name} is not a {names(expected)}; name a class that is"
            elif inspect.isabstract(cls):
                lacks = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
                message = f"{name} is abstract (it lacks {lacks}); name a subclass"
        except ValueError as error:
            message = str(error)
        if message:
            self.problems.append(says.problem(join(key, "class"), message))
            return None
        return cls


def _started(weights: Node) -> bool:
    """False where only a `seed` is left: a tiny form replaced the run, and is built anew."""
    return not isinstance(weights.value, dict) or set(weights.value) != {"seed"}
