"""Where the numbers of a report come from: commands, hashes, machines, passports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

import yaml

from unify.report import budget_and_data
from unify.report.html import Html, Node, fold, join, tag
from unify.report.study_records import RunRecord, StudyRecord
from unify.report.tables import facts
from unify.report.words import plural, sentence

LONG = ("packages", "variables", "git.untracked", "command")  # of the environment: folded away


def reproduce(study: StudyRecord) -> Html:
    """Commands, and what to hold against them: configuration, code and data by hash."""
    words = [study.info.get("file"), *(study.info.get("overrides") or [])]
    commands = [f"unify study {shlex.join(words)}"] if words[0] else []
    rows: list[list[Node]] = []
    place = f"{study.folder.absolute().parent.name}/{study.folder.name}"
    for run in study.runs:
        folder = f"{place}/{run.folder.name}"
        commands += [f"unify train -c {folder}/config.yaml", f"unify eval {folder}"]
        digest = str(run.info.get("hash") or run.folder.name.rsplit("-", 1)[-1])
        data = str(run.info.get("data") or "not stated")
        rows.append(
            [f"{run.arm}, seed {run.seed}", tag("code", digest), code(run), tag("code", data)]
        )
    commands.append(f"unify report {place}")
    configs = [
        fold(
            f"config.yaml of {run.arm}, seed {run.seed}",
            tag("pre", yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)),
        )
        for run in study.runs
        if run.config
    ]
    return join(
        [
            tag(
                "p",
                "All at once, or one run at a time from the configuration that its folder holds:",
            ),
            tag("pre", "\n".join(commands), class_="commands"),
            facts(["run", "config hash", "code (git)", "data"], rows) if rows else None,
            *configs,
        ]
    )


def code(run: RunRecord) -> Html:
    """The commit, and whether what ran was more than it."""
    git = run.environment.get("git") or {}
    sha = tag("code", str(git.get("sha") or "not stated")[:12])
    return join([sha, " with changes (git.diff in the run folder)" if git.get("dirty") else None])


def machine(runs: Sequence[RunRecord]) -> str:
    """The devices an arm ran on."""
    said = []
    for run in runs:
        devices = [str(d.get("name")) for d in run.environment.get("accelerators") or []]
        cpu, cores = run.environment.get("cpu"), run.environment.get("cores")
        if not devices and cpu:
            devices = [f"{cpu}, {plural(cores, 'core')}" if cores else str(cpu)]
        said.append(" + ".join(devices))
    return "; ".join(dict.fromkeys(filter(None, said))) or "not stated"


def environment(study: StudyRecord) -> Html:
    """What every run had, and by run what only some had."""
    short: list[list[Node]] = []
    long: list[list[Node]] = []
    for key, values in budget_and_data.environments(study):
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
    return join(
        [
            facts(header, short, "settings"),
            fold("Packages, variables, command", facts(header, long, "settings")) if long else None,
        ]
    )


def measured(study: StudyRecord) -> Html:
    """What each metric is, and every passport once, with the scores that carry it."""
    by_passport: dict[str, list[str]] = {}
    for row in study.rows:
        written = json.dumps(row.get("passport") or {}, indent=1, sort_keys=True, default=str)
        by_passport.setdefault(written, []).append(f"{row['arm']} s{row['seed']} {row['metric']}")
    folds = [
        fold(
            f"Passport {index}, of {plural(len(whose), 'score')}: {sentence(whose[:1])}"
            + (" ..." if len(whose) > 1 else ""),
            join([tag("pre", written), tag("p", ", ".join(whose), class_="quiet")]),
        )
        for index, (written, whose) in enumerate(by_passport.items(), 1)
    ]
    meanings = [tag("pre", text) for text in study.info.get("metrics") or []]
    return join([*meanings, *folds]) if folds else tag("p", "No scores.")
