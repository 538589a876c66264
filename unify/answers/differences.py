"""Differences of arms: which is better, and whether the seeds and prompts at hand can tell.

The statistics are those of analysis/paired_differences.py and analysis/multiple_tests.py; what is
compared is chosen by answers/pairing.py.

Primary outcomes are those that the study named before it ran; their p are corrected together
(Holm), and only they get a verdict. All other differences are shown with their intervals.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from unify.analysis.multiple_tests import holm, simultaneous_interval
from unify.analysis.outlying_seed import outlying_seed
from unify.analysis.paired_differences import HIGHER, LEVEL, LOWER, SAME, Difference, verdict
from unify.analysis.power import detectable, seeds_range
from unify.analysis.sign_flips import least_sign_flip_p, sign_flip_p
from unify.answers.improvements import Improvement
from unify.answers.learned import mark_unlearned, too_early
from unify.answers.pairing import lines_of_pair, pair
from unify.answers.published_pairs import is_mixed, pair_with_published
from unify.answers.score_lines import MANY, Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, plural, signed

NOT_COMPARED = ("tokenizer", "generate")  # ceilings and speed
EDGE = 0.02  # a share this near to 0 or 1 leaves no room to be better or worse


@dataclass
class Comparison:
    """A - B on a metric. Without a difference, `reason` says why there is none; `notes` say what
    was left out of it, and why its method is another one than the crossed model."""

    line: Line | None
    first: str
    second: str
    difference: Difference | None
    adjusted: float | None = None  # p; None where there is none
    single: str = ""  # arm whose scores are those of one model under all seeds: no verdict
    tests: int = 1  # how many p are corrected together
    asked: str = ""  # the metric, where no line has it
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)  # that were compared
    improvement: Improvement | None = None  # how often A does better
    unlearned: dict[str, str] = field(default_factory=dict)  # arm that has not learned yet -> why

    @property
    def metric(self) -> str:
        return self.line.metric if self.line is not None else self.asked

    @property
    def name(self) -> str:
        """The metric, with the way of measuring where there are several."""
        return self.line.full_name if self.line is not None else self.asked

    @property
    def p(self) -> float | None:
        """Uncorrected p; None where the seeds allow none."""
        return None if self.single or self.difference is None else self.difference.p

    @property
    def verdict(self) -> str:
        """higher, lower or `SAME`; empty where there can be none."""
        if self.difference is None or self.adjusted is None or self.untestable:
            return ""
        return verdict(self.difference, self.adjusted)

    @property
    def untestable(self) -> str:
        """Why there can be no verdict, whatever p is; empty where there can be one."""
        if self.difference is None:
            return self.reason
        if self.single:
            return f"one model of {self.single} under all seeds"
        if edge := self._edge:
            return f"not testable here: both at the {edge}"
        found = None if self.adjusted is None else verdict(self.difference, self.adjusted)
        return self.difference.refusal or too_early(self, found)

    @property
    def words(self) -> str:
        """The verdict, with a seed that lies apart from all others; or why there is none."""
        said = self.verdict or self.untestable or "no verdict: it was not tested"
        return f"{said}: {self.outlier} lies apart from all others" if self._outlier_tells else said

    @property
    def outlier(self) -> str:
        """The seed whose difference lies apart (Grubbs' test at 1%): `seed 3`; empty if none."""
        by_seed = () if self.difference is None else self.difference.by_seed
        place = outlying_seed(by_seed) if by_seed else None
        if place is None:
            return ""
        return f"seed {self.seeds[place] if self.seeds else place}"

    @property
    def _outlier_tells(self) -> bool:
        return self.verdict == SAME and bool(self.outlier)

    @property
    def _edge(self) -> str:
        """`floor` or `ceiling`, where both arms' shares are there."""
        if self.line is None or not self.line.is_share(self.first, self.second):
            return ""
        shares = [self.line.cells[arm].value for arm in (self.first, self.second)]
        both = [share for share in shares if share is not None]
        if len(both) < 2:
            return ""
        return "floor" if max(both) <= EDGE else "ceiling" if min(both) >= 1 - EDGE else ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of this difference by itself."""
        return None if self.single or self.difference is None else self.difference.interval

    @property
    def simultaneous(self) -> tuple[float, float] | None:
        """Interval that holds together with those of all tests it is corrected with."""
        if self.single or self.difference is None:
            return None
        return simultaneous_interval(self.difference, self.adjusted, self.tests)

    @property
    def sign_flip_p(self) -> float | None:
        """Exact p over seeds, without a model; beside the verdict, never its ground."""
        if self.p is None or self.difference is None or not self.difference.by_seed:
            return None
        return sign_flip_p(self.difference.by_seed)

    @property
    def sign_flips_disagree(self) -> bool:
        """True if the two p of this difference alone lie on two sides of 5%."""
        flipped = self.sign_flip_p
        return (
            self.p is not None
            and flipped is not None
            and (self.p <= 1 - LEVEL) != (flipped <= 1 - LEVEL)
        )

    @property
    def least_sign_flip_p(self) -> float | None:
        """The smallest that so many seeds can give."""
        if self.difference is None or self.p is None or not self.difference.by_seed:
            return None
        return least_sign_flip_p(self.difference.seeds)

    @property
    def detectable(self) -> float | None:
        """Smallest true difference that would have been found; None unless undecided."""
        d = self.difference
        if d is None or self.verdict != SAME or d.seed_deviation is None:
            return None
        smallest = detectable(d.seed_deviation, d.seeds, d.prompt_variance, self.tests)
        share = self.line is not None and self.line.is_share(self.first, self.second)
        return None if smallest is not None and share and smallest > 1 else smallest

    @property
    def seeds_needed(self) -> tuple[int | None, int | None] | None:
        """Fewest and most seeds that would find it (see `seeds_range`); None unless undecided."""
        if self.difference is None or self.verdict != SAME:
            return None
        return seeds_range(self.difference, self.tests)

    @property
    def mean_text(self) -> str:
        """`+0.144`; the reason where there is no difference."""
        return self.reason if self.difference is None else signed(self.difference.mean)

    @property
    def interval_text(self) -> str:
        """` [+0.132, +0.157]`; empty where there is no interval."""
        return "" if self.interval is None else f" {interval_text(self.interval)}"


def interval_text(ends: tuple[float, float]) -> str:
    """`[+0.132, +0.157]`; `(0, +0.157]` where an end of exactly 0 is left out."""
    low, high = ends
    left = "(0" if low == 0 else f"[{signed(low)}"
    return f"{left}, " + ("0)" if high == 0 else f"{signed(high)}]")


def comparisons(
    study: StudyRecord, lines: Sequence[Line]
) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons of the primary outcomes, corrected together, and those of all other lines."""
    in_order = dict.fromkeys([*(line.metric for line in lines), *study.primary])
    primary = [
        one
        for metric in in_order
        if metric in study.primary
        for arms in study.pairs
        for one in comparisons_of(study, lines, metric, *arms)
    ]
    correct(primary)
    mark_unlearned(study, primary)
    others = [
        comparison(study, line, *arms)
        for line in lines
        if line.metric not in study.primary and not (line.reference or line.task in NOT_COMPARED)
        for arms in study.pairs
        if all(arm in line.cells for arm in arms)
    ]
    return primary, others


def correct(family: Sequence[Comparison]) -> None:
    """Adjust the p of a family of comparisons (Holm); those without p count for nothing."""
    adjusted = holm([one.p for one in family])
    tests = max(1, sum(p is not None for p in adjusted))
    for one, p in zip(family, adjusted, strict=True):
        one.adjusted, one.tests = p, tests


def comparisons_of(
    study: StudyRecord, lines: Sequence[Line], metric: str, first: str, second: str
) -> list[Comparison]:
    """`first` - `second` on every line of a metric that has both, or one that says why none has."""
    both, reason = lines_of_pair(study, lines, metric, first, second)
    if not both:
        return [Comparison(None, first, second, None, asked=metric, reason=reason)]
    return [comparison(study, line, first, second) for line in both]


def comparison(study: StudyRecord, line: Line, first: str, second: str) -> Comparison:
    """`first` - `second` on one line, on which both stand."""
    by = pair_with_published if is_mixed(study, first, second) else pair
    made = by(study, line, first, second)
    single = next((arm for arm in (first, second) if is_single(study, line, arm)), "")
    return Comparison(
        line, first, second, made.difference, single=single if made.difference else "",
        reason=made.reason, notes=made.notes, seeds=made.seeds, improvement=made.improvement,
    )  # fmt: skip


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


def difference_sentences(study: StudyRecord, primary: Sequence[Comparison]) -> list[str]:
    """The answer to each primary outcome, for the page's first paragraph."""
    sentences = []
    for metric in dict.fromkeys(one.metric for one in primary):
        of_metric = [one for one in primary if one.metric == metric]
        if len(study.seeds) == 1 or all(one.difference is None for one in of_metric):
            continue  # that scores are missing, or of one seed, is said elsewhere
        tried = [one for one in of_metric if one.verdict]
        clear = [one for one in tried if one.verdict in (HIGHER, LOWER)]
        if len(study.arms) > MANY:
            compared = sum(one.difference is not None and not one.single for one in of_metric)
            all_of_them = f"{compared} pairs of arms that are compared can be told apart"
            sentences.append(f"{metric}: {len(clear)} of {all_of_them} at this budget.")
            continue
        parts = [f"{one.first} is {one.verdict} than {one.second} by {_size(one)}" for one in clear]
        rest = len(tried) - len(clear)
        if rest:
            who = plural(rest, "other pair") if clear else "no pair of arms"
            verb = "is" if not clear else "is not" if rest == 1 else "are not"
            parts.append(f"{who} {verb} distinguishable at this budget{uncorrected_note(tried)}")
        lower = any(one.line is not None and one.line.better == "lower" for one in of_metric)
        named = f"{metric} (lower is better)" if lower else metric
        sentences.append(f"{named}: {'; '.join(parts + _untested(of_metric))}.")
    return sentences


def _size(one: Comparison) -> str:
    assert one.difference is not None
    return number(abs(one.difference.mean))


def _untested(of_metric: Sequence[Comparison]) -> list[str]:
    """What has no verdict, and why; arms that answer with one model by name."""
    single = dict.fromkeys(one.single for one in of_metric if one.single)
    parts = [f"{arm} answers with one model under all seeds: no verdict" for arm in single]
    reasons: dict[str, int] = {}
    for one in of_metric:
        if not one.verdict and not one.single:
            reasons[one.untestable] = reasons.get(one.untestable, 0) + 1
    return parts + [f"{plural(count, 'pair')}: {reason}" for reason, count in reasons.items()]


def uncorrected_note(tried: Sequence[Comparison]) -> str:
    """A note on pairs without a verdict whose uncorrected interval leaves out 0."""
    count = 0
    for one in tried:
        low, high = one.interval or (0.0, 0.0)
        count += one.verdict == SAME and not low <= 0 <= high
    return f" (the uncorrected interval of {count} of them leaves out 0)" if count else ""
