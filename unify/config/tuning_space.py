"""The ends of a study's `tune.space` and `sweep.space` against the ranges of what they set."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from unify.config.annotations import contracts, locate_class, options, parameters, shape
from unify.config.values import wrong_number
from unify.config.yaml_tree import Node, Problem
from unify.schema.completed import Config
from unify.schema.experiment import Recipe

SAMPLING = {"image_sampling": "image_sampler", "text_sampling": "text_sampler"}


def tried_beyond(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each number that may be tried, and that its setting does not take."""
    each = [_beyond(root, of, study[of]["space"], arms) for of in ("tune", "sweep") if study[of]]
    return [problem for some in each for problem in some]


def _beyond(
    root: Node, of: str, space: Mapping[str, Any], arms: Mapping[str, Config]
) -> list[Problem]:
    """`tried_beyond` of one space, that of the study's key `of`."""
    problems = []
    for key, choices in space.items():
        node = root.value[of].value["space"].value[key]
        for config in arms.values():
            own, hint = setting_at(config, key)
            numeric = [o for o in options(hint) if shape(o)[0] in (int, float)]
            for value in _ends(choices, own) if numeric else ():
                rounded = isinstance(choices, dict) and is_whole(hint) and math.isfinite(value)
                drawn = round(value) if rounded else value
                read = float(drawn) if shape(numeric[0])[0] is float else drawn
                if message := wrong_number(read, numeric[0]):
                    problems.append(node.problem(f"{of}.space.{key}", message))
    return list(dict.fromkeys(problems))


def is_whole(hint: Any) -> bool:
    """True for the annotation of a setting that takes whole numbers and no others."""
    kinds = {shape(option)[0] for option in options(hint)}
    return int in kinds and float not in kinds


def _ends(choices: Any, own: Any) -> Iterator[float]:
    """The numbers between which all trials lie, or the numbers among the choices."""
    if isinstance(choices, dict):
        known = "factor" not in choices or (type(own) in (int, float) and choices["factor"])
        choices = [*ends_of(choices, own)] if known else []
    listed = choices if isinstance(choices, list) else []  # what is none is refused elsewhere
    yield from (value for value in listed if type(value) in (int, float))


def ends_of(choices: Mapping[str, Any], own: Any) -> tuple[Any, Any]:
    """The two ends of `{factor}` around an arm's `own` value, or of `{low, high}`."""
    if "factor" in choices:
        return own / choices["factor"], own * choices["factor"]
    return choices.get("low"), choices.get("high")


def setting_at(config: Config, key: str) -> tuple[Any, Any]:
    """(value, annotation) of a completed config at a dotted key; (None, Any) if there is none."""
    value: Any = config
    hint: Any = Recipe
    for step in key.split("."):
        if not isinstance(value, dict) or step not in value:
            return None, Any
        hint, value = _below(value, hint, step), value[step]
        if step in SAMPLING and "model" in config:
            model = locate_class(config["model"]["class"], trusted=True)
            hint = getattr(model, SAMPLING[step], Any)
    return value, hint


def _below(value: dict[str, Any], hint: Any, step: str) -> Any:
    """The annotation of what stands under `step` in a mapping that is annotated with `hint`."""
    named = [locate_class(value["class"], trusted=True)] if "class" in value else contracts(hint)
    for cls in named:
        accepted = parameters(cls)
        if step in accepted:
            return accepted[step].hint
    inner = [shape(option)[1] for option in options(hint) if shape(option)[0] is dict]
    return inner[0][0] if inner and inner[0] else Any
