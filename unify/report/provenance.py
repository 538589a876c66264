"""Where the numbers come from: How to reproduce, Environment, How each number was measured."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from unify.answers.not_matched import environments
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import WEIGHTS, Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, sentence
from unify.report.html import Html, Node, facts, fold, join, tag
from unify.runs.published_folder import AGAINST
from unify.runs.stored_scores import StoredScores

READING = "All at once, or one run at a time from the configuration that its folder holds:"
AT_ONCE = "All at once:"  # of a pooled study, whose runs have folders elsewhere


def reproduce_section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """Commands; hashes of configuration, code and data; every configuration folded below."""
    words = [study.info.get("file"), *(study.info.get("overrides") or [])]
    words += ["--against", f"{_place(study)}/{AGAINST}"] if study.published else []
    pooled = study.info.get("pooled") or []
    words += [f"seeds={study.seeds}"] if pooled and words[0] else []
    commands = [f"unify study {shlex.join(words)}"] if words[0] else []
    rows: list[list[Node]] = []
    place = _place(study)
    for run in study.runs:
        folder = f"{place}/{run.folder.name}"
        if not study.is_published(run.arm) and not pooled:
            commands += [f"unify train -c {folder}/config.yaml", f"unify eval {folder}"]
        digest = str(run.info.get("hash") or run.folder.name.rsplit("-", 1)[-1])
        data = str(run.info.get("data") or "not stated")
        who = f"{run.arm}, seed {run.seed}"
        rows.append([who, tag("code", digest), _commit(run), tag("code", data)])
    commands.append(f"unify report {place}")
    return join(
        [
            tag("p", AT_ONCE if pooled else READING),
            tag("pre", "\n".join(commands[:1]), class_="commands"),
            fold("Every command", tag("pre", "\n".join(commands), class_="commands")),
            fold("Hashes of every run", _hashes(rows)) if rows else None,
            fold("Configurations", join(_config(run) for run in study.runs if run.config)),
            _published(study),
            _pooled(pooled) if pooled else None,
        ]
    )


def _place(study: StudyRecord) -> str:
    return f"{study.folder.absolute().parent.name}/{study.folder.name}"


def _published(study: StudyRecord) -> Html | None:
    """Where the published arms are from, with the hash of their folder; None without any."""
    if study.published is None:
        return None
    about = study.published.about
    text = f"Published arms: the study {about['study']}, folder with the hash "
    return tag(
        "p",
        text,
        tag("code", about["hash"]),
        "; its files are in the folder ",
        tag("code", AGAINST),
    )


def _pooled(folders: Sequence[dict[str, Any]]) -> Html:
    """The published folders that a study is pooled from."""
    rows: list[list[Node]] = [
        [tag("code", str(f.get(key))) for key in ("folder", "hash", "seeds", "unify", "created")]
        for f in folders
    ]
    text = "Replicates of this study were trained at several places, and published:"
    return join([tag("p", text), facts(["folder", "hash", "seeds", "unify", "created"], rows)])


def _hashes(rows: Sequence[Sequence[Node]]) -> Html:
    return facts(["run", "config hash", "code (git)", "data"], rows)


def _config(run: RunRecord) -> Html:
    text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    return fold(f"config.yaml of {run.arm}, seed {run.seed}", tag("pre", text))


def _commit(run: RunRecord) -> Html:
    """The git commit, and whether what ran was more than it."""
    git = run.environment.get("git") or {}
    sha = tag("code", str(git.get("sha") or "not stated")[:12])
    return join([sha, " with changes (git.diff in the run folder)" if git.get("dirty") else None])


LONG = ("packages", "variables", "git.untracked", "command")  # keys that are folded away


def environment_section(study: StudyRecord, lines: Sequence[Line]) -> Html:
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


def measured_section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """Documentation of the metrics, and every passport once, with the scores that carry it.

    What names the run itself (weights, seed) is left out: results.json has it.
    """
    by_passport: dict[str, list[str]] = {}
    for row in study.rows:
        passport = {k: v for k, v in (row.get("passport") or {}).items() if k not in WEIGHTS}
        written = json.dumps(passport, indent=1, sort_keys=True, default=str)
        by_passport.setdefault(written, []).append(f"{row['arm']} s{row['seed']} {row['metric']}")
    folds = [
        fold(
            f"Passport {index}, of {plural(len(scores), 'score')}: {sentence(scores[:1])}"
            + (" ..." if len(scores) > 1 else ""),
            join([tag("pre", written), tag("p", ", ".join(scores), class_="quiet")]),
        )
        for index, (written, scores) in enumerate(by_passport.items(), 1)
    ]
    meanings = [tag("pre", text) for text in study.info.get("metrics") or []]
    return join([*meanings, _uncovered(study), *folds]) if folds else tag("p", "No scores.")


def _uncovered(study: StudyRecord) -> Html | None:
    """How many runs hold scores without a hash, as older versions stored them."""
    stored = [run.scores for run in study.runs if isinstance(run.scores, StoredScores)]
    older = sum(not scores.covered for scores in stored)
    text = (
        f"The scores of {plural(older, 'run')} were stored by an older version, without a hash: of "
        "edits it is known only that each value agrees with its outcomes, where these were kept."
    )
    return tag("p", text, class_="note") if older else None
