"""Differences of arms: which is better, and whether the seeds and prompts at hand can tell.

The statistics are those of analysis/paired_differences.py.

Primary outcomes are those that the study named before it ran; their p are corrected together
(Holm), and only they get a verdict. All other differences are shown with their intervals.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unify.analysis.paired_differences import (
    Difference,
    crossed,
    detectable,
    holm,
    paired,
    seeds_needed,
    verdict,
)
from unify.answers.score_lines import MANY, Line, has_value
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, p_value, plural, signed

NOT_COMPARED = ("tokenizer", "generate")  # ceilings and speed
SAME = "not distinguishable at this budget"  # a verdict of analysis/paired_differences.py
READING = (
    "Difference of two arms trained under the same seeds and scored on the same prompts. The 95% "
    "interval is its row's own; p is corrected for all rows of this table (Holm), and so is the "
    "verdict: an interval may leave out 0 without one. d_z: the difference over its standard "
    "deviation from seed to seed. Detectable: the smallest true difference that these seeds and "
    "prompts find with probability 0.8 in a table of so many rows. Seeds needed: to find, with "
    "that probability, a true difference as large as the one observed (“more prompts” where seeds "
    "alone cannot)."
)
COLUMNS = ("In words", "p", "d_z", "Detectable", "Seeds needed")


@dataclass
class Comparison:
    """A - B on one line."""

    line: Line
    first: str
    second: str
    difference: Difference
    adjusted: float | None = None  # p; None where there is none
    single: str = ""  # arm whose scores are those of one model under all seeds: no verdict
    tests: int = 1  # how many p are corrected together

    @property
    def p(self) -> float | None:
        """Uncorrected p; None where the seeds allow none."""
        return None if self.single else self.difference.p

    @property
    def words(self) -> str:
        """The verdict: higher, lower, `SAME`, or why there is none."""
        if self.single:
            return f"one model of {self.single} under all seeds"
        return verdict(self.difference, self.adjusted)

    @property
    def mean_text(self) -> str:
        """`+0.144`."""
        return signed(self.difference.mean)

    @property
    def interval_text(self) -> str:
        """` [+0.132, +0.157]`; empty where there is no interval."""
        ends = None if self.single else self.difference.interval
        return "" if ends is None else f" [{', '.join(map(signed, ends))}]"

    @property
    def power_texts(self) -> tuple[str, str, str, str]:
        """Corrected p, d_z, smallest detectable difference and seeds needed."""
        d = self.difference
        if not d.parts or d.between_seeds is None or self.adjusted is None:
            return "–", "–", "–", "–"
        size = d.standardised
        smallest = detectable(d.between_seeds, d.seeds, d.prompt_variance, self.tests)
        if smallest is not None and smallest > 1 and self.line.is_share:
            smallest = None  # two shares cannot differ by more than 1
        seeds = seeds_needed(d.mean, d.between_seeds, d.prompt_variance, self.tests)
        return (
            p_value(self.adjusted),
            "–" if size is None else "{:.2f} [{:.2f}, {:.2f}]".format(*size).replace("-", "−"),
            "–" if smallest is None else number(smallest),
            "more prompts" if seeds is None else str(seeds),
        )


def comparisons(
    study: StudyRecord, lines: Sequence[Line]
) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons of the primary outcomes, corrected together, and those of all other lines."""
    primary: list[Comparison] = []
    others: list[Comparison] = []
    for line in lines:
        named = line.metric in study.primary
        if named or not (line.reference or line.task in NOT_COMPARED):
            made = (comparison(study, line, *pair) for pair in study.pairs)
            (primary if named else others).extend(one for one in made if one is not None)
    adjusted = holm([one.p for one in primary])
    for one, p in zip(primary, adjusted, strict=True):
        one.adjusted, one.tests = p, max(1, sum(other is not None for other in adjusted))
    return primary, others


def comparison(study: StudyRecord, line: Line, first: str, second: str) -> Comparison | None:
    """`first` - `second` on one line; None where the two have no seed in common."""
    both = first in line.cells and second in line.cells
    difference = compare(study, line, first, second) if both else None
    if difference is None:
        return None
    single = next((arm for arm in (first, second) if is_single(study, line, arm)), "")
    return Comparison(line, first, second, difference, single=single)


def is_single(study: StudyRecord, line: Line, arm: str) -> bool:
    """True if an arm that was not trained on the task answered alike under all its seeds.

    It then answers with a frozen part that its seeds share, which is one sample of how such a part
    turns out. (Not seen where answers are drawn at a temperature, each seed its own.)
    """
    runs = [run for run in study.runs_of(arm) if run.seed in line.cells[arm].rows]
    task = "image" if line.task == "copy" else line.task
    trained = [task in run.config["data"]["tasks"] for run in runs if run.config.get("data")]
    parts = {json.dumps(run.needed, sort_keys=True, default=str) for run in runs}
    values = set(line.cells[arm].values)
    configs_kept = len(trained) == len(runs) > 1
    return configs_kept and not any(trained) and len(parts) == 1 and len(values) == 1


def compare(study: StudyRecord, line: Line, first: str, second: str) -> Difference | None:
    """`first` - `second` over the seeds that both have, trial by trial where outcomes were kept."""
    one, other = line.cells[first].rows, line.cells[second].rows
    seeds = [s for s in one if s in other and has_value(one[s]) and has_value(other[s])]
    if not seeds:
        return None
    by_seed = {(run.arm, run.seed): run for run in study.runs}
    trials: list[np.ndarray] = []  # [S n] of each arm
    for arm in (first, second):
        rows = [by_seed[arm, s].outcomes.get(line.metric) for s in seeds if (arm, s) in by_seed]
        kept = [row for row in rows if row is not None and row.size > 1]
        if len(kept) < len(seeds) or len({len(row) for row in kept}) > 1:
            break
        trials.append(np.stack(kept))
    if len(trials) == 2 and trials[0].shape == trials[1].shape:
        return crossed(*trials)
    return paired([one[s]["value"] for s in seeds], [other[s]["value"] for s in seeds])


def difference_sentences(study: StudyRecord, lines: Sequence[Line]) -> list[str]:
    """The answer to each primary outcome, for the page's first paragraph."""
    primary, _ = comparisons(study, lines)
    sentences = []
    for metric in dict.fromkeys(c.line.metric for c in primary if c.difference.parts):
        of_metric = [c for c in primary if c.line.metric == metric]
        tried = [c for c in of_metric if not c.single]
        clear = [c for c in tried if c.words in ("higher", "lower")]
        if len(study.arms) > MANY:
            all_of_them = f"{len(tried)} pairs of arms that are compared can be told apart"
            sentences.append(f"{metric}: {len(clear)} of {all_of_them} at this budget.")
            continue
        parts = [
            f"{c.first} is {c.words} than {c.second} by {number(abs(c.difference.mean))}"
            for c in clear
        ]
        rest = len(tried) - len(clear)
        if rest:
            who = plural(rest, "other pair") if clear else "no pair of arms"
            verb = "is" if not clear else "is not" if rest == 1 else "are not"
            parts.append(f"{who} {verb} distinguishable at this budget{uncorrected_note(tried)}")
        single = dict.fromkeys(c.single for c in of_metric if c.single)
        parts += [f"{arm} answers with one model under all seeds: no verdict" for arm in single]
        sentences.append(f"{metric}: {'; '.join(parts)}.")
    return sentences


def uncorrected_note(tried: Sequence[Comparison]) -> str:
    """A note on pairs without a verdict whose uncorrected interval leaves out 0."""
    count = 0
    for one in tried:
        low, high = one.difference.interval or (0.0, 0.0)
        count += one.words not in ("higher", "lower") and not low <= 0 <= high
    return f" (the uncorrected interval of {count} of them leaves out 0)" if count else ""
