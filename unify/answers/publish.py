"""What of a study is published: its arms' settings, budgets, scores and outcomes, by replicate.

published.json
    study, title, question, file, primary, replicate, sweep, created, unify
    planned     the seeds that the study is to have, of which the folder may hold one alone
    asked       all else that study.json says, but for what is of one call: claims, families ...
    tuning      entries of tuning.json
    arms        by name: paradigm, doc, file, control, trials, settings, config, tasks, and
        runs      a mapping for each replicate: seed, seeds, weights, data, FLOPs, environment ...
        scores    for each metric and way of measuring: seeds, and a list over them of value, n,
                  low, high (one value where all are equal); `passport`, a place in `passports`
        outcomes  metric -> the digest of its prompts' index, or null
    passports   how scores were measured, each once, with the digest of the prompts that were asked
    needed      by the hash of their weights: what the runs before these took to train
outcomes.npz
    <arm>/<metric>     [replicate, trial], in the order of the prompts that the passport digests
    prompts/<digest>   [trial], the index of each trial's distinct prompt
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from unify import __version__
from unify.answers.run_records import RunRecord
from unify.answers.sampler_sweeps import settings_tried
from unify.answers.score_lines import WEIGHTS
from unify.answers.study_records import StudyRecord
from unify.answers.tuned_arms import tuned_arms
from unify.answers.words import seeds_text, sentence
from unify.runs.published_folder import check_own_folder, write_published
from unify.runs.stored_scores import PROMPTS, StoredScores, content_hash
from unify.runs.study_files import Row
from unify.support.portable import portable

OF_ROW = ("arm", "paradigm", "seed", "metric", "passport")  # keys said once for many scores
# keys of study.json that are said elsewhere, or are of one place
NOT_ASKED = ("arms", "runs", "results", "created", "against", "tuned", "seeds", "pooled")
NOT_SAID = ("name", "study", "machine", "logging", "tiny")  # keys of a configuration: of the place
OF_RUN = (  # keys of run.json
    *("seed", "hash", "weights", "data", "source", "precision", "steps", "rows_per_step"),
    *("tokens_per_step", "flops_per_step", "encoding_flops_per_step", "train_seconds"),
    *("parameters", "noise", "exports"),
    *("texts_cut", "texts_read", "texts_since", "texts_cut_in_scoring"),
)
OF_NEEDED = (
    *("steps", "rows_per_step", "flops_per_step", "encoding_flops_per_step"),
    *("train_seconds", "parameters"),
)
OF_MACHINE = ("python", "cpu", "cores", "accelerators")  # keys of `environment`
OF_GIT = ("sha", "dirty")
KINDS = (np.uint8, np.int32, np.float32)  # the smallest that holds all outcomes exactly is taken
MOMENTS = 4  # of a training, at which the hash of what was read is kept


def publish(study: StudyRecord, folder: Path, seed: int | None = None) -> str:
    """Write a study's own arms into `folder`; returns the hash over it.

    With a `seed`, that replicate alone. ValueError for what is not whole, for a seed that the study
    has not, and for a folder of something else.
    """
    check_own_folder(folder)
    planned = study.seeds
    if seed is not None:
        study = _of_seed(study, seed)
    if missing := _missing(study):
        raise ValueError(
            f"{study.folder} is not published: {missing}; `unify study` of its file trains and "
            "scores what is missing"
        )
    content, outcomes = published_content(study)
    return write_published(folder, {**content, "planned": planned}, outcomes)


def _of_seed(study: StudyRecord, seed: int) -> StudyRecord:
    """The study as if this seed were all that it has."""
    if seed not in study.seeds:
        raise ValueError(f"{study.folder} has no seed {seed}; it has {seeds_text(study.seeds)}")
    others = [f"{run.folder.name}/" for run in study.runs if run.seed != seed]
    return replace(
        study,
        refused=[why for why in study.refused if not any(name in why for name in others)],
        info={**study.info, "seeds": [seed]},
        rows=[row for row in study.rows if row["seed"] == seed],
        runs=[run for run in study.runs if run.seed == seed],
    )


def _missing(study: StudyRecord) -> str:
    """What a study lacks to be published whole; an empty text if nothing."""
    if study.refused:
        return study.refused[0]
    lacks: dict[str, list[str]] = {}
    for arm in study.own_arms:
        runs = {run.seed: run for run in study.runs_of(arm)}
        untrained = [s for s in study.seeds if s not in runs or not runs[s].finished]
        trained = [s for s in study.seeds if s not in untrained]
        unscored = [s for s in trained if not isinstance(runs[s].scores, StoredScores)]
        for what, seeds in (("is not trained", untrained), ("has no scores", unscored)):
            if seeds:
                lacks.setdefault(what, []).append(f"{arm} ({seeds_text(seeds)})")
    return "; ".join(f"{sentence(arms)} {what}" for what, arms in lacks.items())


def published_content(study: StudyRecord) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """published.json without its hashes, and the arrays of outcomes.npz."""
    passports: dict[str, int] = {}
    outcomes: dict[str, np.ndarray] = {}
    tuned = tuned_arms(study)
    arms = {arm: _arm(study, arm, passports, outcomes, tuned.get(arm)) for arm in study.own_arms}
    info = study.info
    content = {
        "study": str(info.get("name") or study.folder.name),
        **{key: portable(info.get(key)) for key in ("title", "question", "file", "created")},
        "primary": study.primary,
        "replicate": info.get("replicate"),
        "sweep": info.get("sweep") is not None,
        "unify": __version__,
        "asked": _asked(info),
        "tuning": {
            key: portable(entry)
            for key, entry in tuned.items()
            if entry.get("seed") in (None, *study.seeds)
        },
        "arms": arms,
        "passports": [json.loads(passport) for passport in passports],
        "needed": _all_needed(study),
    }
    return content, outcomes


def _asked(info: Mapping[str, Any]) -> dict[str, Any]:
    """What study.json says of the study itself, whichever of its seeds are run."""
    asked = {key: info[key] for key in info if key not in NOT_ASKED}
    words = [word for word in info.get("overrides") or [] if not str(word).startswith("seeds=")]
    return portable({**asked, "overrides": words})


def _arm(
    study: StudyRecord,
    arm: str,
    passports: dict[str, int],
    outcomes: dict[str, np.ndarray],
    tuning: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """An arm's entry; adds to `passports` and `outcomes`."""
    info = study.info["arms"][arm]
    runs = [run for run in study.runs_of(arm) if run.seed in study.seeds]
    rows = [row for row in study.rows if row["arm"] == arm]
    config = {key: value for key, value in runs[0].config.items() if key not in NOT_SAID}
    return {
        **{key: portable(info.get(key)) for key in ("paradigm", "doc", "file", "needs")},
        "control": arm in study.control_arms,
        "trials": len(tuning["trials"]) if tuning else 0,
        "settings": settings_tried(study, arm),
        "config": portable(config),
        "tasks": {
            task: {key: each.get(key) for key in ("rows", "flops", "encoding")}
            for task, each in (runs[0].card.get("tasks") or {}).items()
        },
        "runs": portable([_run(run) for run in runs]),
        "scores": _scores(rows, passports),
        "outcomes": _outcomes(arm, runs, outcomes),
    }


def _run(run: RunRecord) -> dict[str, Any]:
    """The facts of one replicate."""
    machine = run.environment
    git = machine.get("git") or {}
    packages = machine.get("packages") or {}
    return {
        **{key: run.info[key] for key in OF_RUN if key in run.info},
        "seed": run.seed,
        "seeds": run.config.get("seeds"),
        "needed": _parts(run),
        "environment": {
            **{key: machine[key] for key in OF_MACHINE if key in machine},
            "packages": {key: packages[key] for key in ("torch",) if key in packages},
            "git": {key: git[key] for key in OF_GIT if key in git},
        },
        **({"tried_settings": asdict(run.tried_settings)} if run.tried_settings else {}),
        "curve": run.curve,
        "consumed": {task: _moments(read) for task, read in run.consumed.items()},
    }


def _moments(read: Mapping[int, str]) -> list[list[Any]]:
    """[samples read, their hash] at a few moments of a training, the last among them."""
    counts = sorted(read)
    places = {round((i + 1) * len(counts) / MOMENTS) - 1 for i in range(MOMENTS)}
    return [[counts[i], read[counts[i]]] for i in sorted(places) if i >= 0]


def _all_needed(study: StudyRecord) -> dict[str, Any]:
    """The facts of the runs that own arms started from, and theirs in turn, by hash."""
    left = [part for run in study.own_runs for part in run.needed]
    known: dict[str, Any] = {}
    while left:
        digest = str(left.pop().get("hash"))
        if (run := study.before.get(digest)) is not None and digest not in known:
            facts = {key: run.info[key] for key in OF_NEEDED if key in run.info}
            known[digest] = {"name": run.arm, **facts, "needed": _parts(run)}
            left += run.needed
    return dict(sorted(known.items()))


def _parts(run: RunRecord) -> list[dict[str, Any]]:
    """The runs that a run started from, with the last name of their folders alone."""
    return [
        {
            "name": part.get("name"),
            "hash": part.get("hash"),
            "folder": Path(part.get("folder") or "").name,
        }
        for part in run.needed
    ]


def _scores(rows: Sequence[Row], passports: dict[str, int]) -> list[dict[str, Any]]:
    """Rows of one metric, measured in one way, as one entry: a list over seeds of each key."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row, passport in zip(rows, portable([r.get("passport") or {} for r in rows]), strict=True):
        kept = {key: value for key, value in passport.items() if key not in WEIGHTS}
        written = json.dumps(kept, sort_keys=True, default=str)
        place = passports.setdefault(written, len(passports))
        keys = tuple(sorted(row.keys() - set(OF_ROW)))
        groups.setdefault((row["metric"], place, keys), []).append(row)
    return [
        {
            "metric": metric,
            "passport": place,
            "seeds": [row["seed"] for row in same],
            **{key: _once([row[key] for row in same]) for key in keys},
        }
        for (metric, place, keys), same in groups.items()
    ]


def _once(values: list[Any]) -> Any:
    """The value that all have, or the list."""
    return values[0] if all(value == values[0] for value in values) else values


def _outcomes(
    arm: str, runs: Sequence[RunRecord], outcomes: dict[str, np.ndarray]
) -> dict[str, str | None]:
    """metric -> digest of its prompts' index; the arrays are added to `outcomes`.

    Left out are those of which the replicates have not as many trials, or not of the same prompts:
    no trial of such a metric is compared with another arm's.
    """
    kept: dict[str, str | None] = {}
    names = [n for n in runs[0].outcomes if not n.startswith(PROMPTS)]
    for metric in names:
        each = [run.outcomes.get(metric) for run in runs]
        index = [run.outcomes.get(PROMPTS + metric) for run in runs]
        rows = [row for row in each if row is not None and row.ndim == 1 and row.size]
        if len(rows) < len(runs) or len({row.size for row in rows}) > 1:
            continue
        written = {content_hash(i.tolist()) if i is not None else None: i for i in index}
        if len(written) > 1:
            continue
        ((digest, prompts),) = written.items()
        if digest is not None and prompts is not None:
            outcomes[PROMPTS + digest] = prompts.astype(np.int32)
        outcomes[f"{arm}/{metric}"] = _smallest(np.stack(rows))
        kept[metric] = digest
    return kept


def _smallest(values: np.ndarray) -> np.ndarray:
    """The values in the smallest of `KINDS` that holds each exactly, else as they are."""
    for kind in KINDS:
        with np.errstate(invalid="ignore", over="ignore"):
            small = values.astype(kind)
        if np.array_equal(small.astype(values.dtype), values, equal_nan=True):
            return small
    return values
