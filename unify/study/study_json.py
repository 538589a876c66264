"""study.json: what the report says was compared."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

from unify.config.annotations import locate_class
from unify.runs.equal_training import ANYWHERE
from unify.runs.folder import write_json
from unify.runs.lookup import needed_configs
from unify.schema.completed import Config
from unify.schema.study import Study


def describe(
    study: Study, arms: dict[str, Config], options: list[str], folder: Path, tuned: set[str]
) -> None:
    """study.json: what the report says was compared. `options`: the study's file, and what was
    said beside it."""
    path, *words = options
    machine = tuple(f"machine.{name}=" for name in ANYWHERE)
    described = {}
    for arm, config in arms.items():
        said = study.arms[arm]
        cls = locate_class(config["model"]["class"], trusted=True)
        described[arm] = {
            "paradigm": cls.__name__,
            "file": said if isinstance(said, str) else said.get("base", path),
            "doc": inspect.cleandoc(inspect.getmodule(cls).__doc__ or "").split("\n\n")[0],
            "needs": [part["name"] for part in needed_configs(config).values()],
        }
    write_json(
        folder / "study.json",
        {
            "name": study.name,
            "title": study.title or study.name,
            "question": study.question,
            "primary": study.primary,
            "baseline": study.baseline,
            "grid": bool(study.grid) or bool(study.tune and study.tune.defaults),
            "budgets": {arm: vars(budget) for arm, budget in study.budgets.items()},
            "tune": study.tune and vars(study.tune),
            "tuned": sorted(tuned),
            "claims": [vars(claim) for claim in study.claims],
            "controls": [vars(control) for control in study.controls],
            "seeds": study.seeds,
            "arms": described,
            "metrics": _meanings(arms.values()),
            "file": path,
            "overrides": [word for word in words if not word.startswith(machine)],
        },
    )


def _meanings(configs: Iterable[Config]) -> list[str]:
    """The documentation of the modules whose metrics score the arms."""
    nodes = [node["class"] for config in configs for node in config["evaluation"]]
    modules = [inspect.getmodule(locate_class(name, trusted=True)) for name in dict.fromkeys(nodes)]
    return [inspect.cleandoc(module.__doc__ or "") for module in dict.fromkeys(modules) if module]
