"""Arms of a published study as records: what a report compares a study's own arms with.

They are named `published/<arm>`: no arm of a study may have a slash in its name, so none is taken
for one of these. Those of a study that is pooled from published ones keep their names. Nothing here
was trained or scored again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unify.answers.run_records import RunRecord
from unify.runs.folder import FACTS
from unify.runs.published_folder import AGAIN, PUBLISHED, PublishedFolder, read_published
from unify.runs.sampler_settings import settings_from
from unify.runs.stored_scores import PROMPTS, StoredScores, check_agreement
from unify.runs.study_files import Row
from unify.schema.study import PUBLISHED_ARM
from unify.support.strict_json import NUMBER, Types, damaged, wrong_type

SPEED = "generate"  # a task whose scores are of the machine that they were measured on
ROW: Types = {
    **dict.fromkeys(("value", "n", "low", "high", "distinct"), NUMBER),
    **dict.fromkeys(("metric", "unit", "better", "paradigm"), str),
}
CONFIG: Types = dict.fromkeys(("data", "seeds", "model"), dict)
OF_ENTRY = ("metric", "passport", "seeds")  # keys of `scores`; the others are those of rows


@dataclass
class PublishedArms:
    """What a study is compared with. `about`: study, title, unify, created, primary, replicate and
    hash."""

    about: dict[str, Any]
    arms: dict[str, dict[str, Any]]  # entries as those of study.json, with `published` and `seeds`
    rows: list[Row] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    before: dict[str, RunRecord] = field(default_factory=dict)

    @property
    def metrics(self) -> set[str]:
        return {row["metric"] for row in self.rows}


def load_published(folder: Path) -> PublishedArms:
    """The arms of a published study without its controls. ValueError for a folder not whole."""
    return arms_of(read_published(folder), folder, PUBLISHED_ARM)


def arms_of(read: PublishedFolder, folder: Path, prefix: str = "") -> PublishedArms:
    """The arms of a published folder by their names behind `prefix`.

    Without a prefix all that it holds: controls and speeds, too. ValueError for damaged content.
    """
    try:
        return _arms(read, folder, prefix)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(damaged(folder / PUBLISHED, reason, AGAIN)) from error


def pooled_arms(
    folder: Path, info: Mapping[str, Any]
) -> tuple[list[Row], list[RunRecord], dict[str, RunRecord]]:
    """Rows, runs and those before them of a study made by `unify.answers.pool`, from the published
    folders in its own. ValueError for one that is not what was pooled."""
    each = []
    for stated in info["pooled"]:
        copy = folder / str(stated.get("folder"))
        read = read_published(copy)
        if read.hash != stated.get("hash"):
            raise ValueError(f"{copy} is not what was pooled; `unify pool` makes {folder} anew")
        each.append(arms_of(read, copy))
    order = list(info["arms"])
    if unknown := sorted({arm for made in each for arm in made.arms} - {*order}):
        raise ValueError(
            f"{folder} lacks {unknown[0]}, which was pooled; `unify pool` makes it anew"
        )
    rows = [row for made in each for row in made.rows]
    runs = [run for made in each for run in made.runs]
    rows.sort(key=lambda row: (order.index(row["arm"]), row["seed"]))
    runs.sort(key=lambda run: (order.index(run.arm), run.seed))
    return rows, runs, {digest: run for made in each for digest, run in made.before.items()}


OF_ARM = ("paradigm", "doc", "file", "needs", "trials", "settings")


def _arms(read: PublishedFolder, folder: Path, prefix: str) -> PublishedArms:
    content = read.content
    keys = ("study", "title", "unify", "created", "primary", "replicate", "sweep", "hash")
    made = PublishedArms({key: content.get(key) for key in keys}, {})
    for place, (name, entry) in enumerate(content["arms"].items()):
        if prefix and entry.get("control"):
            continue
        arm = f"{prefix}{name}"
        made.arms[arm] = {
            **{key: entry.get(key) for key in OF_ARM},
            "published": made.about,
            "seeds": [int(facts["seed"]) for facts in entry["runs"]],
        }
        rows = _rows(arm, entry, content["passports"])
        made.runs += _runs(arm, name, entry, folder / str(place), rows, read.outcomes)
        made.rows += [row for row in rows if not (prefix and row["metric"].split("/")[0] == SPEED)]
    for place, (digest, facts) in enumerate((content.get("needed") or {}).items()):
        info = _checked({**facts, "state": "finished"}, FACTS)
        needed = RunRecord(folder / f"needed-{place}", str(facts.get("name")), 0, info)
        needed.card = {}
        made.before[digest] = needed
    return made


def _rows(arm: str, entry: Mapping[str, Any], passports: Sequence[Any]) -> list[Row]:
    """The scores of an arm, one for each seed."""
    rows: list[Row] = []
    for scores in entry["scores"]:
        about = {"arm": arm, "paradigm": entry.get("paradigm"), "metric": scores["metric"]}
        values = {key: value for key, value in scores.items() if key not in OF_ENTRY}
        passport = passports[scores["passport"]]
        for place, seed in enumerate(scores["seeds"]):
            own = {k: v[place] if isinstance(v, list) else v for k, v in values.items()}
            row = {**about, "seed": int(seed), **own, "passport": dict(passport)}
            rows.append(_checked(row, ROW))
    return rows


def _runs(
    arm: str,
    name: str,
    entry: Mapping[str, Any],
    folder: Path,
    rows: Sequence[Row],
    arrays: Mapping[str, Any],
) -> list[RunRecord]:
    """The replicates of an arm, with their outcomes. ValueError for scores that disagree."""
    runs = []
    for place, facts in enumerate(entry["runs"]):
        seed = int(facts["seed"])
        run = RunRecord(
            folder.with_name(f"{folder.name}-s{seed}"),
            arm,
            seed,
            _checked({**facts, "arm": arm, "state": "finished"}, FACTS),
            _checked({**entry["config"], "seeds": facts.get("seeds") or {}}, CONFIG),
        )
        run.outcomes = {m: arrays[f"{name}/{m}"][place] for m in entry["outcomes"]}
        digests = {m: digest for m, digest in entry["outcomes"].items() if digest is not None}
        run.outcomes |= {PROMPTS + m: arrays[PROMPTS + digest] for m, digest in digests.items()}
        own = [row for row in rows if row["seed"] == seed]
        check_agreement(own, run.outcomes)
        run.scores = StoredScores("", True, own, True)
        run.card = {"tasks": tasks} if (tasks := entry.get("tasks")) else {}
        tried = facts.get("tried_settings")
        run.tried_settings = settings_from(tried) if tried else None
        run.curve = [
            _checked(record, dict.fromkeys(record.keys() - {"kind"}, NUMBER))
            for record in facts.get("curve") or []
        ]
        run.consumed = {
            task: {int(count): str(digest) for count, digest in read}
            for task, read in (facts.get("consumed") or {}).items()
        }
        runs.append(run)
    return runs


def _checked(content: dict[str, Any], types: Types) -> dict[str, Any]:
    """The content; ValueError for a key with a value of another type."""
    if wrong := wrong_type(content, types):
        raise ValueError(wrong)
    return content
