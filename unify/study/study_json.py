"""study.json: the question, arms and settings of a study, as the report shows them."""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unify.config.annotations import class_name, locate_class
from unify.metrics.sealed_prompts import seal_of, since
from unify.runs.equal_training import PLACE_KEYS
from unify.runs.folder import write_json
from unify.runs.lookup import needed_configs
from unify.runs.study_files import NOT_YET
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.jobs import StudyRequest

OPTIONAL = ("tune", "sweep", "learned", "cooldowns")  # keys that are null where there is none


def write_study_json(
    study: Study,
    arms: dict[str, Config],
    request: StudyRequest,
    folder: Path,
    tuned: set[str],
    against: Mapping[str, str] | None = None,
) -> None:
    """Write study.json into the study's folder.

    Args:
        study: the study; its `arms` name the file of each.
        arms: the completed configurations, by arm.
        request: the file and the overrides that the report repeats as a command.
        folder: runs/<study>.
        tuned: the arms whose tuning, where the study asks for it, is done.
        against: the published study that it is compared with, if any.
    """
    place = tuple(f"machine.{key}=" for key in PLACE_KEYS)
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
            "tuned": sorted(tuned),
            **{key: (part := getattr(study, key)) and vars(part) for key in OPTIONAL},
            "claims": [vars(claim) for claim in study.claims],
            "controls": [vars(control) for control in study.controls],
            "figures": [{"class": class_name(type(f)), **f.settings()} for f in study.figures],
            "seeds": study.seeds,
            "replicate": study.replicate,
            **_preset(study, request.path),
            "arms": {
                arm: _described(config, study.arms[arm], request.path)
                for arm, config in arms.items()
            },
            "metrics": _meanings(arms.values()),
            "file": request.path,
            "overrides": [word for word in request.words[1:] if not word.startswith(place)],
            "results": NOT_YET,
            **({"against": dict(against)} if against else {}),
        },
    )


def _preset(study: Study, path: str) -> dict[str, Any]:
    """The preset, with what a confirmatory study named before it ran."""
    if not study.preregistration:
        return {"preset": study.preset}
    families = [
        {"family": name, **vars(one)} for name, family in study.families.items() for one in family
    ]
    seal = seal_of(study.preregistration)
    named = {"preregistration": vars(seal), "families": families, "study_file": since(path, seal)}
    return {"preset": study.preset, **named}


def _described(config: Config, node: Any, path: str) -> dict[str, Any]:
    """The entry of an arm; `node` is what the study at `path` says of it: a file, or a mapping."""
    cls = locate_class(config["model"]["class"], trusted=True)
    return {
        "paradigm": cls.__name__,
        "file": node if isinstance(node, str) else node.get("base", path),
        "doc": inspect.cleandoc(inspect.getmodule(cls).__doc__ or "").split("\n\n")[0],
        "needs": [part["name"] for part in needed_configs(config).values()],
    }


def _meanings(configs: Iterable[Config]) -> list[str]:
    """The docstrings of the modules whose metrics score the arms."""
    nodes = [node["class"] for config in configs for node in config["evaluation"]]
    modules = [inspect.getmodule(locate_class(name, trusted=True)) for name in dict.fromkeys(nodes)]
    return [inspect.cleandoc(module.__doc__ or "") for module in dict.fromkeys(modules) if module]
