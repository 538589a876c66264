"""A study file to its arms, each a completed config of its own."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from unify.config.completion import Completion
from unify.config.grid import Point, arm_name, as_overrides, of_budget, of_experiment, points
from unify.config.loaders import build_top, complete
from unify.config.loading import Tree, arm, finish, load
from unify.config.presets import contradictions, seal_evaluation, with_preset
from unify.config.read_once import once
from unify.config.study_checks import (
    commas,
    large_seeds,
    measured_twice,
    names_of_trials,
    same_arms,
    small_budgets,
    unmeasured,
    wrong_arms,
)
from unify.config.study_conflicts import conflicts, cooled_otherwise, wrong_trials
from unify.config.tuning_space import tried_beyond
from unify.config.validation_checks import watch_learning, wrong_sweep
from unify.config.yaml_tree import ConfigError, Node, Problem, suggest
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.schema.study import PUBLISHED_ARM, Budget, Study

NAMING_ARMS = {"claims": ("better", "worse"), "controls": ("arm", "than")}  # key -> roles of arms
# keys in which two draws of one arm may differ
OUTSIDE_OF_ARM = (
    "name", "study", "seeds", "needed_seeds", "replicate", "machine", "logging", "tiny",
)  # fmt: skip


def load_study(
    path: str | Path,
    overrides: Sequence[str] = (),
    tiny: bool = False,
    one_arm: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Study, dict[str, Config]]:
    """A study and its arms, completed: file < the study's `set` < the arm's own keys < overrides.

    With a `grid`, each of its points makes an arm of every one. Completed once for the same
    arguments while the files stay as they are. Raises ConfigError.

    Args:
        overrides: `key=value` words; one whose first word is a key of Study (`seeds`, `name`, ...)
            changes the study, any other every arm.
        tiny: whether to merge the arms' `tiny` blocks.
        one_arm: arm -> overrides that change that arm alone.
    """
    own = tuple((name, tuple(words)) for name, words in (one_arm or {}).items())
    return copy.deepcopy(_study(str(path), tuple(overrides), tiny, own))


@once
def _study(
    path: str,
    overrides: tuple[str, ...],
    tiny: bool,
    one_arm: tuple[tuple[str, tuple[str, ...]], ...],
) -> tuple[Study, dict[str, Config]]:
    of_study, of_arms = _split(overrides)
    tree = with_preset(load(path, of_study))
    study = complete(tree, Study)
    if problems := wrong_arms(tree.root.value["arms"].value):
        raise ConfigError(problems)
    configs: dict[str, Config] = {}
    files: dict[str, Any] = {}  # of the arms, as the study names them
    with_more: dict[str, Callable[..., Config]] = {}  # an arm with further overrides
    names: list[str] = []
    grid = points(tree.root.get("grid"), problems)
    for base, node in tree.root.value["arms"].value.items():
        for point in grid:
            name = arm_name(base, point, grid)
            names.append(name)
            files[name] = study["arms"][base]
            if of_budget(point):
                study["budgets"][name] = _budget_at(point, tree, problems)
            own = dict(one_arm).get(name, ())
            words = [*as_overrides(of_experiment(point)), *of_arms, *own]
            with_more[name] = partial(_arm, name, node, tree, study["name"], tiny, words)
            try:
                configs[name] = with_more[name]()
            except ConfigError as error:
                problems += [node.problem(f"arms.{name}", str(p)) for p in error.problems]
    problems += _names_of_arms(tree, study, names) + conflicts(tree.root, study, of_arms)
    seal_evaluation(study, configs)
    watch_learning(study, configs)
    # values that were drawn for each arm under a seed may differ where the files do not
    drawn = bool(one_arm) and study["replicate"] == "all"
    problems = problems or _meanings(tree, study, configs, drawn)
    problems = problems or ([] if one_arm else wrong_trials(tree.root, study, configs, with_more))
    if problems:
        raise ConfigError(problems)
    return build_top(study | {"arms": files}, Study, path), configs


def _budget_at(point: Point, tree: Tree, problems: list[Problem]) -> Config:
    """The study's budget as a point of the grid changes it, completed."""
    grid, given = tree.root.value["grid"], tree.root.get("budget")
    own = given.value if given is not None and isinstance(given.value, dict) else {}
    node = grid.like(of_budget(point))
    completion = Completion([], Study, tree.trusted, tree.tiny)
    done = completion.value(replace(node, value={**own, **node.value}), Budget, "grid.budget")
    problems += completion.problems
    return done.plain()


def _names_of_arms(tree: Tree, study: Config, names: Sequence[str]) -> list[Problem]:
    """Problems of the arms' names, and of places that name none of them."""
    plain = [f"{name},default" for name in names if (study["tune"] or {}).get("defaults")]
    problems = _missing_arms(tree, study, {*names, *plain})
    problems += same_arms([*names, *plain], tree.root.value["arms"]) + commas(study, tree.root)
    return problems + names_of_trials(study, names, tree.root)


def _meanings(
    tree: Tree, study: Config, configs: Mapping[str, Config], drawn: bool
) -> list[Problem]:
    """Problems of what is asked of arms that are complete; `drawn`: each at values of its own."""
    problems = [] if drawn else _controls_of_unlike_arms(tree.root.value, study, configs)
    problems += [] if drawn else _controls_of_shared_runs(tree.root.value, study, configs)
    checks = (unmeasured, measured_twice, small_budgets, large_seeds, tried_beyond, wrong_sweep)
    for check in (*checks, contradictions, cooled_otherwise):
        problems += check(tree.root, study, configs)
    return problems


def _split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of the study, and those of its arms."""
    keys = {field.name for field in fields(Study)}
    of_study: list[str] = []
    of_arms: list[str] = []
    for word in overrides:
        first = word.removeprefix("--").partition("=")[0].partition(".")[0]
        (of_study if first in keys else of_arms).append(word)
    return of_study, of_arms


def _arm(
    name: str,
    node: Node,
    tree: Tree,
    study: str,
    tiny: bool,
    overrides: Sequence[str],
    more: Sequence[str] = (),
) -> Config:
    problems: list[Problem] = []
    root = arm(node, tree.root.get("set"), problems)
    merged = finish(root, problems, [*overrides, *more], tiny, tree.trusted)
    named = {**merged.root.value, "study": node.like(study), "name": node.like(name)}
    return complete(replace(merged, root=replace(merged.root, value=named)), Recipe)


def _missing_arms(tree: Tree, study: Config, arms: Collection[str]) -> list[Problem]:
    """A problem for each arm that the study names and does not have.

    Claims and the baseline may name published arms, which only `unify study --against` knows.
    """
    return [
        node.problem(key, f"no arm {name!r}{_instead(name, arms)}")
        for key, node, name in _named_arms(tree.root.value, study)
        if name and name not in arms and not (may_be_published(key) and is_published(name))
    ]


def may_be_published(key: str) -> bool:
    """True for a place of a study that may name a published arm."""
    return key.partition(".")[0] in ("baseline", "claims")


def is_published(arm: str) -> bool:
    """True for the name of an arm of a published study."""
    return arm.startswith(PUBLISHED_ARM)


def _named_arms(nodes: Mapping[str, Node], study: Config) -> Iterator[tuple[str, Node, str]]:
    """(key, node, arm) for each place of a study that names an arm."""
    if study["baseline"]:
        yield "baseline", nodes["baseline"], study["baseline"]
    for key, roles in NAMING_ARMS.items():
        for index, item in enumerate(study[key]):
            for role in roles:
                node = nodes[key].value[index].value[role]
                yield f"{key}.{index}.{role}", node, item[role]
    for base, width in study["widths"].items():
        for key, name in ((f"widths.{base}", base), (f"widths.{base}.like", width["like"])):
            yield key, nodes["widths"].value[base], name
    for base, node in nodes["budgets"].value.items() if "budgets" in nodes else ():
        yield f"budgets.{base}", node, base


def _controls_of_unlike_arms(
    nodes: Mapping[str, Node], study: Config, configs: Mapping[str, Config]
) -> list[Problem]:
    """A problem for each `expect: same` without a margin whose arms are not one experiment.

    Two draws of one arm show what seeds do; of unlike arms only a margin can say that they are the
    same.
    """
    problems = []
    for index, control, one, other in _same_controls(study, configs):
        pair = control["arm"], control["than"]
        if control["margin"]:
            continue
        if unlike := _first_difference(one, other, OUTSIDE_OF_ARM):
            why = (
                f"{pair[0]} is no second draw of {pair[1]}: they differ in {unlike}; give a "
                "`margin` within which they count as the same, or the same experiment under other "
                "`seeds`"
            )
            problems.append(nodes["controls"].value[index].problem(f"controls.{index}", why))
    return problems


def _controls_of_shared_runs(
    nodes: Mapping[str, Node], study: Config, configs: Mapping[str, Config]
) -> list[Problem]:
    """A problem for each `expect: same` of one experiment, a run of whose arm is one of `than`.

    The study's seed is added to an arm's own, so 1 under 0 is 0 under 1: one training on both sides
    makes any difference small.
    """
    problems = []
    for index, control, one, other in _same_controls(study, configs):
        pair = control["arm"], control["than"]
        same_needed = one.get("needed_seeds") == other.get("needed_seeds")
        shifts = {own - other["seeds"][name] for name, own in one["seeds"].items()}
        if _first_difference(one, other, OUTSIDE_OF_ARM) or not same_needed or len(shifts) > 1:
            continue
        (shift,) = shifts
        seeds = sorted(study["seeds"])
        if shared := [seed for seed in seeds if seed + shift in seeds]:
            far = dict.fromkeys(other["seeds"], max(other["seeds"].values()) + 1000 + seeds[-1])
            why = (
                f"{pair[0]} under seed {shared[0]} is {pair[1]} under seed {shared[0] + shift}: "
                f"one training on both sides; give {pair[0]} other `seeds`, such as {far}"
            ).replace("'", "")
            problems.append(nodes["controls"].value[index].problem(f"controls.{index}", why))
    return problems


def _same_controls(
    study: Config, configs: Mapping[str, Config]
) -> Iterator[tuple[int, Config, Config, Config]]:
    """Place, control, and what either arm trains by, of each `expect: same` of known arms."""
    for index, control in enumerate(study["controls"]):
        pair = control["arm"], control["than"]
        if control["expect"] == "same" and configs.keys() >= {*pair}:
            one, other = (
                {**configs[arm], "budget": study["budgets"].get(arm, study["budget"])}
                for arm in pair
            )
            yield index, control, one, other


def _first_difference(one: Any, other: Any, outside: Collection[str] = ()) -> str:
    """The dotted key of the first value in which two configurations differ; empty if in none."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return ""
    for key in [*one, *(key for key in other if key not in one)]:
        mine, others = one.get(key), other.get(key)
        if key not in outside and mine != others:
            return ".".join(filter(None, (key, _first_difference(mine, others))))
    return ""


def _instead(word: str, arms: Collection[str]) -> str:
    return suggest(word, arms) or f"; it has {', '.join(sorted(arms))}"
