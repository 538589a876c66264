"""Keys of a study that contradict each other: one of them would win, and no word be said."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from unify.config.grid import as_overrides
from unify.config.yaml_tree import COMMAND_LINE, ConfigError, Node, Problem
from unify.schema.completed import Config

# Trials differ in what they learn with, not in how long, from which draw, or how they are scored.
NOT_TUNED = (
    "name", "study", "steps", "seeds", "needed_seeds", "replicate", "machine", "logging", "tiny",
    "evaluation",
)  # fmt: skip
NOT_IN_A_GRID = ("name", "study", "tiny")  # they say nothing of the experiment
OF_COOLDOWNS = ("optimizer.schedule", "cooldown")  # keys of an arm that they set


def conflicts(root: Node, study: Config, words: Sequence[str]) -> list[Problem]:
    """Problems of a completed study whose arms have these overrides."""
    tried = _keys_of_grid(study["grid"])
    overridden = [word.removeprefix("--").partition("=")[0] for word in words]
    message = "the grid sets {}, and its arms are named by that; leave the word out, or change it"
    found = [
        Problem(COMMAND_LINE, 0, key, message.format(both))
        for key in overridden
        for both in tried
        if overlap(key, both)
    ]
    if outside := [key for key in tried if key.partition(".")[0] in NOT_IN_A_GRID]:
        message = f"{outside[0]} is no setting of an experiment; leave it out"
        found.append((root.get("grid") or root).problem("grid", message))
    found += [*_of_spaces(root, study, tried), *_of_cooldowns(root, study, tried)]
    return [*found, *_twice(root, study), *_with_itself(root, study)]


def _keys_of_grid(grid: Any) -> list[str]:
    return sorted({key for point in ([grid] if isinstance(grid, dict) else grid) for key in point})


def overlap(one: str, other: str) -> bool:
    """True if one dotted key is the other, or holds it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _of_spaces(root: Node, study: Config, tried: Sequence[str]) -> Iterator[Problem]:
    """Problems of the keys of `tune.space` and `sweep.space`."""
    for of in ("tune", "sweep"):
        asked = study[of] or {"space": {}}
        for key, choices in asked["space"].items():
            node = root.value[of].value["space"].value[key]
            for message in _wrong_space(key, choices, tried, asked.get("set", ())):
                yield node.problem(f"{of}.space.{key}", message)


def _twice(root: Node, study: Config) -> Iterator[Problem]:
    """A problem for each two keys of a point, or of what is tried, one of which holds the other."""
    grid = study["grid"]
    sets = [("grid", point) for point in ([grid] if isinstance(grid, dict) else grid)]
    sets += [(f"{of}.space", study[of]["space"]) for of in ("tune", "sweep") if study[of]]
    sets += [("tune.set", study["tune"]["set"])] if study["tune"] else []
    for place, keys in sets:
        for one, other in combinations(sorted(keys), 2):
            if overlap(one, other):
                node = root.value[place.partition(".")[0]]
                message = f"{other} is set by {one} as well; leave it out of one of the two"
                yield node.problem(f"{place}.{other}", message)


def _of_cooldowns(root: Node, study: Config, tried: Sequence[str]) -> Iterator[Problem]:
    """A problem for each key that sets what `cooldowns` sets in every arm."""
    tune = study["tune"] or {"space": {}, "set": {}}
    keys = [("grid", key) for key in tried]
    keys += [(f"tune.{of}.{key}", key) for of in ("space", "set") for key in tune[of]]
    for place, key in keys if study["cooldowns"] else ():
        if any(overlap(key, own) for own in OF_COOLDOWNS):
            node = root.value[place.partition(".")[0]]
            message = f"{key} is set by `cooldowns`; leave it out of one of the two"
            yield node.problem(place, message)


def cooled_otherwise(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each arm with another schedule than that of the study's `cooldowns`."""
    problems = []
    for name, config in arms.items() if study["cooldowns"] else ():
        own = "cooldown" if config["cooldown"] else "optimizer.schedule"
        if config["cooldown"] or config["optimizer"]["schedule"] == "linear":
            message = f"`cooldowns` sets {own} of {name}, which has its own; leave one of them out"
            problems.append(root.value["cooldowns"].problem("cooldowns", message))
    return problems


def _wrong_space(
    key: str, choices: Any, tried: Sequence[str], in_all: Iterable[str]
) -> Iterator[str]:
    if key.partition(".")[0] in NOT_TUNED:
        yield "trials may not differ in it; leave it out"
    if both := [other for other in tried if overlap(key, other)]:
        yield f"the grid sets {both[0]}; leave it out of one of the two"
    if both := [other for other in in_all if overlap(key, other)]:
        yield f"tune.set sets {both[0]} in every trial; leave it out of one of the two"
    if isinstance(choices, dict) and any(isinstance(value, bool) for value in choices.values()):
        yield f"{choices} has a truth value for a number"
    elif isinstance(choices, list):
        for again in [v for n, v in enumerate(choices) if v in choices[:n]][:1]:
            yield f"{again!r} is in it twice; keep one"


def _with_itself(root: Node, study: Config) -> Iterator[Problem]:
    """A problem for each comparison of an arm with itself, and each width like one that moves."""
    for key, one, other in (("claims", "better", "worse"), ("controls", "arm", "than")):
        for index, item in enumerate(study[key]):
            if item[one] == item[other]:
                node = root.value[key].value[index]
                message = f"{one} and {other} are both {item[one]!r}; name two arms"
                yield node.problem(f"{key}.{index}", message)
    for arm, width in study["widths"].items():
        if width["like"] in study["widths"]:
            node = root.value["widths"].value[arm]
            message = f"the width of {width['like']} is solved for, too; name an arm that stays"
            yield node.problem(f"widths.{arm}.like", message)


def wrong_trials(
    root: Node,
    study: Config,
    arms: Mapping[str, Config],
    completed: Mapping[str, Callable[..., Config]],
) -> list[Problem]:
    """Problems of the values that trials get; `completed`: each arm with further overrides."""
    tune, problems = study["tune"], list[Problem]()
    if not tune:
        return problems
    cases = [(arm, "tune.set", tune["set"]) for arm in arms if tune["set"]]
    for key, choices in tune["space"].items():
        having = [arm for arm, config in arms.items() if _has(config, key)]
        if not having:
            message = "no arm has it; give the whole path, as in model.trunk.dim"
            node = root.value["tune"].value["space"].value[key]
            problems.append(node.problem(f"tune.space.{key}", message))
        for value in choices if having and isinstance(choices, list) else ():
            if type(value) not in (int, float):  # those are in tuning_space.py
                cases.append((having[0], f"tune.space.{key}", {key: value}))
    for arm, place, values in cases:
        try:
            completed[arm](as_overrides(values))
        except ConfigError as error:
            node = root.value["tune"]
            problems += [node.problem(place, f"{p.key}: {p.message}") for p in error.problems]
    return list(dict.fromkeys(problems))


def _has(config: Any, key: str) -> bool:
    first, _, rest = key.partition(".")
    if not isinstance(config, dict) or first not in config:
        return False
    return _has(config[first], rest) if rest else True
