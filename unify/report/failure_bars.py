"""Figure of failures: of each arm a bar of what is wrong with its pictures, by kind."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unify.answers.failures import KINDS, Failures
from unify.answers.study_answers import Answers
from unify.answers.words import plural
from unify.report.drawing import SMALL, WIDTH, Drawing, fitted, spoken, whiskers
from unify.report.figure_style import legend_below

# None of the arms' colours: a scheme for areas with black text on them, told apart by the
# colour-blind too (Paul Tol, "light").
COLOURS = ("#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99", "#dddddd")
WORDS = dict(
    zip(KINDS, ("shape", "colour", "size", "place", "too few", "too many", "refused"), strict=True)
)
WIDE = 0.11  # share of the axis from which a part has room for its number
READING = (
    "By nearest reading. A picture with several kinds of error counts for each in equal parts, so "
    "that a bar is as long as the share that is not right. Too few, too many: things; refused: by "
    "the checker's limits of distance and flaw, nothing else being said of such a picture."
)


def failure_bars(answers: Answers) -> dict[str, Drawing]:
    """A figure of each task whose pictures were read by kind of error."""
    tasks = dict.fromkeys(one.task for one in answers.failures)
    return {
        f"{task}-failures": _of_task(task, [one for one in answers.failures if one.task == task])
        for task in tasks
    }


def _of_task(task: str, some: list[Failures]) -> Drawing:
    counts = " or ".join(dict.fromkeys(f"{one.n:,}" for one in some))
    seeds = " or ".join(dict.fromkeys(plural(len(one.seeds), "seed") for one in some))
    means = [one.right for one in some if one.right is not None]
    ends = whiskers(means).replace("Whiskers:", "Lines under bars:") if means else ""
    caption = (
        f"Pictures of all full captions that are not right, by kind: mean over seeds. {READING} "
        f"{ends} n {counts} pictures a seed, {seeds} an arm."
    )
    each = [
        f"{one.arm}: {one.total:.3f} not right ("
        + ", ".join(f"{WORDS[kind]} {share:.3f}" for kind, share in one.shares.items())
        + ")"
        for one in some
    ]
    title = f"{spoken(task).capitalize()}: failures by kind"
    return Drawing(title, caption, "; ".join(each), partial(_draw, some))


def _draw(some: Sequence[Failures]) -> Figure:
    """A bar an arm, its name and length above it."""
    figure = Figure(figsize=(WIDTH, 1.35 + 0.42 * len(some)))
    axes = figure.add_subplot()
    ends = [1 - one.right.ends[0] for one in some if one.right is not None]
    most = max([one.total for one in some] + ends) * 1.04 or 1.0
    there = [kind for kind in KINDS if any(kind in one.shares for one in some)]
    left = [0.0] * len(some)
    for kind in there:
        widths = [one.shares.get(kind, 0.0) for one in some]
        colour = COLOURS[KINDS.index(kind)]
        axes.barh(
            range(len(some)), widths, 0.46, left, color=colour, edgecolor="white", linewidth=0.6,
            label=WORDS[kind],
        )  # fmt: skip
        for place, (width, start) in enumerate(zip(widths, left, strict=True)):
            if width >= WIDE * most:
                axes.text(
                    start + width / 2, place, f"{width:.2f}", ha="center", va="center",
                    fontsize=SMALL, color="black",
                )  # fmt: skip
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(ylim=(len(some) - 0.6, -0.75), xlim=(0, most), yticks=[])
    for place, one in enumerate(some):
        _ends(axes, place, one)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of pictures that are not right")
    legend_below(figure, axes, columns=4)
    return figure


def _ends(axes: Axes, place: int, one: Failures) -> None:
    """The arm's name and the length of its bar, and the interval of that."""
    text = f"{fitted(one.arm)}  {one.total:.3f}"
    axes.text(0.006 * axes.get_xlim()[1], place - 0.3, text, ha="left", va="bottom", fontsize=SMALL)
    if one.right is not None and one.right.interval is not None:
        low, high = one.right.interval
        under = place + 0.31  # clear of the numbers in the bar
        axes.plot([1 - high, 1 - low], [under, under], color="#191b1f", linewidth=1.2)
