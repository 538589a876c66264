"""The tokenizers, metrics and sources that the contract tests run on, each built anew when asked.

Every shipped one; with `--experiments FOLDER` instead those that the YAMLs of the folder name, in
their tiny form.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from unify.assembly.assemble import assemble
from unify.config import load_recipe
from unify.nn.init import initialise
from unify.paradigm import Fitted, Paradigm, Trainable
from unify.schema.experiment import Recipe
from unify.tokenizer import Tokenizer

SHIPPED = Path(__file__).parents[2] / "experiments"  # what `--experiments` is if nothing is said


@dataclass
class Part:
    """A part that `build()` makes, the same every time. `tasks`: what a source is used for."""

    name: str
    build: Callable[[], Any]
    tasks: frozenset[str] = frozenset()


def recipe_of(path: Path) -> Recipe:
    """The tiny form of an experiment, built from nothing that was trained."""
    recipe = assemble(_config(path), {})
    if isinstance(recipe.model, Trainable):
        initialise(recipe.model, 0)
        recipe.model.eval()
    for part in tokenizers_of(recipe).values():
        if isinstance(part, Fitted) and not part.fitted:
            part.fit(recipe.data.texts(200))
    return recipe


@functools.lru_cache
def _config(path: Path) -> dict[str, Any]:
    return load_recipe(path, tiny=True)


def experiments(folder: Path) -> Iterator[Path]:
    """The YAMLs of a folder that are experiments with a tiny form; runs that lie there are not."""
    for path in sorted(folder.rglob("*.yaml")):
        if (path.parent / "run.json").exists():
            continue
        content = yaml.safe_load(path.read_text())
        if isinstance(content, dict) and "model" in content and "tiny" in content:
            yield path


def tokenizers_of(recipe: Recipe) -> dict[str, Tokenizer]:
    """The model itself, or the tokenizers of a paradigm by attribute."""
    if isinstance(recipe.model, Tokenizer):
        return {"model": recipe.model}
    return recipe.model.tokenizers() if isinstance(recipe.model, Paradigm) else {}


def tokenizers_in(folder: Path) -> list[Part]:
    result: dict[str, Part] = {}
    for path in experiments(folder):
        for name, part in tokenizers_of(recipe_of(path)).items():
            model = _config(path)["model"]
            printed = model if name == "model" else model.get(name)
            key = json.dumps([type(part).__qualname__, printed], sort_keys=True)
            build = functools.partial(_tokenizer, path, name)
            result.setdefault(key, Part(f"{path.stem}-{name}", build))
    return list(result.values())


def _tokenizer(path: Path, name: str) -> Tokenizer:
    return tokenizers_of(recipe_of(path))[name]


def sources_in(folder: Path) -> list[Part]:
    result: dict[str, Part] = {}
    for path in experiments(folder):
        key = json.dumps(_config(path)["data"]["source"], sort_keys=True)
        build = functools.partial(_source, path)
        part = result.setdefault(key, Part(path.stem, build))
        part.tasks |= recipe_of(path).data.tasks.keys()
    return list(result.values())


def _source(path: Path) -> Any:
    return recipe_of(path).data.source


def concrete(base: type, package: str) -> set[type]:
    """The subclasses of `base` that can be built, defined in the modules of a package."""
    import importlib
    import inspect
    import pkgutil

    result = set()
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        members = vars(importlib.import_module(f"{package}.{module.name}")).values()
        result |= {c for c in members if inspect.isclass(c) and issubclass(c, base)}
    return {c for c in result if c.__module__.startswith(package) and not inspect.isabstract(c)}


def seeded(build: Callable[[], Any]) -> Callable[[], Any]:
    """`build` with the global generator at 0, so that two builds have the same weights."""

    def again() -> Any:
        torch.manual_seed(0)
        return build()

    return again
