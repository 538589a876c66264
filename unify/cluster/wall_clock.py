"""How long all that a study still trains takes on a cluster: needed runs, trials, arms, seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unify.cluster.missing_jobs import ClusterJob, levels
from unify.costs.gpu_forecast import Forecast, Hardware
from unify.costs.gpu_specs import step_seconds
from unify.costs.step_cost import Cost

Seconds = Callable[[ClusterJob], float]


@dataclass(frozen=True)
class WallClock:
    """Training alone: scoring, queues and starts come on top of it."""

    # needed runs, trials, runs -> their number, and hours one after another
    kinds: dict[str, tuple[int, float]]
    hours: float  # from the first start to the last end, `at_once` jobs at a time
    gpu_hours: float
    at_once: int

    def line(self) -> str:
        """`1 needed run 0.2 h, 16 trials 3.2 h, 10 runs 8 h; 4 at a time: 3 h, 92 h of GPUs`."""
        each = [
            f"{count} {kind if count > 1 else kind.removesuffix('s')} {_hours(hours)}"
            for kind, (count, hours) in self.kinds.items()
        ]
        return (
            f"missing: {', '.join(each) or 'nothing'}; {self.at_once} at a time: "
            f"{_hours(self.hours)}, {_hours(self.gpu_hours)} of GPUs, without scoring and queues"
        )


def wall_clock(jobs: Sequence[ClusterJob], seconds: Seconds, ranks: int, at_once: int) -> WallClock:
    """The time of the missing jobs of a study, level by level.

    Within a level a job starts when one of `at_once` places is free, so it takes no less than its
    longest job, and no less than its share of the whole; the larger of the two is counted.
    """
    kinds: dict[str, tuple[int, float]] = {}
    total, wall = 0.0, 0.0
    for array in levels(jobs):
        each = [seconds(job) for job in array if job.config]
        wall += max([*each, sum(each) / at_once], default=0.0)
        total += sum(each)
        for job in array:
            if job.config:
                count, hours = kinds.get(_kind(job), (0, 0.0))
                kinds[_kind(job)] = (count + 1, hours + seconds(job) / 3600)
    return WallClock(kinds, wall / 3600, total * ranks / 3600, at_once)


def job_seconds(
    forecasts: Mapping[str, Forecast], costs: Mapping[str, Cost], hardware: Hardware
) -> Seconds:
    """Seconds of a job on that hardware: of a trial as of its arm, at its own steps.

    Runs that are fitted without gradients count as nothing.
    """
    needed = {name: cost for each in costs.values() for name, cost in each.needed.items()}

    def seconds(job: ClusterJob) -> float:
        assert job.config is not None
        name, gpu = job.config["name"], hardware.gpu
        arm = forecasts.get(name.split(",trial=")[0])
        if arm is not None and job.words[0] == "study":
            return (arm.step or 0.0) * job.config["steps"]
        cost = needed.get(name)
        if cost is None or gpu is None:
            return 0.0
        fp32 = job.config["machine"]["precision"] == "32-true"
        flops = cost.training + cost.encoding
        return cost.steps * step_seconds(gpu, hardware.ranks, flops, 0, hardware.mfu, fp32)

    return seconds


def _hours(hours: float) -> str:
    return (
        "under 0.01 h" if hours < 0.01 else f"{hours:,.0f} h" if hours >= 100 else f"{hours:.3g} h"
    )


def _kind(job: ClusterJob) -> str:
    if job.words[0] == "train":
        return "needed runs"
    return "trials" if ",trial=" in job.name else "runs"
