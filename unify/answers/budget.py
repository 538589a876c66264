"""Budget of the arms: steps, samples, FLOPs, parameters and time, and which of them are equal.

All of it is computed from what the runs logged, never claimed from how the study was set up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from unify.answers.run_records import RunRecord
from unify.answers.study_records import StudyRecord
from unify.answers.total_cost import total_cost
from unify.answers.words import TOLERANCE, duration, number, si

MAY_BE_NONE = ("FLOPs of encoding", "FLOPs of needed runs")  # left out where no arm has any
SAMPLES, OF_TASK = "Samples seen", "Samples of "  # names of quantities


@dataclass
class Quantity:
    """One line of the budget: every arm's values over its seeds, of `arms` arms."""

    name: str
    values: dict[str, list[float]]
    show: Callable[[float], str]
    arms: int

    @property
    def matched(self) -> bool | None:
        """True if all values are equal to within `TOLERANCE`; None where an arm has none."""
        every = [v for values in self.values.values() for v in values]
        if not every or len(self.values) < self.arms:
            return None
        return max(every) - min(every) <= TOLERANCE * max(every)

    def text(self, arm: str) -> str:
        """The arm's value, or its range over seeds."""
        return range_text(self.values.get(arm) or [], self.show)

    def sentence(self) -> str:
        """`Training time: a 2 min, b 3 min (a factor of 1.50).`"""
        middle = [median(values) for values in self.values.values()]
        ratio = max(middle) / min(middle) if min(middle) > 0 else 0
        factor = f" (a factor of {ratio:.2f})" if ratio > 1 + TOLERANCE else ""
        return f"{self.name}: {', '.join(f'{a} {self.text(a)}' for a in self.values)}{factor}."


def range_text(values: Sequence[float], show: Callable[[float], str]) -> str:
    """The value, or the lowest and the highest; n/a where there is none."""
    if not values:
        return "n/a"
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} – {high}"


def budget(study: StudyRecord) -> list[Quantity]:
    """Quantities that at least one run stated."""
    fields: list[tuple[str, Callable[[RunRecord], float | None], Callable[[float], str]]] = [
        ("Optimizer steps", lambda r: r.steps, _count),
        ("Rows per step", lambda r: r.rows_per_step, _count),
        (SAMPLES, lambda r: r.samples, _count),
        ("FLOPs per step", lambda r: r.info.get("flops_per_step") or None, si),
        ("FLOPs of training", lambda r: r.flops, si),
        ("Parameters", lambda r: r.parameters("total"), si),
        ("Trainable parameters", lambda r: r.parameters("trainable"), si),
        ("Parameters of frozen tokenizers", lambda r: r.parameters("frozen_tokenizers"), si),
        ("Training time", lambda r: r.info.get("train_seconds"), duration),
        ("Training speed", _speed, lambda v: f"{number(v)} samples/s"),
    ]
    spent = partial(total_cost, study)
    fields += [
        ("FLOPs of encoding", lambda r: spent(r).encoding, si),
        ("FLOPs of needed runs", lambda r: spent(r).needed, si),
        ("FLOPs in all", lambda r: spent(r).total, si),
        ("Training time of needed runs", partial(_needed_seconds, study), duration),
    ]
    tasks = dict.fromkeys(task for run in study.runs for task in run.card.get("tasks") or ())
    for task in tasks if len(tasks) > 1 else ():
        fields.append((f"{OF_TASK}{task}", partial(_of_task, task, "rows"), _count))
        fields.append((f"FLOPs of {task}", partial(_of_task, task, "flops"), si))
    quantities = []
    for name, read, show in fields:
        values: dict[str, list[float]] = {}
        for run in study.runs:
            value = read(run)
            if value is not None:
                values.setdefault(run.arm, []).append(value)
        if values and (name not in MAY_BE_NONE or any(map(any, values.values()))):
            quantities.append(Quantity(name, values, show, len(study.arms)))
    return quantities


def _needed_seconds(study: StudyRecord, run: RunRecord) -> float | None:
    """Training time of the runs that this one started from; None unless all have it."""
    started = run.started_from
    needed = [study.before[part["hash"]] for part in started if part["hash"] in study.before]
    spent = [part.info.get("train_seconds") for part in needed]
    known = [seconds for seconds in spent if seconds is not None]
    return sum(known) if known and len(known) == len(started) else None


def _of_task(task: str, key: str, run: RunRecord) -> float | None:
    """Total of `rows` or `flops` on a task; None if the run does not learn it."""
    per_step = (run.card.get("tasks") or {}).get(task)
    return per_step[key] * run.steps if per_step and run.steps is not None else None


def _speed(run: RunRecord) -> float | None:
    logged = [r["samples_per_s"] for r in run.health if r.get("samples_per_s")]
    return median(logged) if logged else None


def progress(run: RunRecord) -> str:
    """`failed at 150 of 400 steps`."""
    done = "no step logged" if run.steps is None else f"{run.steps:,}"
    return f"{run.state} at {done}" + (f" of {run.planned:,} steps" if run.planned else "")


def _count(value: float) -> str:
    return f"{value:,.0f}"
