"""Records of a study and of its runs, read from its folder: study.json, results.json, run folders.

A study that MLflow holds is read in the same way: study/mlflow_study.py fetches its folder.
What a crashed run did not write is empty here: nothing that is missing stops a report.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from itertools import combinations
from pathlib import Path
from typing import Any

from unify.answers.published_arms import PublishedArms, load_published, pooled_arms
from unify.answers.run_records import RUN_NAME, RunRecord, load_run
from unify.answers.study_rows import study_rows
from unify.answers.words import plural
from unify.runs.published_folder import AGAINST
from unify.runs.study_files import Row
from unify.support.portable import portable
from unify.support.strict_json import Types, damaged, read_mapping, wrong_type


@dataclass
class StudyRecord:
    """A study: study.json (`info`), rows of results, and its runs in order of arms, then seeds.

    `before` has the runs that these started from and that were found, by the hash of their weights.
    With `published`, the arms, rows and runs of a published study stand after the study's own.
    """

    folder: Path
    info: dict[str, Any]
    rows: list[Row]
    runs: list[RunRecord]
    before: dict[str, RunRecord] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)  # scores that are not used, and why
    trusted_files: bool = False  # whether Python files that study.json names may be loaded
    published: PublishedArms | None = None  # what it is compared with, which was not trained again

    @property
    def arms(self) -> list[str]:
        """The arms in the order of the study; those of controls last."""
        return sorted(self.info["arms"], key=lambda arm: arm in self.control_arms)

    @property
    def published_arms(self) -> list[str]:
        """The arms of a published study, which were trained there."""
        return [arm for arm in self.arms if self.is_published(arm)]

    @property
    def own_arms(self) -> list[str]:
        """The arms without the published ones."""
        return [arm for arm in self.arms if not self.is_published(arm)]

    @property
    def own_runs(self) -> list[RunRecord]:
        return [run for run in self.runs if not self.is_published(run.arm)]

    def is_published(self, arm: str) -> bool:
        """True for an arm of a published study."""
        return self.published is not None and arm in self.published.arms

    def seeds_of(self, arm: str) -> list[int]:
        """The seeds that an arm was to be trained under."""
        return list(self.info["arms"][arm]["seeds"]) if self.is_published(arm) else self.seeds

    @property
    def control_arms(self) -> set[str]:
        """Arms that are there to be told from others, and are compared with those alone."""
        return {control["arm"] for control in self.info.get("controls") or []}

    @property
    def compared_arms(self) -> list[str]:
        """The arms without those of controls."""
        return [arm for arm in self.arms if arm not in self.control_arms]

    @property
    def whole(self) -> bool:
        """True if each seed is a pipeline of its own: all that its arms start from, and tuning."""
        return self.info.get("replicate") == "all"

    @property
    def preset(self) -> str:
        """`confirmatory`, `exploratory`, or empty."""
        return str(self.info.get("preset") or "")

    @property
    def named(self) -> list[dict[str, str]]:
        """The comparisons that a confirmatory study named before it ran: family, metric, arms."""
        return list(self.info.get("families") or [])

    @property
    def seeds_have_parts(self) -> bool:
        """True if a seed of an own or of a published arm may have tokenizers, or a sampler, of its
        own."""
        about = self.published.about if self.published is not None else {}
        of_published = about.get("replicate") == "all" or bool(about.get("sweep"))
        return self.whole or bool(self.info.get("sweep")) or of_published

    @property
    def seeds(self) -> list[int]:
        return list(self.info.get("seeds") or sorted({r.seed for r in self.own_runs}))

    @property
    def primary(self) -> list[str]:
        return list(self.info.get("primary") or [])

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(A, B) of every comparison A - B, controls left out.

        With a baseline, each arm against it. In a grid, arms that differ in the base arm alone or
        in the grid point alone; with several budgets, in the base arm alone. Each arm against every
        published one; published ones were compared with each other where they were published.
        """
        arms = [arm for arm in self.compared_arms if not self.is_published(arm)]
        published, baseline = self.published_arms, self.info.get("baseline")
        if baseline:
            if baseline not in self.info["arms"]:
                return []  # a published arm, without the folder that has it
            others = [] if self.is_published(baseline) else published
            return [(arm, baseline) for arm in (*arms, *others) if arm != baseline]
        factors = self.factors
        shared = (1,) if self.info.get("budgets") else (0, 1)  # the factor that two arms share
        own = [
            (a, b)
            for a, b in combinations(arms, 2)
            if any(factors[a][i] == factors[b][i] for i in shared)
        ]
        return own + [(arm, other) for arm in arms for other in published]

    @property
    def factors(self) -> dict[str, tuple[str, str]]:
        """{own arm: (base arm as the study names it, point of the grid; empty without a grid)}."""
        if not self.info.get("grid"):
            return {arm: (arm, "") for arm in self.own_arms}
        split = {arm: arm.partition(",") for arm in self.own_arms}
        return {arm: (base, point) for arm, (base, _, point) in split.items()}

    @property
    def seeds_done(self) -> tuple[int, int]:
        """The fewest and the most finished runs of an own arm that has any; the planned number
        where no run is left to tell."""
        done = [sum(run.finished for run in self.runs_of(arm)) for arm in self.own_arms]
        done = [count for count in done if count] or [0 if self.own_runs else len(self.seeds)]
        return min(done), max(done)

    @property
    def seeds_in_words(self) -> str:
        """`8 seeds`, `3 of 8 seeds`, `3 to 8 of 8 seeds`."""
        (low, high), planned = self.seeds_done, len(self.seeds)
        done = f"{low}" if low == high else f"{low} to {high}"
        return f"{'' if low == planned else f'{done} of '}{plural(planned, 'seed')}"

    def runs_of(self, arm: str) -> list[RunRecord]:
        """The runs of an arm, by seed."""
        return [run for run in self.runs if run.arm == arm]

    def error(self, arm: str, seed: int) -> str:
        """The last line of the traceback that stopped a run; empty if none was written."""
        path = self.folder / f"{arm}-s{seed}.error.txt"
        text = path.read_text("utf-8", "replace").strip() if path.is_file() else ""
        return text.rsplit("\n", 1)[-1]

    def paradigm(self, arm: str) -> str:
        """Name of the class that an arm trains; empty if not recorded."""
        return str(self.info["arms"][arm].get("paradigm") or "")


def load_study(folder: Path, trusted_files: bool = False) -> StudyRecord:
    """Read a study's folder. All but study.json may be missing, or damaged, which is `refused`.

    ValueError without a study.json, or with a damaged one.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a study: it has no study.json; run `unify study` first")
    info = _study_info(path)
    if info.get("pooled"):
        rows, runs, before = pooled_arms(folder, info)
        return StudyRecord(folder, info, rows, runs, before, trusted_files=trusted_files)
    arms = list(info["arms"])
    newest: dict[tuple[str, int], RunRecord] = {}
    folders = [p for p in folder.iterdir() if p.is_dir() and RUN_NAME.fullmatch(p.name)]
    current = info.get("runs", [p.name for p in folders])  # others are of earlier settings
    folders = [p for p in folders if p.name in current]
    refused: list[str] = []
    for path in sorted(folders, key=_age):  # a later run of the same arm replaces
        run = load_run(path, refused)
        if run.arm in arms:
            newest[run.arm, run.seed] = run
    runs = sorted(newest.values(), key=lambda r: (arms.index(r.arm), r.seed))
    refused += [run.scores for run in runs if isinstance(run.scores, str)]
    own = {(run.arm, run.seed): run.scores for run in runs if run.scores is not None}
    rows = [row for row in study_rows(folder, info, own, refused) if row["arm"] in arms]
    needed = _needed_runs(folder.parent, runs)
    study = _with_published(StudyRecord(folder, info, rows, runs, needed, refused, trusted_files))
    for reason in refused:
        warnings.warn(reason, stacklevel=2)
    return study


def _with_published(study: StudyRecord) -> StudyRecord:
    """The study with the arms that it was last compared with; without where those are damaged,
    which is `refused`."""
    stated = study.info.get("against")
    if not stated:
        return study
    copy = study.folder / AGAINST
    try:
        published = load_published(copy)
        if published.about["hash"] != stated.get("hash"):
            raise ValueError(f"{copy} is not what the study was compared with")
    except (ValueError, OSError) as error:
        again = f"`unify study --against {stated.get('folder')}` puts it back"
        study.refused.append(f"published arms are left out: {error}; {again}")
        return study
    return with_published(study, published)


def with_published(study: StudyRecord, published: PublishedArms) -> StudyRecord:
    """The study with the arms of a published one after its own.

    Passports are compared as they were published: with the last names of paths alone.
    """
    info = {**study.info, "arms": {**study.info["arms"], **published.arms}}
    passports = portable([row.get("passport") or {} for row in study.rows])
    own = [{**row, "passport": p} for row, p in zip(study.rows, passports, strict=True)]
    return replace(
        study,
        info=info,
        rows=[*own, *published.rows],
        runs=[*study.runs, *published.runs],
        before={**published.before, **study.before},
        published=published,
    )


def _needed_runs(all_studies: Path, runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """Runs that these started from, and those before them, looked for in every study beside theirs;
    by weights' hash."""
    needed: dict[str, RunRecord] = {}
    left = [part for run in runs for part in run.needed if part.get("hash")]
    while left:
        part = left.pop(0)
        name = Path(part.get("folder") or "").name
        known = part["hash"] in needed or not RUN_NAME.fullmatch(name)
        for folder in () if known else all_studies.glob(f"*/{escape(name)}"):
            needed[part["hash"]] = load_run(folder, [])
            left += [part for part in needed[part["hash"]].needed if part.get("hash")]
    return needed


def _study_info(path: Path) -> dict[str, Any]:
    """The content of study.json."""
    remedy = "`unify study` of its file writes it anew"
    info = read_mapping(path, remedy, STUDY)
    arms = (info.get("arms") or {}).values()
    wrong = [wrong_type(arm, {"paradigm": str, "doc": str}) for arm in arms]
    wrong += [wrong_type(each, {}) for key in MAPPINGS for each in info.get(key) or []]
    wrong += [_lacks(one) for one in info.get("families") or []]
    if info.get("arms") is None or any(wrong):
        reason = next(filter(None, wrong), "it names no arms")
        raise ValueError(damaged(path, reason, remedy))
    return info


def _lacks(contrast: dict[str, Any]) -> str:
    """What is wrong with a named comparison; an empty text if nothing is."""
    keys = ("family", "metric", "first", "second")
    absent = next((key for key in keys if not isinstance(contrast.get(key), str)), "")
    return f"one of families has no {absent}" if absent else ""


MAPPINGS = (
    "claims",
    "controls",
    "figures",
    "families",
    "pooled",
)  # keys of study.json that list mappings
STUDY: Types = {
    **dict.fromkeys(("arms", "budgets", "tune", "sweep", "learned", "cooldowns"), dict),
    **dict.fromkeys(("against", "preregistration"), dict),
    **dict.fromkeys(("seeds", "primary", "runs", "tuned", "metrics", "overrides", "pooled"), list),
    **dict.fromkeys(("name", "title", "question", "results", "created", "file"), str),
    **dict.fromkeys(("replicate", "preset"), str),
    **dict.fromkeys(MAPPINGS, list),
}


def _age(folder: Path) -> tuple[float, str]:
    """Key to sort run folders by: when the journal was last written, then the name."""
    journal = folder / "journal.jsonl"
    return (journal.stat().st_mtime if journal.is_file() else 0.0, folder.name)
