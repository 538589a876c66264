"""The runs that the jobs of a study start from: tokenizers, language models, and what those need.

With `replicate: all` each seed of the study has its own, which arms of that seed share; without,
all seeds share one of each.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from unify.config import needed_runs
from unify.runs.equal_training import training_settings
from unify.runs.lookup import needed_configs
from unify.schema.completed import Config
from unify.study.jobs import Job

User = tuple[str, int]  # arm, seed of the study


@dataclass
class NeededRun:
    """An experiment under its seeds, and who starts from it."""

    path: str
    tiny: bool
    config: Config
    level: int  # it starts from runs of lower levels alone
    users: dict[User, None] = field(default_factory=dict)  # in the order of jobs
    key: str = ""  # by which what needs it names it (config.needed_key)


def needed_of(jobs: Iterable[Job], of_scoring: bool = True) -> list[NeededRun]:
    """What the jobs start from, and what that starts from: each run once, in the order to train.

    `of_scoring`: with those that only an evaluation reads.
    """
    found: dict[str, NeededRun] = {}
    for job in jobs:
        _visit(job.config, (job.arm, job.seed), found, of_scoring)
    return sorted(found.values(), key=lambda run: run.level)


def _visit(parent: Config, user: User, found: dict[str, NeededRun], of_scoring: bool) -> int:
    """Add to `found` what `parent` starts from; returns the level of `parent` itself."""
    level, parts = 0, needed_configs(parent)
    for key, needed in needed_runs(parent).items():
        if not (needed.trains or of_scoring):
            continue
        part = parts[key]
        own = _visit(part, user, found, of_scoring)
        added = part["needed_seeds"] if own else None
        place = part["machine"]["runs"]
        same = json.dumps([needed.path, needed.tiny, part["seeds"], added, place])
        run = found.setdefault(same, NeededRun(needed.path, needed.tiny, part, own, key=key))
        run.users[user] = None
        level = max(level, own + 1)
    return level


def check_nothing_is_shared(jobs: Iterable[Job]) -> None:
    """ValueError if two seeds of a study would be one training, or start from one.

    So they would where an arm's own seeds, or the `seed` of its weights, are another seed of the
    study.
    """
    jobs = list(jobs)
    trainings: dict[str, list[User]] = {}
    for job in jobs:
        same = json.dumps([training_settings(job.config), job.config["needed_seeds"]])
        trainings.setdefault(same, []).append((job.arm, job.seed))
    each = [("one training", users) for users in trainings.values()]
    for run in needed_of(jobs, of_scoring=False):
        seeds = ", ".join(f"{name} {number}" for name, number in run.config["seeds"].items())
        each.append((f"{run.path} (seeds: {seeds})", list(run.users)))
    for what, users in each:
        other = next((user for user in users if user[1] != users[0][1]), None)
        if other:
            (arm, seed), (arm2, seed2) = users[0], other
            raise ValueError(
                f"replicate: all: {what} would serve {arm} under seed {seed} and {arm2} under seed "
                f"{seed2}, and replicates share nothing; give seeds of arms and of weights that "
                "are further apart than the study's `seeds`"
            )
