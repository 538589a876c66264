"""A figure of the report before it is drawn: its title, what it shows, and how to draw it."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from unify.answers.arm_means import ArmMean
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord

WIDTH = 3.7  # inches: a column of a paper, and the page at 390 pixels, which then shrinks nothing
SMALL = 8.5  # points of the smallest text: 11.3 pixels of the page
LETTERS = 44  # of a name that fits into this width


@dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Args:
        caption: what is drawn, with the numbers of seeds and trials and the kind of interval.
        text: the same for those who cannot see it: the numbers themselves.
        draw: gives the figure, within the style of figure_style.py.
    """

    title: str
    caption: str
    text: str
    draw: Callable[[], Figure]


def spoken(metric: str) -> str:
    """The metric as words."""
    return metric.replace("_", " ")


def fitted(name: str) -> str:
    """The name, cut where it would not fit into a figure of one column."""
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"


def counted(study: StudyRecord, *lines: Line) -> str:
    """`n 512 prompts, 258 distinct; 5 seeds an arm`, of all lines."""
    trials = dict.fromkeys(line.trials for line in lines if line.trials)
    each = " and ".join(f"n {count}" for count in trials)
    return f"{each}{'; ' if each else ''}{study.seeds_in_words} an arm"


def whiskers(means: list[ArmMean]) -> str:
    """What the whiskers of these means are, for a caption."""
    over = " or ".join(dict.fromkeys(mean.over for mean in means if mean.over))
    if not over:
        return "No whiskers: so few seeds give a mean no interval."
    few = "" if all(mean.over for mean in means) else " (an arm without them has none)"
    return f"Whiskers: 95% interval of the mean, over {over}{few}."


def mean_text(mean: ArmMean) -> str:
    """`0.731 [0.702, 0.760]`."""
    ends = "" if mean.interval is None else " [{:.3f}, {:.3f}]".format(*mean.interval)
    return f"{mean.estimate:.3f}{ends}"
