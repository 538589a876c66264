"""One difference of two arms on a metric, with its verdict, or why it has none."""

from dataclasses import dataclass, field

from unify.analysis.multiple_tests import simultaneous_interval
from unify.analysis.outlying_seed import outlying_seed
from unify.analysis.paired_differences import LEVEL, SAME, Difference, verdict
from unify.analysis.power import detectable, seeds_range
from unify.analysis.sign_flips import least_sign_flip_p, sign_flip_p
from unify.answers.improvements import Improvement
from unify.answers.learned import too_early
from unify.answers.score_lines import Line
from unify.answers.words import signed

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
    family: str = ""  # of a confirmatory study: which of its families names it
    unjudged: str = ""  # why the study's preset gives it no verdict (judged.py)
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
        if self.unjudged:
            return self.unjudged
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
        if self.unjudged and self.p is not None:
            return self.difference.interval_at(1 - (1 - LEVEL) / self.tests)
        return simultaneous_interval(self.difference, self.adjusted, self.tests)

    @property
    def sign_flip_p(self) -> float | None:
        """Exact p over seeds, without a model; beside the verdict, never its ground."""
        if (
            self.unjudged
            or self.p is None
            or self.difference is None
            or not self.difference.by_seed
        ):
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
        if self.unjudged or self.p is None or self.difference is None:
            return None
        if not self.difference.by_seed:
            return None
        return least_sign_flip_p(self.difference.seeds)

    @property
    def detectable(self) -> float | None:
        """Smallest true difference that would have been found; None unless undecided."""
        d = self.difference
        if d is None or self.verdict != SAME or d.seed_deviation is None:
            return None
        smallest = detectable(d.seed_deviation, d.seeds, d.of_prompts, self.tests)
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
