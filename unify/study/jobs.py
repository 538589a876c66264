"""The request for a study, and its jobs: one arm under one seed each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unify.runs.equal_training import trains_like
from unify.runs.lookup import replicate
from unify.schema.completed import Config
from unify.schema.study import Study


@dataclass(frozen=True)
class StudyRequest:
    """A study file with what the command line says beside it."""

    path: str
    overrides: Sequence[str] = ()
    tiny: bool = False
    at_once: int = 1  # runs that are trained and scored at the same time, in processes of their own
    only: str = "*"  # a shell pattern: the other arms stay as they are, and their scores count
    gather: bool = False  # train nothing; report the scores that the runs have
    seed: int | None = None  # this replicate alone; the others stay as they are
    against: str = ""  # folder of a published study, whose arms are compared with those of this one

    @property
    def words(self) -> list[str]:
        """The arguments of `unify study` that resolve to the same arms."""
        return [self.path, *self.overrides, *(["--tiny"] if self.tiny else [])]


@dataclass(frozen=True)
class SamplerSweep:
    """What is tried on the weights of a trained run, to choose the settings of its samplers.

    `values`: of each setting, by dotted key; none of the first, which is the arm's own.
    `evaluation`: the metrics that score a setting, as completed nodes.
    """

    metrics: tuple[str, ...]
    values: tuple[dict[str, Any], ...]
    evaluation: tuple[Config, ...]


@dataclass(frozen=True)
class Job:
    """One run of a study: an arm under one of the study's seeds, which `config` holds already.

    With a `sweep`, its samplers are set, once it is trained, to the best of what the sweep tries.
    """

    arm: str
    seed: int
    config: Config
    sweep: SamplerSweep | None = None

    @property
    def name(self) -> str:
        """The name in messages, in the output of processes and among what failed."""
        return f"{self.arm} seed {self.seed}"


def check_seed(request: StudyRequest, study: Study) -> None:
    """ValueError for a request of one seed that its study has not."""
    if request.seed not in (None, *study.seeds):
        raise ValueError(f"{request.path} has no seed {request.seed}; it has {study.seeds}")


def study_jobs(study: Study, arms: dict[str, Config]) -> list[Job]:
    """A job for every seed and arm; the study's seed is added to the arm's own seeds."""
    return [
        Job(arm, seed, replicate_of(study, config, seed))
        for seed in study.seeds
        for arm, config in arms.items()
    ]


def replicate_of(study: Study, config: Config, seed: int) -> Config:
    """An arm under a seed of the study, with all that it starts from where the study says so."""
    return replicate(config, seed, of_needed=seed if study.whole else None)


def error_file(job: Job) -> Path:
    """Where the traceback of a job that failed is left: in its study's folder."""
    folder = Path(job.config["machine"]["runs"]) / job.config["study"]
    return folder / f"{job.arm}-s{job.seed}.error.txt"


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """The first job of each training: later ones that train alike take over its weights."""
    kept: list[Job] = []
    for job in jobs:
        if not any(trains_like(job.config, other.config) for other in kept):
            kept.append(job)
    return kept
