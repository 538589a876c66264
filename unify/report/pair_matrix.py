"""The section All pairs: each arm against each, by difference and by probability of improvement."""

from collections.abc import Sequence

from unify.analysis.paired_differences import SAME
from unify.answers.answer_block import MOST_OUTCOMES
from unify.answers.comparison import Comparison, interval_text
from unify.answers.judged import EXPLORATORY
from unify.answers.ranking import ranking
from unify.answers.score_lines import MANY, Line
from unify.answers.study_answers import Answers
from unify.answers.words import number, plural, seeds_text, sentence, signed
from unify.report.html import Html, fold, join, swatch, tag
from unify.report.svg_plots import probability_plot

READING = (
    "An arm, by its mean the better one, against those to its right. First line: its mean minus "
    "theirs{}. Then P, the probability of improvement (Agarwal "
    "et al. 2021): at a prompt and a seed of each drawn at random it does better, ties counted "
    "half; dot and bar are P and its interval, on an axis from 0 to 1 with a stroke at 0.5. Last: "
    "in how many pairs of seeds, one of each arm, it has the better score. Intervals are "
    "simultaneous: 95% for all pairs and primary outcomes together. Below an arm: its mean with "
    "its own 95% interval. Of outcomes that are right or wrong, each prompt asked once, P is 0.5 "
    "plus half the difference and says nothing more than it does; the pairs of seeds do."
)


def section(answers: Answers) -> Html | None:
    """A matrix of each primary outcome that has intervals; None without any."""
    made = [
        table
        for line in answers.lines
        if line.metric in answers.study.primary and (table := _matrix(answers, line)) is not None
    ]
    if not made:
        return None
    rest = join(made[MOST_OUTCOMES:])
    more = fold(f"{plural(len(made) - MOST_OUTCOMES, 'other outcome')}", rest) if rest else None
    judged = answers.study.preset != EXPLORATORY
    how = READING.format(", bold where the two are told apart" if judged else "")
    return join([tag("p", how, class_="quiet"), *made[:MOST_OUTCOMES], more])


def _matrix(answers: Answers, line: Line) -> Html | None:
    """Arms down and across, the best first, with what was compared right of the diagonal."""
    compared = [one for one in answers.primary if one.line is line]
    ranked = ranking(line, compared)
    if ranked is None or not any(one.simultaneous for one in compared):
        return None
    arms = [arm for arm in ranked.arms if any(arm in (one.first, one.second) for one in compared)]
    if len(arms) > MANY:
        return None
    by_pair = {(one.first, one.second): (one, False) for one in compared}
    by_pair |= {(one.second, one.first): (one, True) for one in compared}
    corner = tag("th", tag("span", "arm, against", class_="quiet"), scope="col")
    head = tag("tr", corner, *(tag("th", _name(answers, arm), scope="col") for arm in arms[1:]))
    body = []
    for place, arm in enumerate(arms[:-1]):
        cells = [tag("td", class_="past")] * place
        for other in arms[place + 1 :]:
            cells.append(_cell(answers, other, *by_pair.get((arm, other), (None, False))))
        body.append(tag("tr", _row_head(answers, line, arm), *cells))
    caption = tag("caption", tag("b", line.full_name), f": {_made_of(compared)}")
    table = tag("table", caption, tag("thead", head), tag("tbody", *body), class_="matrix")
    return tag("div", table, class_="scroll")


def _name(answers: Answers, arm: str) -> Html:
    return tag("span", swatch(answers.study.arms.index(arm)), arm, class_="arm-name")


def _row_head(answers: Answers, line: Line, arm: str) -> Html:
    """The arm, and its mean with its interval."""
    mean = next((one for one in answers.means if one.line is line and one.arm == arm), None)
    parts = [_name(answers, arm)]
    if mean is not None:
        ends = "" if mean.interval is None else " [{}, {}]".format(*map(number, mean.interval))
        parts.append(tag("span", f"{number(mean.estimate)}{ends}", class_="interval"))
    return tag("th", *parts, scope="row")


def _cell(answers: Answers, other: str, one: Comparison | None, turned: bool) -> Html:
    """The row's arm against `other`; `turned`: where the comparison is the other way round."""
    name = tag("span", "against ", _name(answers, other), class_="against")
    if one is None or one.difference is None:
        why = "not compared" if one is None else one.reason
        return tag("td", name, tag("span", why, class_="quiet"))
    sign = -1 if turned else 1
    told = bool(one.verdict) and one.verdict != SAME
    ends = _turned(one.simultaneous, turned, 0.0)
    parts = [tag("b" if told else "span", signed(sign * one.difference.mean), class_="value")]
    parts.append(tag("span", f" {interval_text(ends)}" if ends else "", class_="interval"))
    return tag("td", name, tag("div", *parts), *_often(one, turned))


def _often(one: Comparison, turned: bool) -> list[Html]:
    """P(row > column), drawn and in numbers, and the pairs of seeds."""
    often = one.improvement
    if often is None:
        return []
    parts = []
    if often.over_prompts is not None:
        mean = often.over_prompts.mean
        p = 1 - mean if turned else mean
        judged = None if one.p is None else often.interval(one.tests)
        ends = _turned(judged, turned, 1.0)
        text = f"P {number(p)}" + ("" if ends is None else " [{}, {}]".format(*map(number, ends)))
        parts += [probability_plot(p, ends, text), tag("div", text, class_="interval")]
    share = 1 - often.over_seeds if turned else often.over_seeds
    pairs = f"{share * often.pairs:g} of {plural(often.pairs, 'pair')} of seeds"
    return [*parts, tag("div", pairs, class_="interval")]


def _turned(
    ends: tuple[float, float] | None, turned: bool, about: float
) -> tuple[float, float] | None:
    """The interval of the other direction: of minus the difference, or of 1 minus P."""
    return ends if ends is None or not turned else (about - ends[1], about - ends[0])


def _made_of(compared: Sequence[Comparison]) -> str:
    """`seeds 0 to 4; 256 distinct prompts; 20 tests in the family`."""
    made = [one for one in compared if one.difference is not None]
    seeds = dict.fromkeys(seeds_text(one.seeds) for one in made)
    prompts = dict.fromkeys(one.difference.prompts for one in made if one.difference is not None)
    counts = [f"{n:,} distinct prompts" for n in prompts if n is not None]
    by_seed = ["scores by seed alone"] if None in prompts else []
    named = dict.fromkeys((one.family, one.tests) for one in made if one.family)
    sizes = [f"{plural(tests, 'test')} in the family {name}" for name, tests in named]
    tests = sentence(sizes) or f"{plural(max(one.tests for one in made), 'test')} in the family"
    return "; ".join([sentence(list(seeds), "or"), sentence([*counts, *by_seed], "or"), tests])
