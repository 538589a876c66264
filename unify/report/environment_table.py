"""The section Environment: software, machines and command of the runs."""

from __future__ import annotations

from collections.abc import Sequence

from unify.answers.not_matched import environments
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import sentence
from unify.report.html import Html, Node, fold, join, tag
from unify.report.page_parts import facts

LONG = ("packages", "variables", "git.untracked", "command")  # keys that are folded away


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """A row for each key: the value that all runs had, or each value with its runs."""
    short: list[list[Node]] = []
    long: list[list[Node]] = []
    for key, values in environments(study):
        text = values[0][0]
        if len(values) > 1:
            text = "; ".join(
                f"{value} ({sentence([f'{r.arm} s{r.seed}' for r in runs])})"
                for value, runs in values
            )
        (long if key.startswith(LONG) else short).append([key, text])
    if not short and not long:
        return tag("p", "No environment was recorded.")
    header = ["", "all runs, unless a run is named"]
    more = fold("Packages, variables, command", facts(header, long, "settings")) if long else None
    return join([facts(header, short, "settings"), more])
