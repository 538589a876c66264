"""A study's own arm against a published one: are the prompts the same, and what pairs replicates.

Outcomes are compared prompt by prompt where both passports hold one digest of the prompts, and
where a metric keeps none, if both arms were trained and scored on one source. A replicate of one
arm is paired with that of the other under the same seed if both configurations say that the two
drew the same samples and noise: the same `seeds` and the same source. All others are replicates of
their own, and are compared as two independent samples.
"""

from unify.analysis.independent_differences import independent, independent_crossed
from unify.analysis.paired_differences import FEWEST_SEEDS
from unify.answers.improvements import Improvement
from unify.answers.pairing import (
    Pairing,
    keeps_prompts,
    pair,
    seeds_used,
    source_of,
    stacked_outcomes,
    values_of,
)
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import seeds_text, sentence


def is_mixed(study: StudyRecord, first: str, second: str) -> bool:
    """True if one of two arms is a published one, and the other is not."""
    return study.is_published(first) != study.is_published(second)


def pair_with_published(study: StudyRecord, line: Line, first: str, second: str) -> Pairing:
    """`first` - `second` on a line on which both stand; one of them is a published arm."""
    if reason := _other_prompts(study, line, first, second):
        return Pairing(reason=reason)
    shared = shared_seeds(study, first, second)
    if _are_enough(study, shared, first, second):
        made = pair(study, line, first, second)
        made.notes.append("seed by seed: both have the same seeds and data by their configurations")
        return made
    return _independent(study, line, first, second)


def shared_seeds(study: StudyRecord, first: str, second: str) -> list[int]:
    """The seeds under which two arms drew the same samples and noise, as their files say."""
    others = {run.seed: run for run in study.runs_of(second)}
    pairs = [(run, others[run.seed]) for run in study.runs_of(first) if run.seed in others]
    return [one.seed for one, other in pairs if _same_draws(one, other)]


def _same_draws(one: RunRecord, other: RunRecord) -> bool:
    """True if two configurations have the same seeds, and the runs the same source."""
    seeds = [run.config.get("seeds") for run in (one, other)]
    sources = [source_of(run) for run in (one, other)]
    return bool(seeds[0] and sources[0]) and seeds[0] == seeds[1] and sources[0] == sources[1]


def _are_enough(study: StudyRecord, shared: list[int], first: str, second: str) -> bool:
    """True if as many seeds are shared as a verdict takes, or all that an arm has."""
    if not shared or len({*shared}) < len(_common(study, first, second)):
        return False  # some number stands for unlike draws: none is taken for another
    fewest = min(len(study.runs_of(arm)) for arm in (first, second))
    return len(shared) >= min(FEWEST_SEEDS, fewest)


def _common(study: StudyRecord, first: str, second: str) -> set[int]:
    return {r.seed for r in study.runs_of(first)} & {r.seed for r in study.runs_of(second)}


def _other_prompts(study: StudyRecord, line: Line, first: str, second: str) -> str:
    """Why the prompts are not known to be the same; empty where they are."""
    if keeps_prompts(line, first):
        return ""
    sources = {arm: sorted({source_of(r) for r in study.runs_of(arm)}) for arm in (first, second)}
    if sources[first] == sources[second] and "" not in sources[first]:
        return ""
    each = [f"{arm} {sentence([s or 'not stated' for s in some])}" for arm, some in sources.items()]
    return (
        f"not the same prompts: {line.metric} keeps no digest of them, and the data differ "
        f"({sentence(each)})"
    )


def _independent(study: StudyRecord, line: Line, first: str, second: str) -> Pairing:
    """The difference of two samples of seeds that share nothing."""
    used: dict[str, list[int]] = {}
    notes: list[str] = []
    for arm in (first, second):
        seeds = sorted({*study.seeds_of(arm), *line.cells[arm].rows})
        used[arm], left = seeds_used(study, line, (arm,), seeds)
        notes += left
    if absent := [arm for arm, seeds in used.items() if not seeds]:
        return Pairing(reason=f"no seed of {sentence(absent)} ({'; '.join(notes)})")
    each = [f"{seeds_text(seeds)} of {arm}" for arm, seeds in used.items()]
    notes.insert(0, f"independent replicates, not paired: {sentence(each)}")
    outcomes = stacked_outcomes(study, line, used)
    a, b = (values_of(line, arm, seeds) for arm, seeds in used.items())
    often = Improvement.of(line.better, (a, b))  # its interval at a prompt takes paired seeds
    if isinstance(outcomes, str):
        return Pairing(independent(a, b), notes=[*notes, outcomes], improvement=often)
    (one, other), trials = outcomes
    return Pairing(independent_crossed(one, other, trials), notes=notes, improvement=often)
