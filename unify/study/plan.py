"""`unify plan F`: what a study or an experiment will train, what it costs, and which runs exist.

Nothing is trained. With a `budget` in the study, this is where steps are solved from it.
"""

from dataclasses import dataclass, field

from unify.config import load, load_recipe
from unify.costs.step_cost import Cost
from unify.costs.step_time import mean_train_seconds, measured_seconds
from unify.runs.equal_training import trains_like
from unify.runs.folder import Run
from unify.runs.lookup import find_needed, find_run
from unify.schema.completed import Config
from unify.schema.study import Study
from unify.study.arm_costs import arm_costs, with_steps
from unify.study.arms import arms_at_tuned_values, resolve_jobs
from unify.study.cooldowns import trunk_key, with_cooldowns
from unify.study.jobs import StudyRequest, study_jobs
from unify.study.needed_runs import NeededRun, needed_of
from unify.training.trunk import trunk_of


@dataclass
class Plan:
    """Arms with widths and steps solved, what each costs, and the runs that exist."""

    study: Study
    arms: dict[str, Config]
    costs: dict[str, Cost]
    runs: dict[str, dict[int, Run | None]]  # arm -> seed -> its run, perhaps of another study
    seconds: dict[str, float] = field(default_factory=dict)  # of a run, by arm, as measured now
    is_study: bool = True  # False: an experiment, shown as a study of one arm
    # what the runs start from, in the order to train it, with the run of each
    needed: list[tuple[NeededRun, Run | None]] = field(default_factory=list)
    # how many settings of its samplers are scored on the weights of each run, by arm
    swept: dict[str, int] = field(default_factory=dict)
    # the runs at a constant rate that others go on from: configuration, and the run if it exists
    trunks: list[tuple[Config, Run | None]] = field(default_factory=list)

    def spread(self, quantity: str) -> float:
        """Relative spread over arms, (max - min) / max, counted as each arm's budget says."""
        each = [cost.total(quantity, self.study.budget_of(arm)) for arm, cost in self.costs.items()]
        return (max(each) - min(each)) / max(each) if max(each) else 0.0

    def states(self, arm: str) -> dict[int, str]:
        """The state of each seed's run: `missing` without one, `with <arm>` if that trains it."""
        twin = self.twin(arm)
        absent = f"with {twin}" if twin else "missing"
        return {s: run.info["state"] if run else absent for s, run in self.runs[arm].items()}

    def twin(self, arm: str) -> str | None:
        """The first earlier arm that trains alike: one training serves both."""
        before = list(self.arms)[: list(self.arms).index(arm)]
        alike = (a for a in before if trains_like(self.arms[arm], self.arms[a]))
        return next(alike, None)

    def left(self, arm: str) -> float | None:
        """Seconds to train an arm's unfinished runs from their start, one after the other.

        On this machine; None where neither a measurement nor a run says how long one takes.
        """
        runs = self.runs[arm].values()
        missing = sum(run is None or not run.finished for run in runs)
        missing = 0 if self.twin(arm) else missing
        each = self.seconds.get(arm) or mean_train_seconds(run for run in runs if run)
        return 0.0 if not missing else None if each is None else missing * each


def plan(request: StudyRequest, measure: bool = False) -> Plan:
    """Plan a study, or an experiment as a study of one arm.

    `measure` times a few steps of every arm whose needed runs are finished.
    """
    is_study = "arms" in load(request.path, request.overrides, request.tiny).root.value
    if is_study:
        study, arms = arms_at_tuned_values(request)
    else:
        config = load_recipe(request.path, request.overrides, request.tiny)
        study = Study(config["study"], {config["name"]: request.path})
        arms = {config["name"]: config}
    costs = arm_costs(study, arms)
    arms = with_cooldowns(study, with_steps(arms, costs))
    runs: dict[str, dict[int, Run | None]] = {arm: {} for arm in arms}
    jobs = resolve_jobs(request, study, arms) if is_study else study_jobs(study, arms)
    for job in jobs:
        runs[job.arm][job.seed] = find_run(job.config, reuse=True)
    seconds: dict[str, float] = {}
    for job in jobs if measure else ():
        needed = find_needed(job.config) if job.arm not in seconds else None
        if needed is not None:
            seconds[job.arm] = measured_seconds(job.config, needed)
    before = [(run, find_run(run.config, reuse=True)) for run in needed_of(jobs)]
    swept = {job.arm: len(job.sweep.values) for job in jobs if job.sweep}
    each = {trunk_key(job): trunk for job in jobs if (trunk := trunk_of(job.config))}
    trunks = [(config, find_run(config, reuse=True)) for config in each.values()]
    return Plan(study, arms, costs, runs, seconds, is_study, before, swept, trunks)
