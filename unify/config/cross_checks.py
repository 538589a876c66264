"""Checks across keys: loss weights, tasks and sampling settings against the model's class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unify.config.annotations import parameters
from unify.config.completion import Completion
from unify.config.loading import override
from unify.config.yaml_tree import COMMAND_LINE, ConfigError, Node, Problem, suggest
from unify.data.source import TASKS, Source, Task
from unify.paradigm import Fitted, NoSampler, Trainable
from unify.schema.experiment import Recipe
from unify.support.addresses import secret_in


def cross_checks(root: Node, completion: Completion) -> Node:
    """The completed tree with its sampling settings completed, too, by the model's signatures.

    Checks that more than one key takes part in; problems go to those of `completion`.
    """
    problems = completion.problems
    _tracker(root, problems)
    model = completion.classes.get("model")
    if model is None or not issubclass(model, (Trainable, Fitted)):
        return root
    if issubclass(model, Trainable):
        _loss_weights(root, model, problems)
        _ranks(root, problems)
    _tasks(root, model, completion)
    sampling = {
        f"{kind}_sampling": _sampling(root, model, kind, completion) for kind in ("image", "text")
    }
    return replace(root, value=root.value | {k: v for k, v in sampling.items() if v is not None})


def _loss_weights(root: Node, model: type[Trainable], problems: list[Problem]) -> None:
    node, terms = root.get("loss_weights"), getattr(model, "terms", None)
    if node is None or not isinstance(node.value, dict):
        return
    if terms is None:
        message = f"{model.__name__} declares no `terms`; add the names that its loss returns"
        problems.append(root.value["model"].problem("model", message))
        return
    for name, argument in model.optional.items():
        if (given := root.value["model"].get(argument)) is not None and given.value is not None:
            terms = terms | {name}
    listed = ", ".join(sorted(terms)) or "no terms"
    for name, child in node.value.items():
        if name not in terms:
            message = f"unknown term{suggest(name, terms)}; {model.__name__} returns {listed}"
            problems.append(child.problem(f"loss_weights.{name}", message))
    if node.value and all(child.value in (0, 0.0) for child in node.value.values()):
        problems.append(node.problem("loss_weights", "all are 0: nothing would be learned"))
    for name in sorted(terms - node.value.keys()):
        message = f"missing; {model.__name__} returns {listed}: add `{name}: 1.0`"
        problems.append(node.problem(f"loss_weights.{name}", message))


def _tasks(root: Node, model: type, completion: Completion) -> None:
    data, problems = root.get("data"), completion.problems
    node = data.get("tasks") if data is not None else None
    if data is None or node is None or not isinstance(node.value, dict):
        return
    try:
        known = _known_tasks(completion.classes.get("data.source"))
    except ValueError as error:
        problems.append(data.value["source"].problem("data.source", str(error)))
        return
    learns = getattr(model, "tasks", None if issubclass(model, Trainable) else known.keys())
    if learns is None or isinstance(learns, str):
        message = f'{model.__name__} needs `tasks`, a set as frozenset({{"caption"}})'
        problems.append(root.value["model"].problem("model", message))
        return
    for task, child in node.value.items():
        key = f"data.tasks.{task}"
        if task not in known:
            message = f"unknown task{suggest(task, known)}; tasks are {', '.join(known)}"
            problems.append(child.problem(key, message))
        elif not known[task].learned_by(learns):
            message = (
                f"{model.__name__} does not learn it; it learns {', '.join(sorted(learns))}: "
                f"say `{task}: null` to leave it out"
            )
            problems.append(child.problem(key, message))


def _known_tasks(source: type | None) -> dict[str, Task]:
    """Tasks by name: the shipped ones, and those that the class of the source brings."""
    return source.known_tasks() if source is not None and issubclass(source, Source) else TASKS


def _ranks(root: Node, problems: list[Problem]) -> None:
    """Problems of tasks whose rows the ranks of `machine` cannot share evenly."""
    data, machine = root.get("data"), root.get("machine")
    node = data.get("tasks") if data is not None else None
    if node is None or machine is None or not isinstance(node.value, dict):
        return
    counts = [machine.get(key) for key in ("devices", "nodes")]
    ranks = math.prod(c.value for c in counts if c is not None and type(c.value) is int)
    for task, message in uneven(node.plain(), ranks).items():
        problems.append(node.value[task].problem(f"data.tasks.{task}", message))


def uneven(tasks: Mapping[str, Any], ranks: int) -> dict[str, str]:
    """A message for each task whose rows do not divide over the ranks, by task."""
    return {
        task: f"{rows} rows do not divide over {ranks} ranks; write a multiple of {ranks}"
        for task, rows in tasks.items()
        if type(rows) is int and ranks > 1 and rows % ranks
    }


def _tracker(root: Node, problems: list[Problem]) -> None:
    key = "machine.tracker"
    for at, problem in enumerate(problems):  # one about it may repeat it
        if problem.key == key and ("://" in problem.message or "expected" in problem.message):
            message = "expected one address in quotes, or none; what is here is not repeated"
            problems[at] = replace(problem, message=message)
    machine = root.get("machine")
    node = machine.get("tracker") if machine is not None else None
    if node is not None and isinstance(node.value, str) and (held := secret_in(node.value)):
        problems.append(node.problem(key, held))


def _sampling(root: Node, model: type, kind: str, completion: Completion) -> Node | None:
    """`image_sampling` or `text_sampling`, completed; None if it cannot be."""
    key = f"{kind}_sampling"
    node = root.get(key)
    if node is None or not isinstance(node.value, dict):
        return None
    try:
        return _settings(node, model, kind, completion, key)
    except ValueError as error:
        completion.problems.append(root.value["model"].problem("model", str(error)))
        return None


def _settings(node: Node, model: type, kind: str, completion: Completion, key: str = "") -> Node:
    """Settings of `generate_image` or `generate_text`: the fields of the model's sampler."""
    accepted = parameters(getattr(model, f"{kind}_sampler", NoSampler))
    taker = f"{model.__name__}.generate_{kind}"
    if not accepted:
        taker += f" (without a dataclass as {kind}_sampler)"
    return replace(node, value=completion.arguments(node, node.value, accepted, taker, key))


def sampling_words(words: Sequence[str], model: type, kind: str) -> dict[str, Any]:
    """`key=value` words as settings of a model's `generate_image` or `generate_text`.

    Raises ConfigError for words that it does not take, with those that it does.
    """
    problems: list[Problem] = []
    given = override(Node({}, COMMAND_LINE), words, problems)
    done = _settings(given, model, kind, Completion(problems, Recipe, trusted=False, tiny=False))
    if problems:
        raise ConfigError(problems)
    return {key: done.value[key].plain() for key in given.value}
