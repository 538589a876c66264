"""Checks of a study's `sweep`: that it sets samplers alone, and that each arm has what it sets."""

from collections.abc import Mapping

from unify.config.annotations import locate_class, parameters
from unify.config.completion import Completion
from unify.config.tuning_space import SAMPLING
from unify.config.validation_metrics import validation_metrics
from unify.config.yaml_tree import Node, Problem, suggest
from unify.schema.completed import Config
from unify.schema.experiment import Recipe


def wrong_sweep(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each key of a study's `sweep` that sets nothing, or what is no sampler's."""
    if not study["sweep"]:
        return []
    node = root.value["sweep"]
    return [*_space(node, study["sweep"], arms), *_evaluation(node, study["sweep"], arms)]


def _space(node: Node, sweep: Config, arms: Mapping[str, Config]) -> list[Problem]:
    known = {
        f"{kind}.{key}" for kind in SAMPLING for config in arms.values() for key in config[kind]
    }
    problems = []
    for key in sweep["space"]:
        if key in known:
            continue
        message = f"no arm has it{suggest(key, known)}; a sweep sets {', '.join(sorted(known))}"
        problems.append(node.value["space"].value[key].problem(f"sweep.space.{key}", message))
    for arm, config in arms.items():
        own = {f"{kind}.{key}" for kind in SAMPLING for key in config[kind]}
        if not problems and not own & {*sweep["space"]}:
            message = f"{arm} has none of these; name a setting of its samplers"
            problems.append(node.value["space"].problem("sweep.space", message))
    return problems


def _evaluation(node: Node, sweep: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """Problems of the arguments of metrics."""
    names = sweep["metric"] if isinstance(sweep["metric"], list) else [sweep["metric"]]
    metrics = {
        metric["class"]: parameters(locate_class(metric["class"], trusted=True))
        for config in arms.values()
        for metric in validation_metrics(config, names)
    }
    problems: list[Problem] = []
    completion = Completion(problems, Recipe, trusted=False, tiny=False)
    for key in sweep["evaluation"]:
        place, at = f"sweep.evaluation.{key}", node.value["evaluation"].value[key]
        takers = [accepted[key].hint for accepted in metrics.values() if key in accepted]
        if not takers or key == "split":
            known = sorted({name for accepted in metrics.values() for name in accepted} - {"split"})
            message = f"no metric of {' or '.join(names)} takes it{suggest(key, known)}"
            problems.append(at.problem(place, f"{message}; they take {', '.join(known)}"))
        for hint in takers:
            completion.value(at, hint, place)
    return list(dict.fromkeys(problems))
