"""Every number that a YAML can set: in settings, and in all shipped classes that it can name."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import unify
from unify.config.annotations import contracts, metadata, options, parameters, shape
from unify.schema.cluster import Cluster
from unify.schema.experiment import Recipe
from unify.schema.study import Study
from unify.support.ranges import limits, outside

LINKS = ("paradigms", "tokenizers")  # folders without __init__.py, which are not walked


class Setting(NamedTuple):
    """A parameter `name` of a class, and its annotation."""

    cls: type
    name: str
    hint: Any

    def __str__(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__name__}.{self.name}"


@cache
def import_all() -> None:
    names = [module.name for module in pkgutil.walk_packages(unify.__path__, "unify.")]
    for link in LINKS:
        modules = pkgutil.iter_modules([f"{unify.__path__[0]}/{link}"])
        names += [f"unify.{link}.{module.name}" for module in modules]
    for name in names:
        importlib.import_module(name)


def shipped(base: type) -> set[type]:
    """The class and those below it that `unify` defines and that can be built."""
    every = {base}.union(*(shipped(cls) for cls in type.__subclasses__(base)))
    return {c for c in every if c.__module__.startswith("unify.") and not inspect.isabstract(c)}


def members(hint: Any) -> Iterator[Any]:
    """The annotations of single values in an annotation: items of lists, values of mappings."""
    for option in options(hint):
        origin, inner = shape(option)
        if origin in (list, tuple, dict):
            for item in inner:
                yield from members(item)
        else:
            yield option


@cache
def settings() -> list[Setting]:
    """The parameters of all classes that a YAML can name, and of the samplers of its models."""
    import_all()
    waiting, seen, found = [Recipe, Study, Cluster], set(), []
    while waiting:
        cls = waiting.pop()
        if cls in seen:
            continue
        seen.add(cls)
        for name, parameter in parameters(cls).items():
            found.append(Setting(cls, name, parameter.hint))
            for contract in (c for member in members(parameter.hint) for c in contracts(member)):
                waiting += shipped(contract)
        waiting += [s for kind in ("image", "text") if (s := getattr(cls, f"{kind}_sampler", None))]
    return sorted(found, key=str)


def numbers() -> list[tuple[Setting, Any, Callable[[Any], Any]]]:
    """(setting, annotation of one number in it, the whole value with it) for every number."""
    return [(s, member, build) for s in settings() for member, build in places(s.hint)]


def inside(member: Any) -> float:
    """A number in the range of an annotation."""
    of = limits(metadata(member))
    return next(value for value in (0, 1, 0.5, 2, 300) if not outside(value, of))


def places(hint: Any) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    """For each number in an annotation: its own annotation, and the whole value with it in place.

    Beside it stand other numbers that are in range.
    """
    for option in options(hint):
        origin, inner = shape(option)
        if origin is tuple:
            for index, item in enumerate(inner):
                around = [inside(one) for one in inner]
                for member, build in places(item):
                    yield member, partial(_put, around, index, build)
        elif origin in (list, dict):
            for member, build in places(inner[0]):
                yield member, partial(_wrap, origin, build)
        elif origin in (int, float):
            yield option, lambda value: value


def _put(around: list[Any], index: int, build: Callable[[Any], Any], value: Any) -> list[Any]:
    return [*around[:index], build(value), *around[index + 1 :]]


def _wrap(origin: type, build: Callable[[Any], Any], value: Any) -> Any:
    return [build(value)] if origin is list else {"a": build(value)}
