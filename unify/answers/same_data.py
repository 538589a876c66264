"""Data of two arms: whether their runs read the same samples and drew the same noise.

Computed from what the runs logged, never claimed from how the study was set up.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from unify.answers.run_records import ALL_TASKS, RunRecord
from unify.answers.study_records import StudyRecord
from unify.answers.words import sentence

Drawn = Mapping[str, Mapping[str, str]]  # run.json's `noise`: task -> stream -> law and shape
WORST = ("differs", "not known", "partly", "prefix", "identical")  # from worst to best


def data_relation(a: RunRecord, b: RunRecord) -> tuple[str, str]:
    """Relation of the samples that two runs read, of the tasks that both learn.

    Returns (differs | not known | partly | prefix | identical | not applicable, in words); the
    worst over the tasks.
    """
    shared = [task for task in a.consumed if task in b.consumed]
    one_way = (ALL_TASKS in a.consumed) == (ALL_TASKS in b.consumed)
    if not a.consumed or not b.consumed or not one_way:
        return "not known", "not both logged what they read, or not in one way"
    if not shared:
        return "not applicable", "no task in common"
    answers = {task: _task_relation(a.consumed[task], b.consumed[task]) for task in shared}
    by_answer: dict[str, list[str]] = {}
    for task, (_, words) in answers.items():
        by_answer.setdefault(words, []).append(task)
    parts = [f"{sentence(tasks)}: {words}" for words, tasks in by_answer.items()]
    alone = sorted(a.consumed.keys() ^ b.consumed.keys())
    parts += [f"only one learns {sentence(alone)}"] if alone else []
    if _source(a) != _source(b):
        parts.append("the same places, but the two read other sources there (data.source)")
        return "differs", "; ".join(parts)
    return min((kind for kind, _ in answers.values()), key=WORST.index), "; ".join(parts)


def _task_relation(a: Mapping[int, str], b: Mapping[int, str]) -> tuple[str, str]:
    """`data_relation` of one task; `a` and `b`: {number of samples read: their hash}."""
    common = sorted(a.keys() & b.keys())
    if not common:
        return "not known", "never logged after equally many samples"
    for count in common:
        if a[count] != b[count]:
            return "differs", f"differ within the first {count:,} samples"
    if max(a) == max(b):
        return "identical", f"the same {max(a):,} samples"
    words = f"the same {common[-1]:,} samples first, of {max(a):,} and {max(b):,}"
    if common[-1] == min(max(a), max(b)):
        return "prefix", words
    return "partly", f"{words}; of later ones no equal number was logged"


def _source(run: RunRecord) -> Any:
    """Description of the data source, or its configuration where no description was kept."""
    return run.info.get("source") or (run.config.get("data") or {}).get("source")


def noise_relation(a: RunRecord, b: RunRecord) -> str:
    """Relation of the noise that two runs drew, for rows of the tasks that both learn.

    A row's noise is keyed by seed, step, task, place in the step and sample (unify/noise.py), and
    by the name of its stream: `same: image1/t; one alone draws: drop`.
    """
    rows = [(run.config.get("data") or {}).get("tasks") or {} for run in (a, b)]
    shared = rows[0].keys() & rows[1].keys()
    configs = [run.config.get("seeds") or {} for run in (a, b)]
    seeds = [(each.get("noise"), each.get("data")) for each in configs]  # which samples, too
    if not shared or (None, None) in seeds:
        return "n/a"
    if seeds[0] != seeds[1]:
        return "other seeds"
    if data_relation(a, b)[0] == "differs":
        return "other samples"  # whose keys are in those of the noise
    if any(rows[0][task] != rows[1][task] for task in shared):
        return "other rows in a step"
    one, other = a.info.get("noise"), b.info.get("noise")
    return _streams(one, other, shared) if one and other else "streams not logged"


def _streams(one: Drawn, other: Drawn, tasks: Collection[str]) -> str:
    """Streams that two runs drew alike, in other shapes, or not both; the names of all tasks."""
    kinds: dict[str, set[str]] = {"same": set(), "of other shapes": set(), "one alone draws": set()}
    for task in tasks:
        mine, others = one.get(task, {}), other.get(task, {})
        for name in mine.keys() | others.keys():
            both = name in mine and name in others
            kind = "same" if mine.get(name) == others.get(name) else "of other shapes"
            kinds[kind if both else "one alone draws"].add(name)
    listed = {kind: ", ".join(sorted(names)) for kind, names in kinds.items() if names}
    text = "; ".join(f"{kind}: {names}" for kind, names in listed.items())
    return text if kinds["same"] else f"no stream in common{f' ({text})' if text else ''}"


@dataclass
class SameData:
    """Data and noise of a pair of arms, and the seeds under which that holds."""

    first: str
    second: str
    kind: str
    text: str
    noise: str
    seeds: list[int]


def same_data(study: StudyRecord, controls: bool = True) -> list[SameData]:
    """Every pair of arms that is compared (`controls`: those too); equal seeds share an entry."""
    pairs: list[SameData] = []
    tried = [(c["arm"], c["than"]) for c in study.info.get("controls") or []] if controls else []
    for a, b in dict.fromkeys(study.pairs + tried):
        answers: dict[tuple[str, str, str], list[int]] = {}
        others = {run.seed: run for run in study.runs_of(b)}
        for run in study.runs_of(a):
            if run.seed in others:
                other = others[run.seed]
                answer = (*data_relation(run, other), noise_relation(run, other))
                answers.setdefault(answer, []).append(run.seed)
        pairs += [SameData(a, b, *answer, seeds) for answer, seeds in answers.items()]
    return pairs
