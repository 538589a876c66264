"""Completed configs to objects. Only subclasses of a place's annotation are built there."""

import copy
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_origin

from unify.config.annotations import (
    bare,
    contracts,
    locate_class,
    names,
    options,
    parameters,
    shape,
)
from unify.schema.experiment import Recipe

LoadWeights = Callable[[Any, Any], None]  # of (part, weights)
Construct = Callable[[type, dict[str, Any]], Any]  # of (class, arguments)


def build(
    value: Any,
    load_weights: LoadWeights | None = None,
    expect: Any = object,
    construct: Construct | None = None,
) -> Any:
    """The objects that a completed node describes, each part before the one that contains it.

    Args:
        value: plain data; a dict with `class` is built as that class.
        load_weights: called with every part whose node has `weights`, right after it was
            constructed, and those: `{"run": path}`, perhaps with the name of a `part`, or the path
            of a folder.
        expect: the annotation of the place.
        construct: called with class and arguments in place of `cls(**arguments)`.

    Raises ValueError for a class that the place does not expect, and what constructors raise.
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
            return tuple(items) if (get_origin(bare(hint)) or bare(hint)) is tuple else items
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
    accepted = parameters(cls)
    arguments = {
        key: build(child, load_weights, accepted[key].hint, construct)
        for key, child in node.items()
        if key not in ("class", "weights")
    }
    part = construct(cls, arguments) if construct else cls(**arguments)
    if load_weights is not None and "weights" in node:
        load_weights(part, node["weights"])
    return part


def build_recipe(
    completed: dict[str, Any],
    load_weights: LoadWeights | None = None,
    schema: type = Recipe,
    construct: Construct | None = None,
) -> Any:
    """The `Recipe` (or another dataclass of the top level) with every part built."""
    return build(completed, load_weights, schema, construct)
