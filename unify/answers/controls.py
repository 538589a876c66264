"""Controls: what must come out, or a study could not tell arms apart.

An arm that is another under other seeds must not differ from it, and arms known to be worse must
lose; where one fails, the report says what that means for the other comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unify.answers.differences import SAME, Comparison, comparison
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import p_value, sentence


@dataclass
class TriedControl:
    """A control on one metric, and its comparison, arm - than; None where nothing was measured."""

    control: dict[str, str]
    metric: str
    one: Comparison | None

    @property
    def text(self) -> str:
        """`again: same as transfusion`."""
        of = "as" if self.control["expect"] == "same" else "than"
        return f"{self.control['arm']}: {self.control['expect']} {of} {self.control['than']}"

    @property
    def came_out(self) -> bool | None:
        """At 5%, by itself; None where that cannot be told."""
        if self.one is None or self.one.p is None:
            return None
        return self._direction == self.control["expect"]

    @property
    def _direction(self) -> str:
        """same, worse or better, as the arm was found to be; different where neither is better."""
        assert self.one is not None
        if self.one.words == SAME:
            return "same"
        if self.one.line.better is None:
            return "different"
        return "better" if self.one.words == self.one.line.better else "worse"

    @property
    def outcome(self) -> str:
        """The result with its own p; or why there is none."""
        if self.one is None:
            return "not measured"
        if self.one.p is None:
            return self.one.words
        result = "no difference found" if self._direction == "same" else self._direction
        return f"{result}, p {p_value(self.one.p)}"

    def meaning(self, worse: Sequence[str]) -> str:
        """The meaning of this control's failure, as the end of a sentence.

        `worse`: other arms that were found worse than the same one.
        """
        than = self.control["than"]
        if self.control["expect"] == "same":
            return "seeds alone make such a difference, so others as small mean nothing."
        if self._direction == "different":
            return (
                "the metric states no direction (`better` of its score), so nothing is worse by it."
            )
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
            line = next((x for x in lines if x.metric == metric and not x.note), None)
            one = comparison(study, line, control["arm"], control["than"]) if line else None
            if one is not None:
                one.adjusted = one.p  # each control is tried by itself
            tried.append(TriedControl(control, metric, one))
    return tried


def control_sentences(study: StudyRecord, lines: Sequence[Line]) -> list[str]:
    """A sentence for all controls whose failure means one thing, and one for those without a score.

    The page's first paragraph has them, and the section of controls.
    """
    tried = controls(study, lines)
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
    absent = [control for control in tried if control.one is None]
    return sentences + ([f"{_subject(absent, 'has no score')}."] if absent and lines else [])


def _subject(some: Sequence[TriedControl], verb: str) -> str:
    """`A control did not come out (text_to_image/exact, again: same as transfusion)`."""
    which = "; ".join(f"{control.metric}, {control.text}" for control in some)
    return f"{'A control' if len(some) == 1 else f'Of the controls, {len(some)}'} {verb} ({which})"
