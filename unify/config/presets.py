"""The presets of a study: what belongs to one is filled in, and what contradicts it is refused.

confirmatory   each seed a pipeline of its own; test prompts that a committed file seals;
               verdicts on the comparisons that `families` names, and on no other, nor against an
               arm that has not learned yet
exploratory    three seeds, which share tokenizers and all else that arms start from; no verdict
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unify.config.loading import Tree
from unify.config.references import is_reference
from unify.config.study_checks import measuring
from unify.config.yaml_tree import COMMAND_LINE, Node, Problem, suggest
from unify.metrics.sealed_prompts import seal_of
from unify.schema.completed import Config

CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"
FILLED = {  # keys of a study that a preset gives where the file does not
    CONFIRMATORY: {"replicate": "all", "seeds": list(range(8))},
    EXPLORATORY: {"replicate": "arm", "seeds": [0, 1, 2]},
}
FEWEST_REPLICATES = 6  # with which the signs of the differences alone reach 5%: 2/2^6 = 0.031
SEEDS_OF_A_LOOK = 3
SHOWN = ("name", "title", "question", "figures")  # keys that decide no result
ONLY_CONFIRMATORY = ("preregistration", "families")  # keys without a meaning elsewhere

Check = Callable[[Node, Config, Mapping[str, Config]], Iterator[Problem]]


def with_preset(tree: Tree) -> Tree:
    """The tree of a study with the keys that its preset gives, as if the file had said them.

    The path of the pre-registration is made absolute: it is relative to the file that says it.
    """
    root, said = tree.root, tree.root.get("preset")
    given = dict(root.value)
    file = given.get("preregistration")
    if file is not None and isinstance(file.value, str) and file.value and not is_reference(file):
        given["preregistration"] = file.like(os.path.abspath(file.folder / file.value))
    preset = said.value if said is not None else None
    if said is not None and isinstance(preset, str) and preset in FILLED:
        filled: dict[str, Any] = dict(FILLED[preset])
        if preset == CONFIRMATORY and (named := _named_metrics(root.get("families"))):
            filled |= {"primary": named, "learned": {}}  # a rule about primary outcomes
        given |= {key: said.like(value) for key, value in filled.items() if key not in given}
    return replace(tree, root=replace(root, value=given))


def _named_metrics(families: Node | None) -> list[str]:
    """The metrics of the families' comparisons, each once; of what is written wrongly, none."""
    content = families.plain() if families is not None else None
    lists = content.values() if isinstance(content, dict) else ()
    each = [one for some in lists if isinstance(some, list) for one in some]
    named = [one.get("metric") for one in each if isinstance(one, dict)]
    return list(dict.fromkeys(metric for metric in named if isinstance(metric, str)))


def seal_evaluation(study: Config, arms: Mapping[str, Config]) -> None:
    """Let every metric of a confirmatory study's arms that can be sealed ask the sealed test."""
    if study["preset"] == CONFIRMATORY and study["preregistration"]:
        for config in arms.values():
            for metric in config["evaluation"]:
                if metric.get("sealed", "") is None:
                    metric["sealed"] = study["preregistration"]


def contradictions(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each key of a study that does not go with its preset, or that it lacks."""
    checks: dict[str, Sequence[Check]] = {
        CONFIRMATORY: (_from_the_file, _replicates, _sealing, _named_families, _sealed_outcomes),
        EXPLORATORY: (_look, _left_out, _unsealed),
        "": (_left_out,),
    }
    return [problem for check in checks[study["preset"]] for problem in check(root, study, arms)]


def _at(root: Node, key: str) -> Node:
    """The node of a key, of the preset where the file does not have it."""
    return root.get(key) or root.get("preset") or root


def _other_replicate(root: Node, study: Config, why: str) -> Iterator[Problem]:
    """A problem where seeds share something else than the preset says."""
    said, preset = study["replicate"], study["preset"]
    if said != FILLED[preset]["replicate"]:
        message = f"{said} contradicts `preset: {preset}`, {why}"
        yield _at(root, "replicate").problem("replicate", message)


def _from_the_file(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of a confirmatory study: nothing that is compared, or how, is said in passing."""
    for key, node in root.value.items():
        if key not in SHOWN and _on_the_command_line(node):
            yield node.problem(
                key,
                "what a confirmatory study compares stands in its file, where it can be seen when "
                "it was written: say it there",
            )


def _on_the_command_line(node: Node) -> bool:
    inside = node.value.values() if isinstance(node.value, dict) else node.value
    parts = inside if isinstance(node.value, dict | list) else ()
    return node.file == COMMAND_LINE or any(map(_on_the_command_line, parts))


def _replicates(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of a confirmatory study: whole pipelines, and enough of them."""
    why = "whose seeds share nothing; leave `replicate` out, or the preset"
    yield from _other_replicate(root, study, why)
    if len(study["seeds"]) < FEWEST_REPLICATES:
        yield _at(root, "seeds").problem(
            "seeds",
            f"{len(study['seeds'])} are too few for `preset: confirmatory`, which takes "
            f"{FEWEST_REPLICATES} at least: name more, or leave `seeds` out (0 to 7), or take "
            "`preset: exploratory`",
        )


def _sealing(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of a confirmatory study: a file that is committed, and the only one that seals prompts."""
    file = study["preregistration"]
    if not file:
        yield _at(root, "preregistration").problem(
            "preregistration",
            "missing; `preset: confirmatory` needs the file that says beforehand what is compared: "
            "add `preregistration: FILE`, and commit it",
        )
        return
    try:
        seal_of(file)
    except ValueError as error:
        message = str(error).removeprefix("sealed: ")
        yield _at(root, "preregistration").problem("preregistration", message)
    for name, config in arms.items():
        for place, metric in enumerate(config["evaluation"]):
            if metric.get("sealed", file) != file:
                yield _at(root, "arms").problem(
                    f"arms.{name}.evaluation.{place}.sealed",
                    f"{metric['sealed']} is not the study's pre-registration, which seals all of a "
                    "confirmatory study; leave `sealed` out",
                )


def _named_families(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of a confirmatory study: comparisons of its own arms, each named once."""
    if not study["families"]:
        yield _at(root, "families").problem(
            "families",
            "missing; `preset: confirmatory` gives a verdict on named comparisons alone: add "
            "`families: {NAME: [{metric: M, first: ARM, second: ARM}]}`",
        )
    apart = {control["arm"] for control in study["controls"]}
    seen: set[tuple[str, frozenset[str]]] = set()
    for key, node, contrast in _contrasts(root, study):
        for role in ("first", "second"):
            if (arm := contrast[role]) not in arms:
                hint = suggest(arm, arms) or f"; it has {', '.join(arms)}"
                yield node.problem(f"{key}.{role}", f"no arm {arm!r}{hint}")
            elif arm in apart:
                message = f"{arm} is the arm of a control, which is tried by itself; name another"
                yield node.problem(f"{key}.{role}", message)
        pair = contrast["metric"], frozenset((contrast["first"], contrast["second"]))
        if len(pair[1]) < 2:
            yield node.problem(key, f"compares {contrast['first']} with itself; name two arms")
        elif pair in seen:
            message = "this metric of these arms is named before; name each comparison once"
            yield node.problem(key, message)
        seen.add(pair)
        if contrast["metric"] not in study["primary"]:
            yield _at(root, "primary").problem(
                "primary", f"lacks {contrast['metric']} of {key}; add it, or leave `primary` out"
            )


def _contrasts(root: Node, study: Config) -> Iterator[tuple[str, Node, Config]]:
    """(key, node, comparison) of each that the families name."""
    for name, family in study["families"].items():
        for place, contrast in enumerate(family):
            yield f"families.{name}.{place}", _at(root, "families").value[name], contrast


def _sealed_outcomes(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of a confirmatory study: named outcomes that ask sealed prompts of the test split."""
    for key, node, contrast in _contrasts(root, study):
        for arm in (contrast["first"], contrast["second"]):
            metrics = measuring(arms[arm], contrast["metric"]) if arm in arms else []
            sealed = [metric for metric in metrics if "sealed" in metric]
            if metrics and not sealed:
                name = metrics[0]["class"].rpartition(".")[2].rpartition(":")[2]
                message = f"{name} of {arm} takes no `sealed`: everybody knows what it asks"
                yield node.problem(key, f"{message}; name an outcome that can be sealed")
            for metric in sealed:
                if metric.get("split", "test") != "test":
                    message = f"{arm} asks the {metric['split']} split; take `split` out"
                    yield node.problem(key, f"the evaluation of {message}")


def _look(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of an exploratory study: three seeds that share what they start from."""
    why = "whose seeds share tokenizers; leave `replicate` out, or take `preset: confirmatory`"
    yield from _other_replicate(root, study, why)
    if len(study["seeds"]) != SEEDS_OF_A_LOOK:
        yield _at(root, "seeds").problem(
            "seeds",
            f"{len(study['seeds'])} contradict `preset: exploratory`, which has "
            f"{SEEDS_OF_A_LOOK}; leave `seeds` out (0 to 2), or the preset",
        )


def _left_out(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of any other study: what only a confirmatory one has."""
    instead = f"`preset: {study['preset']}`" if study["preset"] else "a study without a preset"
    for key in ONLY_CONFIRMATORY:
        if study[key]:
            yield _at(root, key).problem(
                key,
                f"contradicts {instead}; leave it out, or take `preset: confirmatory`, which it "
                "belongs to",
            )


def _unsealed(root: Node, study: Config, arms: Mapping[str, Config]) -> Iterator[Problem]:
    """Of an exploratory study: no look at a sealed test."""
    for name, config in arms.items():
        for place, metric in enumerate(config["evaluation"]):
            if metric.get("sealed") is not None:
                yield _at(root, "arms").problem(
                    f"arms.{name}.evaluation.{place}.sealed",
                    "contradicts `preset: exploratory`, which would spend a sealed test by looking "
                    "at it; leave `sealed` out",
                )
