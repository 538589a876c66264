"""Curves over training: losses, speed and gradient cosines against samples seen, seed by seed."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from unify.answers.run_records import RunRecord
from unify.answers.study_records import StudyRecord

Point = tuple[float, float]
Records = Callable[[RunRecord], list[dict[str, Any]]]  # which journal records of a run
TIME_BIN = re.compile(r"(?P<term>loss/.+)/t(?P<bin>\d+)")


def logged_keys(study: StudyRecord) -> list[str]:
    """Everything that any training record holds, in the order of first appearance."""
    return list(dict.fromkeys(key for run in study.runs for record in run.train for key in record))


def loss_terms(keys: Iterable[str]) -> list[str]:
    """The keys that are unweighted loss terms."""
    return [k for k in keys if k.startswith("loss/") and not TIME_BIN.fullmatch(k)]


def time_bins(keys: Iterable[str]) -> dict[str, list[str]]:
    """Loss terms that were logged by flow time -> the keys of their bins, in order."""
    bins: dict[str, list[str]] = {}
    for key in keys:
        if match := TIME_BIN.fullmatch(key):
            bins.setdefault(match["term"], []).append(key)
    return {term: sorted(names) for term, names in bins.items()}


def seed_curves(runs: Sequence[RunRecord], key: str, records: Records) -> list[list[Point]]:
    """(samples seen, value) of each run that logged `key`; NaN where it was not finite."""
    curves = [
        [(samples_at(run, r), _finite(r[key])) for r in records(run) if key in r] for run in runs
    ]
    return [curve for curve in curves if curve]


def cosine_curves(runs: Sequence[RunRecord]) -> dict[str, dict[str, list[Point]]]:
    """{pair of losses: {block: curve}}, the mean over the seeds that have it."""
    names = dict.fromkeys(name for run in runs for r in run.gradients for name in r)
    curves: dict[str, dict[str, list[Point]]] = {}
    for name in names:
        if name.startswith("cosine/"):
            _, pair, block = name.split("/", 2)
            of_seeds = [
                [(samples_at(run, r), r[name]) for r in run.gradients if r.get(name) is not None]
                for run in runs
            ]
            if any(of_seeds):
                curves.setdefault(pair, {})[block] = mean_curve([c for c in of_seeds if c])
    return curves


def samples_at(run: RunRecord, record: dict[str, Any]) -> float:
    """Samples seen; steps where the rows of a step are not known."""
    return float(record["step"] * (run.rows_per_step or 1))


def smooth(points: Sequence[Point]) -> list[Point]:
    """Mean over a trailing window of a twentieth of the curve; non-finite values stay so."""
    window = max(1, len(points) // 20)
    out = []
    for i in range(len(points)):
        near = [y for _, y in points[max(0, i + 1 - window) : i + 1] if math.isfinite(y)]
        here = points[i][1]
        out.append((points[i][0], math.fsum(near) / len(near) if math.isfinite(here) else here))
    return out


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Mean over seeds at the x that all have."""
    values = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(v) for v in values)))
    return [(x, math.fsum(v[x] for v in values) / len(values)) for x in common]


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)
