"""The section Sizes and budgets: best sizes, how they grow, and where two arms cross."""

from unify.answers.scaling import Series, size_text
from unify.answers.study_answers import Answers
from unify.answers.words import number, si
from unify.report.html import Html, Node, facts, join, tag

READING = (
    "Loss: of training, weighted as trained, mean over the last tenth of a run; it is compared "
    "within an arm only. Best size: the lowest point of a parabola in log parameters through all "
    "runs of a budget; its 95% interval holds what a cubic would say, too, and takes four sizes. "
    "At the edge of what was tried, the best size tried."
)
CROSSING = (
    "Where two arms score alike: lines through the log odds of the score of the size nearest to "
    "the best, against the log of the budget. Each interval is at 95% by itself: several pairs of "
    "arms are in no correction. That two arms do not cross is said where one is above the other at "
    "the smallest and at the largest budget, in 95% of such pairs."
)
WHERE = {"inside": "", "edge": "at the edge of the sizes tried", "none": "no lowest point"}


def section(answers: Answers) -> Html | None:
    """The best sizes, and sentences on them; None for a study with one budget."""
    by_arm = answers.series
    if not any(one.optima for one in by_arm.values()):
        return None
    parts: list[Node] = [tag("p", READING, class_="quiet"), _best_sizes(by_arm)]
    parts.append(tag("ul", *(tag("li", one.sentence) for one in answers.growths)))
    crossed = [tag("li", one.sentence) for one in answers.crossings]
    if crossed:
        parts += [tag("h3", "Crossings"), tag("p", CROSSING, class_="quiet"), tag("ul", *crossed)]
    return join(parts)


def _best_sizes(by_arm: dict[str, Series]) -> Html:
    """One row for each arm and budget."""
    rows: list[list[Node]] = []
    for arm, one in by_arm.items():
        for budget, best in one.optima.items():
            tried = sorted(place.size for place in one.at(budget))
            ends = "" if best.interval is None else f" [{', '.join(map(size_text, best.interval))}]"
            rows.append(
                [
                    arm,
                    si(budget),
                    ", ".join(si(size) for size in tried),
                    f"{si(best.size)}{ends}",
                    number(best.loss),
                    WHERE[best.where],
                ]
            )
    return facts(["", "budget", "sizes tried", "best size", "loss there", ""], rows, "scaling")
