"""Controls: what must come out, or a study could not tell arms apart.

An arm that is another under other seeds must not differ from it, and arms known to be worse must
lose; where one fails, the report says what that means for the other comparisons. That no difference
was found is no equality: such a control is a yardstick of what two draws of one arm differ by. Two
arms are as good as equal within a margin that the study names before it runs (two one-sided tests:
the 90% interval lies inside of it; Schuirmann 1987, doi:10.1007/BF01068419).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unify.analysis.paired_differences import HIGHER, LOWER, SAME
from unify.answers.comparison import Comparison, interval_text
from unify.answers.differences import comparisons_of
from unify.answers.judged import judge_alone
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, p_value, sentence

TWO_ONE_SIDED = 0.9  # level of the interval by which two one-sided tests at 5% are made


@dataclass
class TriedControl:
    """A control on one metric, and its comparison, arm - than; None where nothing was measured."""

    control: dict[str, Any]
    metric: str
    one: Comparison | None

    @property
    def text(self) -> str:
        """`again: same as transfusion`."""
        of = "as" if self.control["expect"] == "same" else "than"
        return f"{self.control['arm']}: {self.control['expect']} {of} {self.control['than']}"

    @property
    def came_out(self) -> bool | None:
        """At 5%, by itself; None where that cannot be told.

        One of equal arms without a margin came out if no difference was found; with one, it did not
        only where the 90% interval lies wholly outside of the margin.
        """
        if self.one is None or not self.one.verdict:
            return None
        if self.margin is None:
            unknown = self.control["expect"] == "worse" and self._direction in (HIGHER, LOWER)
            return None if unknown else self._direction == self.control["expect"]
        return True if self.within_margin else False if self.beyond_margin else None

    @property
    def margin(self) -> float | None:
        """The largest difference that the study takes for none; None where it names none."""
        return self.control.get("margin") or None

    @property
    def is_yardstick(self) -> bool:
        """True if nothing but the absence of a finding could speak for it."""
        return self.control["expect"] == "same" and self.margin is None

    @property
    def equivalence_interval(self) -> tuple[float, float] | None:
        """The 90% interval, which a control with a margin is tried by."""
        difference = None if self.one is None else self.one.difference
        return None if difference is None else difference.interval_at(TWO_ONE_SIDED)

    @property
    def within_margin(self) -> bool:
        """True if the 90% interval lies inside the margin."""
        ends = self.equivalence_interval
        return ends is not None and self.margin is not None and max(map(abs, ends)) < self.margin

    @property
    def beyond_margin(self) -> bool:
        """True if the 90% interval lies wholly outside of the margin, on one side of it."""
        ends = self.equivalence_interval
        return (
            ends is not None
            and self.margin is not None
            and (ends[0] > self.margin or ends[1] < -self.margin)
        )

    @property
    def _direction(self) -> str:
        """same, worse or better, as the arm was found to be; higher or lower where it is not known
        which is better."""
        assert self.one is not None
        assert self.one.line is not None
        if self.one.verdict == SAME:
            return "same"
        better = self.one.line.better
        if better is None:
            return self.one.verdict
        return "better" if self.one.verdict == better else "worse"

    @property
    def outcome(self) -> str:
        """The result with its own p; or why there is none."""
        if self.one is None:
            return "not measured"
        if not self.one.verdict or self.one.p is None or self.one.interval is None:
            return self.one.words
        p = f"p {p_value(self.one.p)}"
        if self.margin is not None:
            ends = interval_text(self.equivalence_interval or self.one.interval)
            apart = "beyond" if self.beyond_margin else "not shown to be within"
            held = "within" if self.within_margin else apart
            return f"{held} the margin of {number(self.margin)}: 90% interval {ends}, {p}"
        if self._direction != "same":
            return f"{self._direction}, {p}"
        if self.control["expect"] != "same":
            return f"no difference found, {p}"
        reach = number(max(map(abs, self.one.interval)))
        return f"no difference found: two draws of one arm differ by {reach} at most, {p}"

    def meaning(self, worse: Sequence[str]) -> str:
        """The meaning of this control's failure, as the end of a sentence.

        `worse`: other arms that were found worse than the same one.
        """
        than = self.control["than"]
        if self.margin is not None:
            return "the two differ by more than the study takes for none."
        if self.control["expect"] == "same":
            return "seeds alone make such a difference, so others as small mean nothing."
        if self._direction == "better":
            return "the other way round: what was expected does not hold here."
        if worse:
            return f"not shown here, in a study that did tell {sentence(worse)} from {than}."
        return (
            "the study could not tell arms apart there, and its other comparisons on such an "
            "outcome mean little."
        )


def controls(study: StudyRecord, lines: Sequence[Line]) -> list[TriedControl]:
    """Each control of the study on its metric, or on each primary outcome."""
    tried = []
    for control in study.info.get("controls") or []:
        for metric in [control["metric"]] if control.get("metric") else study.primary:
            one = comparisons_of(study, lines, metric, control["arm"], control["than"])[0]
            judge_alone(study, one)
            tried.append(TriedControl(control, metric, one))
    return tried


def control_sentences(tried: Sequence[TriedControl], scored: bool = True) -> list[str]:
    """A sentence for all controls whose failure means one thing, and one for those without a score.

    The page's first paragraph has them, and the section of controls. `scored`: whether the study
    has any scores.
    """
    by_meaning: dict[str, list[TriedControl]] = {}
    for failed in tried:
        if failed.came_out is False:
            worse = [
                other.control["arm"]
                for other in tried
                if other.came_out
                and other.control["expect"] == "worse"
                and (other.metric, other.control["than"]) == (failed.metric, failed.control["than"])
            ]
            by_meaning.setdefault(failed.meaning(worse), []).append(failed)
    sentences = [f"{_subject(c, 'did not come out')}: {text}" for text, c in by_meaning.items()]
    absent: dict[str, list[TriedControl]] = {}
    for control in tried if scored else ():
        if control.one is None or control.one.difference is None:
            absent.setdefault(control.outcome, []).append(control)
    return sentences + [f"{_subject(c, 'was not tried')}: {why}." for why, c in absent.items()]


def _subject(some: Sequence[TriedControl], verb: str) -> str:
    """`A control did not come out (text_to_image/exact, again: same as transfusion)`."""
    which = "; ".join(f"{control.metric}, {control.text}" for control in some)
    return f"{'A control' if len(some) == 1 else f'Of the controls, {len(some)}'} {verb} ({which})"
