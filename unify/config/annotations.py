"""Classes that a config may name, the parameters of their constructors, and their annotations.

A class comes from a module of `unify`, or from a Python file beside a YAML that the user named.
"""

import collections.abc
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from unify.config.read_once import stamp, watch
from unify.config.references import is_reference
from unify.config.yaml_tree import BROKEN, Node, suggest
from unify.support.user_files import FROM_FILE, module_of_file

REQUIRED = object()  # in place of a default: the parameter has none
UNWRITTEN = object()  # YAML cannot express the default (a function); the constructor fills it in

PLAIN = (bool, int, float, str, NoneType, Path)
LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
MAPPINGS = (dict, collections.abc.Mapping)


class Parameter(NamedTuple):
    """A parameter of a constructor: its annotation, and its default as YAML would write it."""

    hint: Any
    default: Any


def locate_class(name: str, trusted: bool) -> type:
    """The class that a config names: `unify.x.Y` or `/folder/file.py:Y`.

    A Python file is run if `trusted`; one that was loaded before in this process serves as it is.
    Raises ValueError with the remedy.
    """
    if ".py:" not in name:
        return _class_of_unify(name)
    path, _, attribute = name.rpartition(":")
    path = os.path.realpath(path)
    watch(stamp, path)
    return _class_of(module_of_file(path, trusted), attribute)


@functools.cache
def _class_of_unify(name: str) -> type:
    *steps, attribute = name.split(".")
    if len(steps) < 2 or steps[0] != "unify" or not all(step.isidentifier() for step in steps):
        raise ValueError(
            f"{name!r} is not built; name a class of `unify.` or, from a file beside this YAML, "
            "`./file.py:Name`"
        )
    module = importlib.import_module("unify")
    for step in steps[1:]:
        full = f"{module.__name__}.{step}"
        try:
            module = importlib.import_module(full)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == full:
                modules = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))]
                hint = suggest(step, modules) or f"; {module.__name__} has {', '.join(modules)}"
                raise ValueError(f"there is no module {full!r}{hint}") from None
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"importing {full} failed with {reason}; correct or install"
            ) from error
    return _class_of(module, attribute)


def _class_of(module: ModuleType, name: str) -> type:
    cls = getattr(module, name, None)
    if isinstance(cls, type):
        return cls
    own = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    classes = [k for k in own if isinstance(vars(module)[k], type) and not k.startswith("_")]
    hint = suggest(name, classes) or f"; it has {', '.join(classes) or 'none'}"
    raise ValueError(f"{Path(module.__file__ or module.__name__).name} has no class {name!r}{hint}")


def class_name(cls: type) -> str | None:
    """The name by which a config gives the class; None for an abstract or foreign class."""
    if cls.__module__.startswith(FROM_FILE):
        return f"{sys.modules[cls.__module__].__file__}:{cls.__name__}"
    inside = cls.__module__.startswith("unify.") and not inspect.isabstract(cls)
    return f"{cls.__module__}.{cls.__name__}" if inside else None


@functools.cache
def parameters(cls: type) -> dict[str, Parameter]:
    """The parameters of a constructor by name.

    `**kwargs` stands for the parameters of the next class up. Raises ValueError for annotations
    that cannot be read.
    """
    if dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls, include_extras=True)
        return {
            f.name: Parameter(hints[f.name], _field_default(f))
            for f in dataclasses.fields(cls)
            if f.init
        }
    taken: dict[str, Parameter] = {}
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if not inspect.isfunction(constructor):
            continue
        taken = arguments_of(constructor) | taken
        kinds = [p.kind for p in inspect.signature(constructor).parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return taken


def arguments_of(method: Callable[..., Any]) -> dict[str, Parameter]:
    """The named parameters of a method, without `self`. Raises ValueError as `parameters`."""
    try:
        hints = get_type_hints(method, include_extras=True)
    except NameError as error:
        raise ValueError(
            f"{method.__qualname__}: its annotations cannot be read ({error}); import what they "
            "name at the top of the module"
        ) from None
    _, *rest = inspect.signature(method).parameters.values()
    named = [p for p in rest if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: Parameter(hints.get(p.name, Any), _default(p)) for p in named}


def _default(parameter: inspect.Parameter) -> Any:
    return REQUIRED if parameter.default is parameter.empty else _written(parameter.default)


def _field_default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return _written(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _written(field.default_factory())
    return REQUIRED


def _written(value: Any) -> Any:
    """A default as YAML would write it, or UNWRITTEN."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        items: Any = [_written(v) for v in value]
        return UNWRITTEN if any(v is UNWRITTEN for v in items) else items
    if isinstance(value, dict):
        items = {k: _written(v) for k, v in value.items()}
        return UNWRITTEN if any(v is UNWRITTEN for v in items.values()) else items
    return value if isinstance(value, PLAIN) else UNWRITTEN


def bare(hint: Any) -> Any:
    """The hint without the metadata of `Annotated`."""
    return hint.__origin__ if get_origin(hint) is Annotated else hint


def metadata(hint: Any) -> tuple[Any, ...]:
    """The metadata of `Annotated`: ranges and the like (support/ranges.py)."""
    return hint.__metadata__ if get_origin(hint) is Annotated else ()


def options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, each with the union's metadata, or the hint itself."""
    if get_origin(bare(hint)) not in (Union, UnionType):
        return (hint,)
    own, members = metadata(hint), get_args(bare(hint))
    return tuple(Annotated[(member, *own)] for member in members) if own else members


def nullable(hint: Any) -> bool:
    """True if None is a member of the hint."""
    return NoneType in map(bare, options(hint))


def shape(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A hint's kind and what is inside, whichever of several spellings it has.

    list[int], Sequence[int], tuple[int, ...]   (list, (int,))
    dict[str, int], Mapping[str, int]           (dict, (int,))
    tuple[int, float]                           (tuple, (int, float))
    Literal["a", "b"]                           (Literal, ("a", "b"))
    int, Annotated[int, Ge(1)]                  (int, ())
    """
    hint = bare(hint)
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is tuple and arguments and arguments[-1] is not ...:
        return tuple, arguments
    if origin in LISTS:
        return list, arguments[:1] or (Any,)
    if origin in MAPPINGS:
        return dict, arguments[1:] or (Any,)
    return origin, arguments


def contracts(hint: Any) -> tuple[type, ...]:
    """The classes and dataclasses that a hint admits as built parts."""
    plain = (*PLAIN, *LISTS, *MAPPINGS, Any)
    members = map(bare, options(hint))
    return tuple(o for o in members if inspect.isclass(o) and shape(o)[0] not in plain)


def describe(hint: Any) -> str:
    """A hint in the words of a message."""
    if len(options(hint)) > 1:
        return " or ".join(describe(o) for o in options(hint))
    origin, arguments = shape(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        return f"a list of {len(arguments)} ({', '.join(map(describe, arguments))})"
    if origin in (list, dict):
        kind = "a list" if origin is list else "a mapping"
        return kind + ("" if arguments[0] is Any else f" of {describe(arguments[0])}")
    return "null" if origin is NoneType else getattr(origin, "__name__", str(hint))


def fits(node: Node, hint: Any) -> bool:
    """True if a value has the form of `hint`, a member of a union, down to the items of lists.

    Parts and references are not looked into: they fit.
    """
    value, (origin, inner) = node.value, shape(hint)
    if value is BROKEN or is_reference(node):
        return True
    if len(options(hint)) > 1:
        return any(fits(node, option) for option in options(hint))
    if origin in (list, tuple):
        if not isinstance(value, list):
            return False
        hints = inner if origin is tuple else inner * len(value)
        return len(hints) == len(value) and all(map(fits, value, hints))
    if origin is dict:
        return isinstance(value, dict) and all(
            child.value is None or fits(child, inner[0]) for child in value.values()
        )
    if origin is Literal:
        return any(value == literal and type(value) is type(literal) for literal in inner)
    if origin is float:
        return type(value) in (int, float)
    if origin in (bool, int, str, Path, NoneType):
        return type(value) is (str if origin is Path else origin)
    if contracts(hint):
        return isinstance(value, dict)
    return origin is Any or not inspect.isclass(origin)


def names(expected: tuple[type, ...]) -> str:
    """Classes in the words of a message."""
    return " or ".join(cls.__name__ for cls in expected)


def mismatch(value: Any, hint: Any) -> str:
    """The message for a value that its hint does not admit, with the remedy."""
    message = f"expected {describe(hint)}, not {value!r}"
    kinds = {shape(o)[0] for o in options(hint)}
    if isinstance(value, str) and kinds & {int, float}:
        try:
            float(value)
            return f"{message}; it is a string: write {value} without quotes"
        except ValueError:
            return f"{message}; write a number"
    if contracts(hint):
        return f"{message}; write a mapping with `class:` ({names(contracts(hint))})"
    if isinstance(value, float) and int in kinds:
        return f"{message}; write a whole number"
    if bool in kinds:
        return f"{message}; write true or false"
    literals = [a for o in options(hint) if shape(o)[0] is Literal for a in shape(o)[1]]
    if literals and isinstance(value, str):
        return message + suggest(value, [a for a in literals if isinstance(a, str)])
    return f"{message}; write {describe(hint)}"
