"""Cells of the tables of differences, in words: the page and report.md show the same."""

from collections.abc import Sequence

from unify.analysis.sign_flips import MOST_SEEDS
from unify.answers.comparison import Comparison, interval_text
from unify.answers.judged import EXPLORATORY
from unify.answers.replicates import shared_text, whole_text
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, p_value, plural

READING = (
    "Difference of two arms trained under the same seeds, unless a row says otherwise, and scored "
    "on the same prompts, with its own 95% interval. All rows together: intervals that all hold in "
    "95% of such tables; one leaves out 0 exactly where p is at most 5%, and ends at 0 where only "
    "the sign is told. p is "
    "corrected for all rows (Holm). Sign flips: an exact p of this row alone, over the seeds, "
    "without a model; not the ground of the verdict. d_z: the difference over its standard "
    "deviation from seed to seed. For rows that are not distinguishable: Detectable, roughly the "
    "smallest true difference that these seeds and prompts find with probability 0.8 in a table of "
    "so many rows; Seeds needed, to find so a true difference as large as the largest and the "
    "smallest that the interval of d_z holds (“no end” where it holds 0)."
)
WITHOUT_VERDICTS = (
    "Difference of two arms trained under the same seeds, unless a row says otherwise, and scored "
    "on the same prompts, with its own 95% interval. All rows together: intervals that all hold in "
    "95% of such tables. The study is exploratory: it was not meant to decide anything, and no row "
    "does."
)
NAMED = (
    "The study named beforehand which rows get a verdict; p, and what holds together, is of those "
    "of a row's family. All others are shown with intervals that hold together for all of them, "
    "and without a verdict."
)
CONDITIONAL = (
    "Intervals are over seeds and prompts alone. Whatever all seeds of an arm share (its settings, "
    "chosen by hand or by one tuning, and the tokenizers and language models trained before it) is "
    "one draw: with other settings all seeds would shift together, and no interval here knows by "
    "how much."
)
TOGETHER = "All rows together"
COLUMNS = (
    TOGETHER,
    "In words",
    "p",
    "Sign flips",
    "d_z",
    "Detectable",
    "Seeds needed",
)
NONE = "–"


def columns(study: StudyRecord) -> tuple[str, ...]:
    """The columns of primary outcomes beside the difference; an exploratory study has one."""
    return (TOGETHER,) if study.preset == EXPLORATORY else COLUMNS


def reading(study: StudyRecord) -> str:
    """How to read the table of the primary outcomes."""
    if study.preset == EXPLORATORY:
        return WITHOUT_VERDICTS
    return f"{READING} {NAMED}" if study.preset else READING


def unseen_text(seeds: int) -> str:
    """What an interval over few seeds cannot know, with the share that may never have shown, and
    where simulations find that it covers less than 93% (docs/statistics.md)."""
    share = 1 - 0.05 ** (1 / seeds)
    return (
        "They take the differences of seeds as drawn from one bell-shaped law. Training that "
        "succeeds or fails under a few seeds only is not of that kind: what fewer than "
        f"{share:.0%} of seeds do may not have shown under {plural(seeds, 'seed')}. Where one arm "
        "is within 0.05 of 0 or 1 and seeds differ widely, the interval of a true difference "
        "covers it in about 90%."
    )


def limits_text(study: StudyRecord, some: Sequence[Comparison]) -> str:
    """What intervals of a table of these are over and what none knows, by what the seeds share and
    by the most seeds that a difference has."""
    seeds = max((one.difference.seeds for one in some if one.difference is not None), default=0)
    over = whole_text(study) or " ".join(filter(None, (CONDITIONAL, shared_text(study))))
    return f"{over} {unseen_text(seeds)}" if seeds else over


def notes_text(one: Comparison) -> str:
    """What was left out, and a method that had to change: empty where all is as it should be."""
    return "; ".join(one.notes)


def judged_texts(one: Comparison) -> tuple[str, ...]:
    """The cells under `COLUMNS` of a primary outcome."""
    if one.difference is None:
        return (NONE, "no verdict", *([NONE] * 5))
    if one.unjudged:
        return (together_text(one), one.words, *([NONE] * 5))
    size = one.difference.standardised if one.p is not None else None
    return (
        together_text(one),
        one.words,
        NONE if one.adjusted is None else p_value(one.adjusted),
        sign_flip_text(one),
        NONE if size is None else "{:.2f} [{:.2f}, {:.2f}]".format(*size).replace("-", "−"),
        NONE if one.detectable is None else number(one.detectable),
        seeds_needed_text(one),
    )


def together_text(one: Comparison) -> str:
    """The interval that holds together with those of the other rows."""
    ends = one.simultaneous
    return NONE if ends is None else interval_text(ends)


def sign_flip_text(one: Comparison) -> str:
    """The exact p, and that it is the least possible or that it and the model's disagree."""
    least = one.least_sign_flip_p
    if least is None:
        return NONE
    if one.sign_flip_p is None:
        return f"not with more than {MOST_SEEDS} seeds"
    text = p_value(one.sign_flip_p)
    if least > 0.05:
        return f"{text} (at least {p_value(least)} with so few seeds)"
    return f"{text} (disagrees with the model)" if one.sign_flips_disagree else text


def seeds_needed_text(one: Comparison) -> str:
    """`9 to 120`, `9, no end`, `more prompts` where no number of seeds is enough."""
    needed = one.seeds_needed
    if needed is None:
        return NONE
    fewest, most = needed
    if fewest is None:
        return "more prompts"
    return f"{fewest}, no end" if most is None else f"{fewest} to {most}"
