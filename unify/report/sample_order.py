"""The order of sample grids on the page."""

from collections.abc import Iterable, Sequence

from unify.answers.score_lines import TASKS


def in_order(names: Iterable[str], primary: Sequence[str]) -> list[str]:
    """Those of primary outcomes first, else all of their tasks, then one task after another."""
    shown: list[str] = []
    for parts in (outcome.split("/") for outcome in primary):
        task = [n for n in names if n.split("/")[0] == parts[0]]
        own = [n for n in task if {*n.split("/")} <= {*parts}]
        shown += own or sorted(task, key=lambda name: "heldout" in name)
    by_task = [n for task in TASKS for n in names if n.split("/")[0].startswith(task)]
    return list(dict.fromkeys([*shown, *by_task, *names]))
