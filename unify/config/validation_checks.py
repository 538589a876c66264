"""What a study scores on validation data: checks of `sweep`, and the scores that `learned` needs.

A sweep sets samplers alone, and each arm must have something of what it sets.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unify.config.annotations import locate_class, parameters
from unify.config.completion import Completion
from unify.config.study_checks import measuring
from unify.config.tuning_space import SAMPLING
from unify.config.validation_metrics import FINAL, validation_metrics, watched
from unify.config.yaml_tree import Node, Problem, suggest
from unify.schema.completed import Config
from unify.schema.experiment import Recipe

NOT_GIVEN = {"split", *FINAL}  # arguments that are what they must be on validation data


def watch_learning(study: Config, arms: Mapping[str, Config]) -> None:
    """Let the arms of a study that asks whether they have learned score primary outcomes while they
    train; an arm's own `logging.scores` stay."""
    rule = study["learned"]
    for config in arms.values() if rule else ():
        if config["logging"]["scores"] is None:
            of_rule = {key: rule[key] for key in ("at", "evaluation")}
            names = dict.fromkeys(map(watched, study["primary"]))
            config["logging"]["scores"] = {"metrics": [*names], **of_rule}


def wrong_sweep(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each key of a study's `sweep` that sets nothing, or what is no sampler's, and
    for each argument of `sweep` and `learned` that no metric takes."""
    problems: list[Problem] = []
    if study["learned"] and not study["primary"]:
        message = "it is about primary outcomes; name some in `primary`"
        problems.append(root.value["learned"].problem("learned", message))
    elif study["learned"]:
        given = study["learned"]["evaluation"]
        problems += _evaluation(root, "learned", study["primary"], given, arms)
        problems += _unwatched(root, study, arms)
    if study["sweep"]:
        asked = study["sweep"]["metric"]
        names = asked if isinstance(asked, list) else [asked]
        problems += _space(root.value["sweep"], study["sweep"], arms)
        problems += _evaluation(root, "sweep", names, study["sweep"]["evaluation"], arms)
    return problems


def _unwatched(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """A problem for each primary outcome by which no arm can be scored while it trains."""
    for place, name in enumerate(study["primary"]):
        measured = [config for config in arms.values() if measuring(config, name)]
        if measured and not any(validation_metrics(config, [watched(name)]) for config in measured):
            message = (
                f"no metric of {name} takes `split`, so that nothing says whether an arm has "
                "learned by it; leave it out, or say `learned: null`"
            )
            yield root.value["primary"].value[place].problem(f"primary.{place}", message)


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


def _evaluation(
    root: Node,
    of: str,
    names: Sequence[str],
    given: Mapping[str, Any],
    arms: Mapping[str, Config],
) -> list[Problem]:
    """Problems of the arguments of metrics that the study's key `of` gives."""
    metrics = {
        metric["class"]: parameters(locate_class(metric["class"], trusted=True))
        for config in arms.values()
        for metric in validation_metrics(config, names)
    }
    problems: list[Problem] = []
    completion = Completion(problems, Recipe, trusted=False, tiny=False)
    for key in given:
        place, at = f"{of}.evaluation.{key}", root.value[of].value["evaluation"].value[key]
        takers = [accepted[key].hint for accepted in metrics.values() if key in accepted]
        if not takers or key in NOT_GIVEN:
            known = sorted({name for accepted in metrics.values() for name in accepted} - NOT_GIVEN)
            message = f"no metric of {' or '.join(names)} takes it{suggest(key, known)}"
            problems.append(at.problem(place, f"{message}; they take {', '.join(known)}"))
        for hint in takers:
            completion.value(at, hint, place)
    return list(dict.fromkeys(problems))
