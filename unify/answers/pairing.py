"""What of two arms can be compared on a metric, and why the rest cannot.

Scores are compared where they were measured alike, under seeds that both arms have, and trial by
trial where the outcomes were kept. Whatever is left out, and a method that had to change, is said
in words that stand beside the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unify.analysis.paired_differences import Difference, crossed, paired
from unify.answers.improvements import Improvement
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import seeds_text, sentence
from unify.runs.stored_scores import PROMPTS, array_of, reason_of
from unify.runs.study_files import PROMPT_SETS, has_value


@dataclass
class Pairing:
    """The difference of two arms, or `reason`: why there is none. `notes`: what was left out, and
    why another method was taken; `seeds`: those that were compared. `improvement`: None where the
    scores do not state what is better."""

    difference: Difference | None = None
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    improvement: Improvement | None = None


def lines_of_pair(
    study: StudyRecord, lines: Sequence[Line], metric: str, first: str, second: str
) -> tuple[list[Line], str]:
    """The lines of a metric on which both arms stand; or none, and why."""
    of_metric = [line for line in lines if line.metric == metric]
    both = [line for line in of_metric if first in line.cells and second in line.cells]
    if both:
        return both, ""
    notes = {arm: [x.note for x in of_metric if arm in x.cells] for arm in (first, second)}
    absent = [arm for arm, ways in notes.items() if not ways]
    if not absent:
        each = [f"{arm} with {' or '.join(ways)}" for arm, ways in notes.items()]
        return [], f"not measured alike: {sentence(each)}"
    unknown = [arm for arm in absent if arm not in study.arms]
    if unknown:
        return [], f"not measured: the study has no arm {sentence(unknown)}"
    untrained = [arm for arm in absent if not any(run.finished for run in study.runs_of(arm))]
    if untrained:
        return [], f"not trained yet: {sentence(untrained)}"
    refused = [_refused(run) for arm in absent for run in study.runs_of(arm) if _refused(run)]
    why = f"; scores that are there are not used, as {refused[0]}" if refused else ""
    has = "has" if len(absent) == 1 else "have"
    return [], f"not measured: {sentence(absent)} {has} no score{why}"


def source_of(run: RunRecord) -> str:
    """The fingerprint of what a run read; empty where it states none."""
    return str(run.info.get("source") or run.info.get("data") or "")


def keeps_prompts(line: Line, arm: str) -> bool:
    """True if the passports of a line, which are alike, have a digest of what was asked."""
    row = next(iter(line.cells[arm].rows.values()))
    return any((row.get("passport") or {}).get(key) for key in PROMPT_SETS)


def _refused(run: RunRecord) -> str:
    """Why the scores of a run are not used; empty where they are, or there are none."""
    return reason_of(run.scores) if isinstance(run.scores, str) else ""


def pair(study: StudyRecord, line: Line, first: str, second: str) -> Pairing:
    """`first` - `second`, seed by seed, on a line on which both stand."""
    planned = {*study.seeds_of(first), *study.seeds_of(second)}
    seeds = sorted({*planned, *line.cells[first].rows, *line.cells[second].rows})
    used, left = seeds_used(study, line, (first, second), seeds)
    if not used:
        return Pairing(reason=f"no common seed ({'; '.join(left)})")
    outcomes = _other_data(study, line, first, second, used) or stacked_outcomes(
        study, line, {first: used, second: used}
    )
    a, b = (values_of(line, arm, used) for arm in (first, second))
    if isinstance(outcomes, str):
        often = Improvement.of(line.better, (a, b))
        return Pairing(paired(a, b), "", [outcomes, *left], used, often)
    (one, other), trials = outcomes
    often = Improvement.of(line.better, (a, b), (one, other, trials))
    return Pairing(crossed(one, other, trials), "", left, used, often)


def _other_data(
    study: StudyRecord, line: Line, first: str, second: str, seeds: Sequence[int]
) -> str:
    """Why trials cannot be paired: no digest says that they are the same, and the data are not."""
    if keeps_prompts(line, first):
        return ""
    read = {
        arm: {run.seed: source_of(run) for run in study.runs_of(arm)} for arm in (first, second)
    }
    for seed in seeds:
        each = {arm: by_seed.get(seed, "") for arm, by_seed in read.items()}
        if all(each.values()) and each[first] != each[second]:
            data = sentence([f"{arm} {digest}" for arm, digest in each.items()])
            return (
                f"by seeds alone: not known to be the same prompts, as {line.metric} keeps no "
                f"digest of them (`prompt_set` of its passport), and the data differ ({data})"
            )
    return ""


def values_of(line: Line, arm: str, seeds: Sequence[int]) -> list[float]:
    """The scores of an arm under some seeds."""
    return [line.cells[arm].rows[seed]["value"] for seed in seeds]


def seeds_used(
    study: StudyRecord, line: Line, arms: Sequence[str], seeds: Sequence[int]
) -> tuple[list[int], list[str]]:
    """The seeds under which all arms have a score; and which are left out, with the reason."""
    why = {seed: _why_not(study, line, arms, seed) for seed in seeds}
    by_reason: dict[str, list[int]] = {}
    for seed in seeds:
        if why[seed]:
            by_reason.setdefault(why[seed], []).append(seed)
    left = [f"{seeds_text(some)} left out: {text}" for text, some in by_reason.items()]
    return [seed for seed in seeds if not why[seed]], left


def _why_not(study: StudyRecord, line: Line, arms: Sequence[str], seed: int) -> str:
    """Why a seed cannot be compared; empty where it can."""
    reasons: dict[str, list[str]] = {}
    finished = {(run.arm, run.seed): _refused(run) for run in study.runs if run.finished}
    for arm in arms:
        row = line.cells[arm].rows.get(seed)
        if row is None:
            refused = finished.get((arm, seed))
            said = "is not trained" if refused is None else "has no score measured alike"
            if refused:
                said = f"has scores that are not used, as {refused}"
            reasons.setdefault(said, []).append(arm)
        elif not has_value(row):
            reasons.setdefault("has a score that is no number", []).append(arm)
    return "; ".join(f"{arm} {said}" for said, some in reasons.items() for arm in some)


def stacked_outcomes(
    study: StudyRecord, line: Line, seeds: Mapping[str, Sequence[int]]
) -> tuple[list[np.ndarray], np.ndarray | None] | str:
    """Outcomes [S N] of each arm, under its `seeds`, and the trials of each prompt [N]; or why
    there are none."""
    runs = {(run.arm, run.seed): run.outcomes for run in study.runs}
    names = {(a, s): array_of(line.cells[a].rows[s]) for a, some in seeds.items() for s in some}
    kept = {key: runs.get(key, {}).get(name) for key, name in names.items()}
    for (arm, seed), row in kept.items():
        if row is None or row.ndim != 1 or row.size < 2 or row.dtype.kind not in "biuf":
            return f"by seeds alone: {arm}, seed {seed}, has no outcomes by prompt"
        if not np.isfinite(row).all():
            return f"by seeds alone: an outcome of {arm}, seed {seed}, is no number"
    rows = {key: row for key, row in kept.items() if row is not None}
    counts = {row.size: f"{arm}, seed {seed}" for (arm, seed), row in rows.items()}
    if len(counts) > 1:
        each = [f"{count} trials ({who})" for count, who in sorted(counts.items())]
        return f"by seeds alone: {sentence(each)} are not the same prompts"
    stacked = [np.stack([rows[a, s].astype(float) for s in some]) for a, some in seeds.items()]
    indices = [i for key in kept if (i := runs[key].get(PROMPTS + names[key])) is not None]
    if not indices:
        return stacked, None
    if any(not np.array_equal(indices[0], other) for other in indices):
        return "by seeds alone: the runs repeat their prompts in unlike ways"
    return _by_prompt(stacked, indices[0])


def _by_prompt(
    stacked: Sequence[np.ndarray], index: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray] | str:
    """Means [S N] over the trials of each distinct prompt, and the trials of each [N]."""
    if index.shape != stacked[0].shape[1:]:
        return f"by seeds alone: {index.size} prompts are named for {stacked[0].shape[1]} trials"
    _, place, trials = np.unique(index, return_inverse=True, return_counts=True)
    means = [
        np.stack([np.bincount(place, weights=row) for row in outcomes]) / trials
        for outcomes in stacked
    ]
    return means, trials
