"""answers.json: what a study answers, for programs. docs/answers.md describes it.

The schema stands beside this file; every field is always there, and null where there is nothing.
"""

import math
from pathlib import Path
from typing import Any

from unify.analysis.paired_differences import LEVEL
from unify.answers.arm_means import ArmMean
from unify.answers.claims import TriedClaim
from unify.answers.comparison import Comparison
from unify.answers.controls import TriedControl
from unify.answers.costs import Front
from unify.answers.failures import Failures
from unify.answers.interaction import Interaction
from unify.answers.learned import Learning
from unify.answers.published_words import commits_of
from unify.answers.replicates import shared_parts
from unify.answers.run_records import RunRecord
from unify.answers.sampler_sweeps import SweptRun, swept_runs
from unify.answers.scaling import ArmCrossing, Growth, Series
from unify.answers.study_answers import Answers
from unify.answers.study_records import StudyRecord
from unify.answers.total_cost import total_cost
from unify.runs.study_files import PROMPT_SETS
from unify.support.atomic_files import write_atomically
from unify.support.strict_json import strict_json

FILE, SCHEMA = "answers.json", Path(__file__).with_name("answers.schema.json")
SEAL = ("path", "commit")
VERSION = 1  # raised when a field changes its meaning or goes; new fields may come without


def write_answers(answers: Answers) -> Path:
    """Write <study>/answers.json; returns its path. Equal answers give equal bytes."""
    path = answers.study.folder / FILE
    write_atomically(path, strict_json(answers_content(answers)) + "\n")
    return path


def answers_content(answers: Answers) -> dict[str, Any]:
    """The content of answers.json, before numbers that are not finite become null."""
    study = answers.study
    return {
        "version": VERSION,
        "study": str(study.info.get("name") or study.folder.name),
        "level": LEVEL,
        "primary": study.primary,
        "arms": study.arms,
        "seeds": study.seeds,
        "published": [_published(study, arm) for arm in study.published_arms],
        "preset": study.preset or None,
        "preregistration": _preregistration(study),
        "replicate": "all" if study.whole else "arm",
        "shared": shared_parts(study),
        "differences": [
            {"primary": primary, **_difference(one)}
            for primary, some in ((True, answers.primary), (False, answers.others))
            for one in some
        ],
        "claims": [_claim(one) for one in answers.claims],
        "controls": [_control(one) for one in answers.controls],
        "interactions": [_interaction(one) for one in answers.interactions],
        "best_sizes": [size for arm, one in answers.series.items() for size in _sizes(arm, one)],
        "growths": [_growth(one) for one in answers.growths],
        "crossings": [_crossing(one) for one in answers.crossings],
        "means": [_mean(one) for one in answers.means],
        "training_flops": [_flops(study, run) for run in study.runs],
        "fronts": [_front(one) for one in answers.fronts],
        "failures": [_failures(one) for one in answers.failures],
        "learning": [_learning(one) for one in answers.learning],
        "score_curves": [curve for run in study.own_runs if (curve := _curve(run))["points"]],
        "sampler_sweeps": [_sweep(one) for one in swept_runs(study)],
    }


def _preregistration(study: StudyRecord) -> dict[str, Any] | None:
    """The file that names a confirmatory study's comparisons, and its commit."""
    seal = study.info.get("preregistration")
    return seal and {key: None if seal.get(key) is None else str(seal[key]) for key in SEAL}


def _published(study: StudyRecord, arm: str) -> dict[str, Any]:
    """The study that a published arm is from."""
    entry = study.info["arms"][arm]
    about = {key: entry["published"].get(key) for key in ("study", "unify", "created", "hash")}
    return {"arm": arm, **about, "commits": commits_of(study, arm), "seeds": entry["seeds"]}


def _difference(one: Comparison) -> dict[str, Any]:
    difference = one.difference
    standardised = difference.standardised if difference and one.p is not None else None
    return {
        "metric": one.metric,
        "direction": None if one.line is None else one.line.better,
        "first": one.first,
        "second": one.second,
        "estimate": None if difference is None else difference.mean,
        "interval": _ends(one.interval),
        "simultaneous": _ends(one.simultaneous),
        "p": one.p,
        "adjusted_p": one.adjusted,
        "tests": one.tests,
        "sign_flip_p": one.sign_flip_p,
        "least_sign_flip_p": one.least_sign_flip_p,
        "family": one.family or None,
        "verdict": one.verdict or None,
        "reason": one.untestable or (one.words if one.words != one.verdict else ""),
        "notes": one.notes,
        "method": None if difference is None else difference.method,
        "seeds": one.seeds,
        "prompts": _prompts(one),
        "by_seed": [] if difference is None else list(difference.by_seed),
        "standardised": None if standardised is None else standardised[0],
        "standardised_interval": None if standardised is None else list(standardised[1:]),
        "detectable": one.detectable,
        "seeds_needed": None if one.seeds_needed is None else list(one.seeds_needed),
        "improvement": _improvement(one),
    }


def _improvement(one: Comparison) -> dict[str, Any] | None:
    often = one.improvement
    if often is None:
        return None
    over_prompts, judged = often.over_prompts, one.p is not None
    return {
        "probability": None if over_prompts is None else over_prompts.mean,
        "interval": _ends(often.interval()) if judged else None,
        "simultaneous": _ends(often.interval(one.tests)) if judged else None,
        "over_seeds": often.over_seeds,
        "pairs_of_seeds": often.pairs,
    }


def _prompts(one: Comparison) -> dict[str, Any] | None:
    """How many distinct prompts were compared (trials where outcomes were not kept), and the digest
    of their set."""
    if one.line is None or one.difference is None:
        return None
    row = next(iter(one.line.cells[one.first].rows.values()))
    passport = row.get("passport") or {}
    digest = next((passport[key] for key in PROMPT_SETS if passport.get(key)), None)
    tokens = row.get("unit") == "tokens"  # of rows that the passport counts
    trials = row.get("distinct") or (passport.get("rows") if tokens else row.get("n"))
    count = trials if one.difference.prompts is None else one.difference.prompts
    return {"n": None if count is None else int(count), "digest": digest and str(digest)}


def _claim(claim: TriedClaim) -> dict[str, Any]:
    about = {"paper": claim.paper, "says": claim.says, "judgement": claim.judgement}
    return {**about, "difference": None if claim.one is None else _difference(claim.one)}


def _control(control: TriedControl) -> dict[str, Any]:
    return {
        "control": control.text,
        "expect": control.control["expect"],
        "margin": control.margin,
        "equivalence_interval": _ends(control.equivalence_interval),
        "came_out": control.came_out,
        "outcome": control.outcome,
        "difference": None if control.one is None else _difference(control.one),
    }


def _interaction(one: Interaction) -> dict[str, Any]:
    return {
        "metric": one.line.metric,
        "eta_squared": None if one.shares is None else one.shares.shares,
        "adjusted_p": None if one.shares is None else one.adjusted,
        "agreement": [] if one.shares is None else one.shares.agreement,
    }


def _sizes(arm: str, one: Series) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "budget": budget, "size": best.size, "loss": best.loss, "where": best.where,
         "interval": _bounds(best.interval)}
        for budget, best in one.optima.items()
    ]  # fmt: skip


def _growth(one: Growth) -> dict[str, Any]:
    about = {"arm": one.arm, "exponent": one.exponent, "interval": _ends(one.interval)}
    return {**about, "budgets": one.budgets, "sentence": one.sentence}


def _crossing(one: ArmCrossing) -> dict[str, Any]:
    return {
        "metric": one.metric,
        "first": one.first,
        "second": one.second,
        "budget": one.at.budget,
        "interval": _bounds(one.at.interval),
        "extrapolated": one.at.extrapolated,
        "apart": one.at.apart,
        "sentence": one.sentence,
    }


def _mean(one: ArmMean) -> dict[str, Any]:
    return {
        "metric": one.line.metric,
        "arm": one.arm,
        "estimate": one.estimate,
        "interval": _ends(one.interval),
        "over": one.over,
        "seeds": list(one.by_seed),
        "by_seed": list(one.by_seed.values()),
    }


def _flops(study: StudyRecord, run: RunRecord) -> dict[str, Any]:
    cost = total_cost(study, run)
    about = {"arm": run.arm, "seed": run.seed, "own": cost.own, "encoding": cost.encoding}
    return {**about, "needed": cost.needed, "total": cost.total}


def _front(one: Front) -> dict[str, Any]:
    places = [
        {"arm": place.mean.arm, "cost": place.cost, "estimate": place.mean.estimate,
         "interval": _ends(place.mean.interval), "front": place.front, "told": place.told}
        for place in one.places
    ]  # fmt: skip
    return {"metric": one.line.metric, "cost": one.cost, "arms": places}


def _failures(one: Failures) -> dict[str, Any]:
    about = {"task": one.task, "arm": one.arm, "n": one.n, "seeds": one.seeds}
    return {**about, "shares": one.shares, "total": one.total}


def _learning(one: Learning) -> dict[str, Any]:
    about = {"metric": one.metric, "arm": one.arm, "learned": not one.why, "why": one.why or None}
    spread = {"lowest": one.lowest, "highest": one.highest}
    gains = {"seeds": list(one.gains), "by_seed": list(one.gains.values())}
    return {**about, "gain": one.gain, **gains, **spread}


def _curve(run: RunRecord) -> dict[str, Any]:
    points = [
        {"step": record["step"], "scores": {k: v for k, v in record.items() if k not in OF_RECORD}}
        for record in run.curve
    ]
    return {"arm": run.arm, "seed": run.seed, "steps": run.planned, "points": points}


OF_RECORD = ("step", "kind")  # keys of a journal record that are no score


def _sweep(one: SweptRun) -> dict[str, Any]:
    settings = [
        {"values": each.values, "score": each.score, "scores": each.scores, "n": each.n,
         "seconds": each.seconds, "error": each.error or None}
        for each in one.tried.settings
    ]  # fmt: skip
    about = {"arm": one.run.arm, "seed": one.run.seed, "metric": one.tried.metric}
    return {**about, "better": one.tried.better, "best": one.tried.best, "settings": settings}


def _bounds(ends: tuple[float, float] | None) -> list[float | None] | None:
    """[low, high] of a size or a budget; None at an end that the runs do not bound."""
    return None if ends is None else [end if 0 < end < math.inf else None for end in ends]


def _ends(ends: tuple[float, float] | None) -> list[float] | None:
    """[low, high]."""
    return None if ends is None else list(ends)
