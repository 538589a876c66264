"""Figures of two things that an arm has at once: quality and cost, drawing and answering."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform

from unify.answers.arm_means import ArmMean
from unify.answers.costs import LABELS, OWN_FLOPS, Front, Place
from unify.answers.judged import EXPLORATORY
from unify.answers.score_lines import Line
from unify.answers.study_answers import Answers
from unify.answers.words import short
from unify.report.drawing import (
    WIDTH,
    Drawing,
    counted,
    fitted,
    mean_text,
    spoken,
    whiskers,
)
from unify.report.figure_style import arm_look, legend_below, log_axis

SEVERAL = 2  # arms that make a figure
FRONT = (
    "Filled: on the front, as no arm that costs no more has a better mean{}. Band: between the "
    "fronts of the intervals' lower and upper ends."
)
ACROSS = 26  # letters beside an axis
BESIDE = 4.5  # points that the dots of seeds stand right of their whisker
APART = 11.0  # points between the marks of arms whose costs look equal
ALIKE = 0.02  # share of the axis within which they do


def trade_offs(answers: Answers) -> dict[str, Drawing]:
    """By name; only those that two arms have numbers for."""
    both = None if answers.sides is None else _sides(answers, *answers.sides)
    made = {} if both is None else {"generation-against-understanding": both}
    for front in answers.fronts:
        cost = "flops" if front.cost in LABELS else front.cost
        made[f"{front.line.metric.replace('/', '-')}-by-{cost}"] = _of_front(answers, front)
    return made


def _of_front(answers: Answers, front: Front) -> Drawing:
    means = [place.mean for place in front.places]
    own = front.cost == OWN_FLOPS
    missing = " Needed runs, or their FLOPs, were not found, and are left out." if own else ""
    direction = "" if front.line.better == "higher" else " Lower is better."
    judged = answers.study.preset != EXPLORATORY
    on_front = FRONT.format("; told: the study's tests say so too" if judged else "")
    caption = (
        f"Mean of {front.line.metric} against {front.label}.{missing}{direction} "
        f"{_dots(means)}{whiskers(means)} {on_front} {counted(answers.study, front.line)}."
    )
    each = [
        f"{p.mean.arm} {mean_text(p.mean)} at {short(p.cost)}, {_standing(p)}" for p in front.places
    ]
    against = "FLOPs of training" if front.cost in LABELS else "seconds"
    title = f"{spoken(front.line.metric)} against {against}"
    return Drawing(title, caption, "; ".join(each), partial(_draw_front, answers, front))


def _standing(place: Place) -> str:
    if place.cheapest:
        return "on the front, cheapest"
    where = "on the front" if place.front else "behind"
    return f"{where}, {'told' if place.told else 'by its mean alone'}"


def _draw_front(answers: Answers, front: Front) -> Figure:
    """A dot per seed, a mark with a whisker per arm, the front of the means and its band."""
    figure = Figure(figsize=(WIDTH, 2.7 + 0.19 * len(front.places)))
    axes = figure.add_subplot()
    costs = [place.cost for place in front.places]
    for place in front.places:  # marks that stand aside take no part in the limits
        xs = [*(x for x, _ in place.seeds), *[place.cost] * 3]
        axes.scatter(xs, [*(y for _, y in place.seeds), *_three(place.mean)], s=0)
    log_axis(axes)
    axes.set_ylim(axes.get_ylim())
    axes.locator_params(axis="y", nbins=6)
    for place, aside in zip(front.places, _asides(costs, axes.get_xlim()), strict=True):
        look = arm_look(answers.study.arms.index(place.mean.arm))
        marks = {**look, "transform": _moved(axes, aside)}
        _mark(axes, place.cost, place.mean, None, marks, place.front, _standing(place))
        _seeds(axes, place.seeds, {**look, "transform": _moved(axes, aside + BESIDE)})
    right = axes.get_xlim()[1]
    best = max if front.line.better == "higher" else min
    low, middle, high = (
        [*accumulate(values, best)]
        for values in zip(*(_three(p.mean) for p in front.places), strict=True)
    )
    steps = [*costs, right]
    axes.fill_between(
        steps, [*low, low[-1]], [*high, high[-1]], step="post", color="#5d6169", alpha=0.13, lw=0
    )
    axes.step(steps, [*middle, middle[-1]], where="post", color="#5d6169", linewidth=0.9, zorder=0)
    axes.set_xlabel(front.label.replace(", needed", ",\nneeded"))
    axes.set_ylabel(_axis(front.line))
    legend_below(figure, axes)
    return figure


def _moved(axes: Axes, points: float) -> Transform:
    """The place of data, so many points to the right."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return axes.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _asides(costs: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """How many points each mark moves aside, so that those of equal costs are seen; costs rise."""
    near = ALIKE * math.log(ends[1] / ends[0])
    groups: list[list[float]] = []
    for cost in costs:
        if groups and math.log(cost / groups[-1][-1]) <= near:
            groups[-1].append(cost)
        else:
            groups.append([cost])
    return [APART * (i - (len(group) - 1) / 2) for group in groups for i in range(len(group))]


def _three(mean: ArmMean) -> tuple[float, float, float]:
    low, high = mean.ends
    return low, mean.estimate, high


def _sides(answers: Answers, drawn: Line, answered: Line) -> Drawing | None:
    """Drawing against answering; None for fewer than two arms that have both."""
    of = {(mean.line.metric, mean.arm): mean for mean in answers.means}
    pairs = [
        (of[answered.metric, arm], of[drawn.metric, arm])
        for arm in answers.study.compared_arms
        if (answered.metric, arm) in of and (drawn.metric, arm) in of
    ]
    if len(pairs) < SEVERAL:
        return None
    everything = [mean for pair in pairs for mean in pair]
    caption = (
        f"Mean of {drawn.metric} (generation) against {answered.metric} (understanding), of the "
        f"arms that do both. {_dots(everything)}{whiskers(everything)} "
        f"{counted(answers.study, answered, drawn)}."
    )
    each = [f"{y.arm}: understanding {mean_text(x)}, generation {mean_text(y)}" for x, y in pairs]
    draw = partial(_draw_sides, answers, pairs)
    return Drawing("Generation against understanding", caption, "; ".join(each), draw)


def _draw_sides(answers: Answers, pairs: Sequence[tuple[ArmMean, ArmMean]]) -> Figure:
    """A dot per seed, and a mark with two whiskers per arm."""
    figure = Figure(figsize=(WIDTH, 2.9 + 0.19 * ((len(pairs) + 1) // 2)))
    axes = figure.add_subplot()
    for x, y in pairs:
        look = arm_look(answers.study.arms.index(x.arm))
        common = x.by_seed.keys() & y.by_seed.keys()
        _seeds(axes, [(x.by_seed[seed], y.by_seed[seed]) for seed in sorted(common)], look)
        _mark(axes, x.estimate, y, x, look)
    axes.locator_params(nbins=5)
    axes.set_xlabel(_axis(pairs[0][0].line))
    axes.set_ylabel(_axis(pairs[0][1].line))
    legend_below(figure, axes)
    return figure


def _axis(line: Line) -> str:
    """The metric, in lines that fit beside an axis."""
    name = spoken(line.metric) + (" (lower is better)" if line.better == "lower" else "")
    return fill(name.replace("/", "/ "), ACROSS).replace("/ ", "/")


def _dots(means: Sequence[ArmMean]) -> str:
    """What small dots are, for a caption; a seed alone is the mean, and has none."""
    return "Small dots: one seed each. " if any(len(m.by_seed) > 1 for m in means) else ""


def _seeds(axes: Axes, points: Sequence[tuple[float, float]], look: dict[str, Any]) -> None:
    if len(points) > 1:
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, s=13, alpha=0.4, linewidths=0, **look)


def _mark(
    axes: Axes,
    x: float,
    mean: ArmMean,
    across: ArmMean | None,
    look: dict[str, Any],
    filled: bool = True,
    standing: str = "",
) -> None:
    """The mark of an arm, with its whisker and, where x is a mean too, that of `across`."""
    kind = {**look, "linewidth": 1.3, "marker": ""}
    if mean.interval is not None:
        axes.plot([x, x], mean.interval, **kind)
    if across is not None and across.interval is not None:
        axes.plot(across.interval, [mean.estimate] * 2, **kind)
    face = look["color"] if filled else "white"
    label = fitted(mean.arm) + (f": {standing}" if standing else "")
    rest = {key: value for key, value in look.items() if key != "color"}
    axes.scatter(
        [x], [mean.estimate], s=44, facecolor=face, edgecolor=look["color"], linewidths=1.4,
        label=label, zorder=3, **rest,
    )  # fmt: skip
