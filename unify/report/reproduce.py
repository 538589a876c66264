"""The section How to reproduce: commands, and the hashes to hold against their results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import yaml

from unify.answers.score_lines import Line
from unify.answers.study_records import RunRecord, StudyRecord
from unify.report.html import Html, Node, fold, join, tag
from unify.report.page_parts import facts

READING = "All at once, or one run at a time from the configuration that its folder holds:"


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """Commands; hashes of configuration, code and data; every configuration folded below."""
    words = [study.info.get("file"), *(study.info.get("overrides") or [])]
    commands = [f"unify study {shlex.join(words)}"] if words[0] else []
    rows: list[list[Node]] = []
    place = f"{study.folder.absolute().parent.name}/{study.folder.name}"
    for run in study.runs:
        folder = f"{place}/{run.folder.name}"
        commands += [f"unify train -c {folder}/config.yaml", f"unify eval {folder}"]
        digest = str(run.info.get("hash") or run.folder.name.rsplit("-", 1)[-1])
        data = str(run.info.get("data") or "not stated")
        who = f"{run.arm}, seed {run.seed}"
        rows.append([who, tag("code", digest), _commit(run), tag("code", data)])
    commands.append(f"unify report {place}")
    return join(
        [
            tag("p", READING),
            tag("pre", "\n".join(commands), class_="commands"),
            facts(["run", "config hash", "code (git)", "data"], rows) if rows else None,
            *(_config(run) for run in study.runs if run.config),
        ]
    )


def _config(run: RunRecord) -> Html:
    text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    return fold(f"config.yaml of {run.arm}, seed {run.seed}", tag("pre", text))


def _commit(run: RunRecord) -> Html:
    """The git commit, and whether what ran was more than it."""
    git = run.environment.get("git") or {}
    sha = tag("code", str(git.get("sha") or "not stated")[:12])
    return join([sha, " with changes (git.diff in the run folder)" if git.get("dirty") else None])
