"""The trials of a study that tunes its arms (study/tuning.py): which runs they are, how they ended.

They are runs like any other, in a folder of their own: runs/<study>-tuning/<arm>,trial=3-s1000-...
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unify.config.grid import as_overrides
from unify.config.study_checks import TRIALS
from unify.evaluation.score_run import Row, stored_scores
from unify.runs.lookup import find_run, replicate
from unify.runs.study_files import better, has_value
from unify.schema.completed import Config
from unify.schema.study import Study, Tune
from unify.study.arms import resolve_arms
from unify.study.jobs import Job, StudyRequest, error_file
from unify.study.tuning import (
    DEFAULT,
    Trial,
    Values,
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
    values: dict[str, list[Values]]  # by arm, in the order of trials
    jobs: dict[str, list[Job]]  # the same of runs, which are named <arm>,trial=<n>

    def missing(self, wanted: set[str]) -> dict[str, list[Job]]:
        """The trials of those of the arms that have not been tuned as the study now asks."""
        done = chosen_overrides(self.study, self.arms)
        own = trained_by_trials(self.study, self.arms)
        return {arm: self.jobs[arm] for arm in own if arm in wanted and arm not in done}

    def check(self, rows: list[Row]) -> None:
        """ValueError if the scores of a trial are none to tune by: more trials would be in vain."""
        assert self.study.tune is not None
        _score(self.study.tune, rows)
        _direction(self.study.tune.metric, [rows])

    def save(self, arm: str, rows: list[list[Row]]) -> None:
        """Write down an arm's trials and which was best, from the scores of each (none: it failed).

        ValueError as in `check`, or if all failed.
        """
        assert self.study.tune is not None
        trials = [
            _trial(self.study.tune, job.config, values, scored)
            for job, values, scored in zip(self.jobs[arm], self.values[arm], rows, strict=True)
        ]
        folder = Path(self.arms[arm]["machine"]["runs"]) / self.study.name
        said = _direction(self.study.tune.metric, rows)
        save_trials(folder, self.study, arm, self.arms[arm], trials, said)


def choose(request: StudyRequest, say: Callable[[str], None]) -> dict[str, str]:
    """Write down the best of the trials that were run by other processes; no trial is started.

    A trial that failed has no score. Returns why an arm could not be tuned, by its name.
    """
    trials = plan_trials(request)
    untuned = {}
    for arm, jobs in trials.missing({*trials.arms}).items():
        try:
            trials.save(arm, [_ended(job) for job in jobs])
            say(f"{arm}: tuned")
        except ValueError as error:
            untuned[f"{arm}, tuning"] = str(error)
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


def plan_trials(request: StudyRequest) -> TrialPlan:
    """Draw the values of all trials and resolve their configurations, at the budget of a trial."""
    study, arms = resolve_arms(request, {})
    tune = study.tune
    assert tune is not None
    values = {
        arm: [draw_values(tune, config, n) for n in range(tune.trials)]
        for arm, config in arms.items()
    }
    unknown = [key for key in tune.space if not any(key in each[1] for each in values.values())]
    if unknown:
        raise ValueError(
            f"tune.space: no arm has {', '.join(unknown)}; give the whole path, as in "
            "model.trunk.dim"
        )
    always = as_overrides(tune.set)
    jobs: dict[str, list[Job]] = {arm: [] for arm in arms}
    for n in range(tune.trials):
        overrides = {arm: [*as_overrides(each[n]), *always] for arm, each in values.items()}
        for arm, config in resolve_arms(request, overrides)[1].items():
            jobs[arm].append(_trial_job(study, tune, f"{arm},trial={n}", config))
    return TrialPlan(study, arms, values, jobs)


def _trial_job(study: Study, tune: Tune, name: str, config: Config) -> Job:
    """A trial of an arm: shorter, in a folder of its own, scored on the validation split.

    Held-out pairs are left to the test split: tuning must not see them.
    """
    scored = [
        {**metric, "split": "validation", **({"heldout": 0} if "heldout" in metric else {})}
        for metric in config["evaluation"]
        if "split" in metric
    ]
    if not scored:
        raise ValueError(f"tune: {name} has no metric that is measured on a split; see evaluation")
    own = {
        "name": name,
        "study": f"{study.name}{TRIALS}",
        "steps": max(1, round(config["steps"] * tune.share)),
        "evaluation": scored,
    }
    return Job(name, tune.seed, replicate({**config, **own}, tune.seed))


def tuned_arms(request: StudyRequest) -> set[str]:
    """The arms that have been tuned as the study now asks, and those that stay as they are."""
    study, arms = resolve_arms(request, {})
    plain = arms if study.tune and study.tune.defaults else ()
    return {*chosen_overrides(study, arms), *(f"{arm},{DEFAULT}" for arm in plain)}


def _trial(tune: Tune, config: Config, values: Values, rows: list[Row]) -> Trial:
    """The outcome of a trial whose run is finished or has failed."""
    run = find_run(config)
    facts = run.info if run else {}
    flops = facts.get("flops_per_step", 0.0) * config["steps"]
    score, seconds = _score(tune, rows), facts.get("train_seconds", 0)
    return Trial(values, score, config["steps"], flops, seconds)


def _direction(metric: str, rows: list[list[Row]]) -> str:
    """Which scores of the metric are better; ValueError where they say neither."""
    of_metric = [row for scored in rows for row in scored if row["metric"] == metric]
    said = better(of_metric[0]) if of_metric else "higher"  # all failed, as is said elsewhere
    if said is None:
        raise ValueError(
            f"tune.metric: {metric} states no direction, so no trial is the best by it; name a "
            "metric whose scores do (`better`, docs/extending.md)"
        )
    return said


def _score(tune: Tune, rows: list[Row]) -> float | None:
    """The value of the metric; None for a run that failed or whose value is not finite."""
    if not rows:
        return None
    scores = {row["metric"]: row["value"] if has_value(row) else None for row in rows}
    if tune.metric not in scores:
        raise ValueError(
            f"tune.metric: {tune.metric} is not scored on validation; there are "
            f"{', '.join(sorted(scores))}"
        )
    return scores[tune.metric]
