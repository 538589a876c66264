"""What the arms of a study had in common, and what they had not: computed, never claimed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from unify.report.study_records import ALL_TASKS, RunRecord, StudyRecord
from unify.report.tables import lines
from unify.report.words import TOLERANCE, duration, number, seeds_text, sentence, si

NAMED = 8  # settings that one sentence names
MANY = 12  # arms, or pairs of them, that are shown one by one
OUTSIDE = ("name", "study", "machine", "seeds", "tiny", "logging", "evaluation")


SAMPLES, OF_TASK = "Samples seen", "Samples of "  # names of quantities


@dataclass
class Quantity:
    """One line of the budget: every arm's values over its seeds."""

    name: str
    values: dict[str, list[float]]
    show: Callable[[float], str]
    arms: int

    @property
    def matched(self) -> bool | None:
        """None where an arm has no value."""
        every = [v for values in self.values.values() for v in values]
        if not every or len(self.values) < self.arms:
            return None
        return max(every) - min(every) <= TOLERANCE * max(every)

    def text(self, arm: str) -> str:
        values = self.values.get(arm)
        if not values:
            return "n/a"
        low, high = self.show(min(values)), self.show(max(values))
        return low if low == high else f"{low} – {high}"

    def sentence(self) -> str:
        """`Training time: a 2 min, b 3 min (1.5 times).`"""
        middle = [median(values) for values in self.values.values()]
        ratio = max(middle) / min(middle) if min(middle) > 0 else 0
        times = f" (a factor of {ratio:.2f})" if ratio > 1 + TOLERANCE else ""
        return f"{self.name}: {', '.join(f'{a} {self.text(a)}' for a in self.values)}{times}."


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
    seconds, spent = (lambda r: r.info.get("train_seconds")), (lambda r: r.flops)
    fields.append(("Training time of needed runs", partial(_before, study, seconds), duration))
    fields.append(("FLOPs of needed runs", partial(_before, study, spent), si))
    tasks = dict.fromkeys(task for run in study.runs for task in run.card.get("tasks") or ())
    for task in tasks if len(tasks) > 1 else ():
        fields.append((f"{OF_TASK}{task}", partial(_of_task, task, "rows"), _count))
        fields.append((f"FLOPs of {task}", partial(_of_task, task, "flops"), si))
    found = []
    for name, read, show in fields:
        values: dict[str, list[float]] = {}
        for run in study.runs:
            value = read(run)
            if value is not None:
                values.setdefault(run.arm, []).append(value)
        if values:
            found.append(Quantity(name, values, show, len(study.arms)))
    return found


def _before(
    study: StudyRecord, what: Callable[[RunRecord], float | None], run: RunRecord
) -> float | None:
    """What training the needed runs took; None unless all of them say."""
    known = [study.before[part["hash"]] for part in run.needed if part["hash"] in study.before]
    spent = [value for value in map(what, known) if value is not None]
    return sum(spent) if spent and len(spent) == len(run.needed) else None


def _of_task(task: str, what: str, run: RunRecord) -> float | None:
    """Of the whole training; None where the run does not learn it."""
    said = (run.card.get("tasks") or {}).get(task)
    return said[what] * run.steps if said and run.steps is not None else None


def _speed(run: RunRecord) -> float | None:
    seen = [r["samples_per_s"] for r in run.health if r.get("samples_per_s")]
    return median(seen) if seen else None


WORST = ("differs", "not known", "partly", "prefix", "identical")


def data_relation(a: RunRecord, b: RunRecord) -> tuple[str, str]:
    """(differs | not known | partly | prefix | identical | not applicable, in words)."""
    shared = [task for task in a.consumed if task in b.consumed]
    one_way = (ALL_TASKS in a.consumed) == (ALL_TASKS in b.consumed)
    if not a.consumed or not b.consumed or not one_way:
        return "not known", "not both logged what they read, or not in one way"
    if not shared:
        return "not applicable", "no task in common"
    answers = {task: _samples(a.consumed[task], b.consumed[task]) for task in shared}
    by_answer: dict[str, list[str]] = {}
    for task, (_, words) in answers.items():
        by_answer.setdefault(words, []).append(task)
    said = [f"{sentence(tasks)}: {words}" for words, tasks in by_answer.items()]
    alone = sorted(a.consumed.keys() ^ b.consumed.keys())
    said += [f"only one learns {sentence(alone)}"] if alone else []
    if _source(a) != _source(b):
        said.append("the same places, but the two read other sources there (data.source)")
        return "differs", "; ".join(said)
    return min((kind for kind, _ in answers.values()), key=WORST.index), "; ".join(said)


def _samples(a: Mapping[int, str], b: Mapping[int, str]) -> tuple[str, str]:
    """Of one task, from its hashes by how many samples had been read."""
    common = sorted(a.keys() & b.keys())
    if not common:
        return "not known", "never logged after equally many samples"
    for count in common:
        if a[count] != b[count]:
            return "differs", f"differ within the first {count:,} samples"
    if max(a) == max(b):
        return "identical", f"the same {max(a):,} samples"
    said = f"the same {common[-1]:,} samples first, of {max(a):,} and {max(b):,}"
    if common[-1] == min(max(a), max(b)):
        return "prefix", said
    return "partly", f"{said}; of later ones no equal number was logged"


def _source(run: RunRecord) -> Any:
    """What its records are; where that was not kept, how the configuration names it."""
    return run.info.get("source") or (run.config.get("data") or {}).get("source")


def noise_relation(a: RunRecord, b: RunRecord) -> str:
    """Whether the rows of a task that both learn drew equal noise: a row's is keyed by seed, step,
    task, place in the step and sample (unify/noise.py)."""
    rows = [(run.config.get("data") or {}).get("tasks") or {} for run in (a, b)]
    shared = rows[0].keys() & rows[1].keys()
    said = [run.config.get("seeds") or {} for run in (a, b)]
    seeds = [(each.get("noise"), each.get("data")) for each in said]  # which samples, too
    if not shared or (None, None) in seeds:
        return "n/a"
    if seeds[0] != seeds[1]:
        return "other seeds"
    alike = all(rows[0][task] == rows[1][task] for task in shared)
    return "same uniforms" if alike else "other rows in a step"


@dataclass
class SameData:
    """What a pair of arms read, and under which seeds that holds."""

    first: str
    second: str
    kind: str
    text: str
    noise: str
    seeds: list[int]


def same_data(study: StudyRecord, controls: bool = True) -> list[SameData]:
    """Every pair of arms that is compared; seeds with the same answer share a line."""
    found: list[SameData] = []
    those = [(c["arm"], c["than"]) for c in study.info.get("controls") or []] if controls else []
    for a, b in dict.fromkeys(study.pairs + those):
        answers: dict[tuple[str, str, str], list[int]] = {}
        others = {run.seed: run for run in study.runs_of(b)}
        for run in study.runs_of(a):
            if run.seed in others:
                other = others[run.seed]
                answer = (*data_relation(run, other), noise_relation(run, other))
                answers.setdefault(answer, []).append(run.seed)
        found += [SameData(a, b, *answer, seeds) for answer, seeds in answers.items()]
    return found


def _other_data(study: StudyRecord) -> list[str]:
    """A sentence for pairs whose data differ alike; one for all where they are many."""
    pairs = same_data(study)
    alike: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        if pair.kind != "identical":
            its = alike.setdefault((seeds_text(pair.seeds), pair.text), [])
            its.append(f"{pair.first} – {pair.second}")
    if len(alike) > MANY:
        others = sum(map(len, alike.values()))
        return [f"Data of {others} of the {len(pairs)} pairs that are compared (see above)."]
    named = {
        key: sentence(its) if len(its) <= MANY else f"{len(its)} pairs"
        for key, its in alike.items()
    }
    return [f"Data of {names} ({seeds}): {text}." for (seeds, text), names in named.items()]


def not_matched(study: StudyRecord) -> list[str]:
    """Everything known to differ between the arms besides the paradigm, one sentence each."""
    found = [q.sentence() for q in budget(study) if q.matched is False]
    found += _other_data(study)
    parts = {
        a: sorted({(n["name"], n["hash"]) for r in study.runs_of(a) for n in r.needed})
        for a in study.arms
    }
    if len({tuple(names) for names in parts.values()}) > 1:
        each = ", ".join(
            f"{a} {sentence([f'{name} {digest[:6]}' for name, digest in n]) or 'none'}"
            for a, n in parts.items()
        )
        found.append(f"Tokenizers and other runs needed: {each}.")
    for line in lines(study.rows):
        if (line.task, line.metric.split("/")[-1]) != ("tokenizer", "exact"):
            continue
        values = {a: c.value for a, c in line.cells.items() if c.value is not None}
        if len({number(v) for v in values.values()}) > 1:
            each = ", ".join(f"{a} {number(v)}" for a, v in values.items())
            found.append(
                f"Ceiling set by the tokenizer (reconstructions the checker reads): {each}."
            )
    settings = [key for key, _ in config_differences(study) if not key.startswith("model.")]
    if settings:
        more = [f"{len(settings) - NAMED} more"] if len(settings) > NAMED else []
        found.append(f"Settings outside the model: {sentence(settings[:NAMED] + more)}.")
    for run in study.runs:
        if not run.finished:
            found.append(f"{run.arm}, seed {run.seed}, did not finish: {progress(run)}.")
    ran = {(run.arm, run.seed) for run in study.runs}
    missing = {a: [s for s in study.seeds if (a, s) not in ran] for a in study.arms}
    absent = [f"{a} ({seeds_text(its)})" for a, its in missing.items() if its]
    return found + ([f"No run: {sentence(absent)}."] if absent else [])


def progress(run: RunRecord) -> str:
    done = "no step logged" if run.steps is None else f"{run.steps:,}"
    return f"{run.state} at {done}" + (f" of {run.planned:,} steps" if run.planned else "")


def config_differences(study: StudyRecord) -> list[tuple[str, dict[str, str]]]:
    """Settings whose value is not the same in all arms: (dotted key, value by arm)."""
    flat = {a: _flat(study.runs_of(a)[0].config) for a in study.arms if study.runs_of(a)}
    keys = dict.fromkeys(key for each in flat.values() for key in each)
    rows = [(key, {arm: each.get(key, "not set") for arm, each in flat.items()}) for key in keys]
    return [
        (key, values)
        for key, values in rows
        if key.split(".")[0] not in OUTSIDE and len(set(values.values())) > 1
    ]


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(config, Mapping) and config:
        found: dict[str, str] = {}
        for key, value in config.items():
            found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(config, list) and all(isinstance(item, str) for item in config):
        return {prefix: " ".join(config) or "none"}
    return {prefix: config if isinstance(config, str) else json.dumps(config, default=str)}


def environments(study: StudyRecord) -> list[tuple[str, list[tuple[str, list[RunRecord]]]]]:
    """Per environment key its values, each with the runs that had it."""
    flat = [(run, _flat(run.environment)) for run in study.runs if run.environment]
    keys = dict.fromkeys(key for _, each in flat for key in each)
    found = []
    for key in keys:
        by_value: dict[str, list[RunRecord]] = {}
        for run, each in flat:
            by_value.setdefault(each.get(key, "not stated"), []).append(run)
        found.append((key, list(by_value.items())))
    return found


def _count(value: float) -> str:
    return f"{value:,.0f}"
