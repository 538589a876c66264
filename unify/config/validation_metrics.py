"""An arm's metrics on validation data: by them settings are chosen, and training is watched."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from unify.config.study_checks import gives, scores_of
from unify.schema.completed import Config

Node = dict[str, Any]  # a completed node of `evaluation`
# arguments of metrics that ask for what only final scores may see
FINAL = {"heldout": 0, "sealed": None}
HELDOUT = "/heldout"  # ends the name of a score of what is held out


def watched(name: str) -> str:
    """The score that stands for an outcome while arms train: that of its whole measure for what is
    held out, which nothing asks before the end."""
    return name.removesuffix(HELDOUT)


def scored_steps(shares: Iterable[float], steps: int) -> set[int]:
    """The steps at which a run of so many is scored while it trains, at these shares of them."""
    return {max(1, round(share * steps)) for share in shares}


def validation_metrics(
    config: Config, names: Collection[str] = (), arguments: Mapping[str, Any] | None = None
) -> list[Node]:
    """The metrics of an arm that are measured on a split, on that of validation.

    Held-out pairs and sealed prompts are left to the final scores.

    Args:
        config: a completed experiment.
        names: only metrics that give one of these scores are taken; none named: all.
        arguments: put in place of a metric's own, where it has them.
    """
    nodes = []
    for node in config["evaluation"]:
        patterns = [*scores_of(node, config)]
        asked = not names or any(gives(p, name) for p in patterns for name in names)
        if "split" in node and asked:
            own = {**(arguments or {}), **FINAL}
            changed = {key: value for key, value in own.items() if key in node}
            nodes.append({**node, **changed, "split": "validation"})
    return nodes
