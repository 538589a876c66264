"""The arms of a study, resolved: widths matched, tuned values set, steps solved from the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.arm_costs import arm_costs, with_steps
from unify.study.cooldowns import with_cooldowns
from unify.study.jobs import Job, StudyRequest, replicate_of, study_jobs
from unify.study.needed_runs import check_nothing_is_shared
from unify.study.sampler_sweep import with_sweeps
from unify.study.tuning import DEFAULT, chosen_overrides
from unify.study.width_matching import study_and_arms


def resolve_arms(
    request: StudyRequest,
    one_arm: Mapping[str, Sequence[str]] | None = None,
    seed: int | None = None,
) -> tuple[Study, dict[str, Config]]:
    """A study and its arms as they are trained. Without a budget no cost is measured.

    Arms that have been tuned are at their best values, unless `one_arm` gives each arm its own
    overrides; an empty `one_arm` gives the arms as they are. `seed`: the seed of the study whose
    tuning counts, where each has its own; None: the first.
    """
    study, arms = arms_at_tuned_values(request, one_arm, seed)
    if study.budget is not None or study.budgets:
        arms = with_steps(arms, arm_costs(study, arms))
    return study, with_cooldowns(study, arms)


def resolve_jobs(
    request: StudyRequest, study: Study, arms: dict[str, Config], seed: int | None = None
) -> list[Job]:
    """A job for every seed and arm, each at the values that were chosen for its seed, with the
    settings of samplers that are to be tried once it is trained.

    ValueError if replicates that are to share nothing would share a training.

    Args:
        study: as `resolve_arms` has it, and its `arms`.
        seed: the one whose jobs are wanted; None: all.
    """
    jobs = study_jobs(study, arms)
    if study.whole:
        check_nothing_is_shared(jobs)
    jobs = [job for job in jobs if seed in (None, job.seed)]
    if not (study.whole and study.tune):
        return with_sweeps(study, jobs)
    tuned = {number: resolve_arms(request, seed=number)[1] for number in {j.seed for j in jobs}}
    jobs = [
        replace(job, config=replicate_of(study, tuned[job.seed][job.arm], job.seed)) for job in jobs
    ]
    return with_sweeps(study, jobs)


def arms_at_tuned_values(
    request: StudyRequest,
    one_arm: Mapping[str, Sequence[str]] | None = None,
    seed: int | None = None,
) -> tuple[Study, dict[str, Config]]:
    """`resolve_arms` before steps are solved; `tune.defaults` adds every arm as it is."""
    study, arms = study_and_arms(request, one_arm)
    if study.tune is None or one_arm is not None:
        return study, arms
    tuned = study_and_arms(request, chosen_overrides(study, arms, seed))[1]
    if study.tune.defaults:
        for arm, config in arms.items():
            name = f"{arm},{DEFAULT}"
            tuned[name], study.arms[name] = {**config, "name": name}, study.arms[arm]
            if arm in study.budgets:
                study.budgets[name] = study.budgets[arm]
    return study, tuned
