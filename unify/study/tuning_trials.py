"""The trials of a study that tunes its arms (study/tuning.py): which runs they are, how they ended.

They are runs like any other, in a folder of their own: runs/<study>-tuning/<arm>,trial=3-s1000-...
With `replicate: all`, those for seed 2 of the study are called s1002, and start from what that seed
starts from.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from unify.config.grid import as_overrides
from unify.config.study_checks import TRIALS
from unify.config.validation_metrics import validation_metrics
from unify.evaluation.score_run import Row, stored_scores
from unify.runs.lookup import find_run, replicate
from unify.schema.completed import Config
from unify.schema.study import Study, Tune
from unify.study.arms import resolve_arms
from unify.study.chosen_by import direction, mean_score
from unify.study.cooldowns import cooled_down
from unify.study.jobs import Job, StudyRequest, check_seed, error_file
from unify.study.tuning import (
    DEFAULT,
    Trial,
    Values,
    before_trials,
    chosen_overrides,
    draw_values,
    save_trials,
    trained_by_trials,
)


@dataclass(frozen=True)
class TrialPlan:
    """All trials of a study, whether they have been run or not."""

    study: Study
    arms: dict[str, Config]  # as they are, before tuning
    tuned: dict[str, tuple[str, int]]  # key of tuning.json -> arm, and first seed that follows it
    values: dict[str, list[Values]]  # by key, in the order of trials
    jobs: dict[str, list[Job]]  # the same of runs, which are named <arm>,trial=<n>

    def missing(self, wanted: set[str]) -> dict[str, list[Job]]:
        """The trials of those of the arms that have not been tuned as the study now asks."""
        own = trained_by_trials(self.study, wanted)
        seeds = {seed for _, seed in self.tuned.values()}
        done = {seed: chosen_overrides(self.study, self.arms, seed) for seed in seeds}
        return {
            key: self.jobs[key]
            for key, (arm, seed) in self.tuned.items()
            if arm in own and arm not in done[seed]
        }

    def check(self, rows: list[Row]) -> None:
        """ValueError if the scores of a trial are none to tune by: more trials would be in vain."""
        assert self.study.tune is not None
        mean_score("tune", self.study.tune.metrics, rows)
        direction("tune", self.study.tune.metrics, [rows])

    def save(self, key: str, rows: list[list[Row]]) -> None:
        """Write down an arm's trials and which was best, from the scores of each (none: it failed).

        ValueError as in `check`, or if all failed.
        """
        assert self.study.tune is not None
        trials = [
            _trial(self.study.tune, job.config, values, scored)
            for job, values, scored in zip(self.jobs[key], self.values[key], rows, strict=True)
        ]
        arm, seed = self.tuned[key]
        config = before_trials(self.study, self.arms[arm], seed)
        folder = Path(config["machine"]["runs"]) / self.study.name
        said = direction("tune", self.study.tune.metrics, rows)
        save_trials(folder, self.study, key, config, trials, said)


def choose(request: StudyRequest, say: Callable[[str], None]) -> dict[str, str]:
    """Write down the best of the trials that were run by other processes; no trial is started.

    A trial that failed has no score. Returns why an arm could not be tuned, by its name.
    """
    trials = plan_trials(request, None if request.seed is None else {request.seed})
    check_seed(request, trials.study)
    untuned = {}
    for key, jobs in trials.missing({*trials.arms}).items():
        try:
            trials.save(key, [_ended(job) for job in jobs])
            say(f"{key}: tuned")
        except ValueError as error:
            untuned[f"{key}, tuning"] = str(error)
    return untuned


def _ended(job: Job) -> list[Row]:
    """The scores of a trial; none if it failed. ValueError if it has not ended."""
    run = find_run(job.config)
    rows = stored_scores(run, job.config, untimed=True) if run and run.finished else None
    if rows is not None:
        return rows
    if error_file(job).is_file():
        return []
    state = run.info["state"] if run else "not started"
    raise ValueError(
        f"{job.name} is {state}, and has no score and no error: run the study or submit it again"
    )


def plan_trials(request: StudyRequest, wanted: Collection[int] | None = None) -> TrialPlan:
    """Draw the values of all trials and resolve their configurations, at the budget of a trial.

    `wanted`: the seeds of the study whose trials are planned; None: all.
    """
    study, arms = resolve_arms(request, {})
    assert study.tune is not None
    made = TrialPlan(study, arms, {}, {}, {})
    # trials that are for all seeds are planned as those for the first
    for seed in study.seeds if study.whole else study.seeds[:1]:
        if not study.whole or wanted is None or seed in wanted:
            _add_trials(made, request, seed)
    drawn = [each[1] for each in made.values.values()]
    unknown = [key for key in study.tune.space if not any(key in values for values in drawn)]
    if unknown and drawn:
        raise ValueError(
            f"tune.space: no arm has {', '.join(unknown)}; give the whole path, as in "
            "model.trunk.dim"
        )
    return made


def _add_trials(made: TrialPlan, request: StudyRequest, seed: int) -> None:
    """Add the trials that the arms follow under a seed of the study."""
    study, tune = made.study, made.study.tune
    assert tune is not None
    always = as_overrides(tune.set)
    keys = {arm: study.tuning_of(arm, seed) for arm in made.arms}
    for arm, config in made.arms.items():
        added = config["seeds"]["init"] + seed if study.whole else 0
        made.tuned[keys[arm]], made.jobs[keys[arm]] = (arm, seed), []
        made.values[keys[arm]] = [draw_values(tune, config, n, added) for n in range(tune.trials)]
    for n in range(tune.trials):
        overrides = {
            arm: [*as_overrides(made.values[key][n]), *always] for arm, key in keys.items()
        }
        for arm, config in resolve_arms(request, overrides)[1].items():
            job = _trial_job(study, f"{arm},trial={n}", config, seed)
            made.jobs[keys[arm]].append(job)


def _trial_job(study: Study, name: str, config: Config, seed: int) -> Job:
    """A trial of an arm: shorter, in a folder of its own, scored on the validation split.

    Held-out pairs and sealed prompts are left to the test: tuning must not see them.
    """
    assert study.tune is not None
    scored = validation_metrics(config)
    if not scored:
        raise ValueError(f"tune: {name} has no metric that is measured on a split; see evaluation")
    own = {
        "name": name,
        "study": f"{study.name}{TRIALS}",
        "steps": max(1, round(config["steps"] * study.tune.share)),
        "evaluation": scored,
        "logging": {**config["logging"], "scores": None},  # a trial is watched by nobody
    }
    shorter = cooled_down(study, {**config, **own})  # a whole schedule of its own, without a trunk
    number = study.trial_seeds[seed]
    of_needed = seed if study.whole else None  # trials start from what their seed's run starts from
    return Job(name, number, replicate(shorter, number, of_needed))


def tuned_arms(request: StudyRequest) -> set[str]:
    """The arms that have been tuned as the study now asks, and those that stay as they are.

    By `Study.tuning_of` each: with `replicate: all`, arms under single seeds.
    """
    study, arms = resolve_arms(request, {})
    plain = arms if study.tune and study.tune.defaults else ()
    return {
        study.tuning_of(arm, seed)
        for seed in study.seeds
        for arm in (*chosen_overrides(study, arms, seed), *(f"{a},{DEFAULT}" for a in plain))
    }


def _trial(tune: Tune, config: Config, values: Values, rows: list[Row]) -> Trial:
    """The outcome of a trial whose run is finished or has failed."""
    run = find_run(config)
    facts = run.info if run else {}
    flops = facts.get("flops_per_step", 0.0) * config["steps"]
    score, seconds = mean_score("tune", tune.metrics, rows), facts.get("train_seconds", 0)
    return Trial(values, score, config["steps"], flops, seconds)
