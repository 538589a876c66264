"""Quality against what it costs: FLOPs of training, and seconds for an image or a text.

An arm is on the front where no other that costs no more has a better mean. Which arms that are is
uncertain as the means are, so each place is *told* or not: an arm is told to be on the front if the
study's tests tell it better than every arm that costs no more, and told to be behind it if they
tell one of these better. Costs are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unify.analysis.best_of_trials import SIGNS
from unify.analysis.paired_differences import HIGHER, LOWER
from unify.answers.arm_means import ArmMean, arm_means
from unify.answers.comparison import Comparison
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.total_cost import total_cost
from unify.runs.study_files import has_value

Cost = dict[tuple[str, int], float]  # by (arm, seed)
TEXTS = ("caption", "vqa", "text")  # tasks whose target is a text
FLOPS, OWN_FLOPS, SECONDS = "total_flops", "own_flops", "seconds"  # what a cost counts
LABELS = {
    FLOPS: "FLOPs of training, needed runs and encoding included",
    OWN_FLOPS: "FLOPs of the arm's own training alone",
}


@dataclass(frozen=True)
class Place:
    """An arm at its cost.

    Args:
        cost: the mean over the seeds that have both.
        seeds: (cost, score) of each of these.
        front: whether its mean is on the front.
        told: whether the study's tests say so too; of the cheapest, which has no rival, always.
        cheapest: whether every other costs more.
    """

    cost: float
    mean: ArmMean
    seeds: list[tuple[float, float]]
    front: bool = False
    told: bool = False
    cheapest: bool = False


@dataclass(frozen=True)
class Front:
    """The arms that have a score and a cost, by rising cost.

    Args:
        cost: FLOPS, OWN_FLOPS or SECONDS.
        label: the same in words.
    """

    line: Line
    cost: str
    label: str
    places: list[Place]

    def steps(self, values: Sequence[float]) -> list[tuple[float, float]]:
        """The front of these scores, one for each place."""
        assert self.line.better is not None
        costs = [place.cost for place in self.places]
        return pareto(list(zip(costs, values, strict=True)), self.line.better)


def fronts(study: StudyRecord, lines: Sequence[Line], primary: Sequence[Comparison]) -> list[Front]:
    """Of each primary outcome that states what is better, and each cost that two arms have."""
    made = []
    for line in lines:
        if line.metric not in study.primary or line.note or line.better is None:
            continue
        verdicts = [one for one in primary if one.line is line]
        for cost, (label, of_runs) in costs(study, line.task).items():
            places = _places(study, line, of_runs, verdicts)
            made += [Front(line, cost, label, places)] if len(places) > 1 else []
    return made


def costs(study: StudyRecord, task: str) -> dict[str, tuple[str, Cost]]:
    """{kind: (label, cost of each run that has one)}, the time being that of what `task` makes.

    FLOPs are all that an arm takes where that is known of every run, else those of its own.
    """
    made, rate = ("a text", "texts") if task in TEXTS else ("an image", "images")
    seconds = {
        (r["arm"], r["seed"]): 1 / r["value"]
        for r in study.rows
        if r["metric"] == f"generate/{rate}_per_s" and has_value(r) and r["value"]
    }
    runs = [run for run in study.runs if run.flops and run.arm in study.compared_arms]
    own = {(run.arm, run.seed): run.flops or 0.0 for run in runs}
    whole = {(run.arm, run.seed): total_cost(study, run).total for run in runs}
    total = {key: value for key, value in whole.items() if value is not None}
    counts = FLOPS if len(total) == len(own) else OWN_FLOPS
    flops = total if counts == FLOPS else own
    return {counts: (LABELS[counts], flops), SECONDS: (f"seconds for {made}", seconds)}


def _places(
    study: StudyRecord, line: Line, cost: Cost, verdicts: Sequence[Comparison]
) -> list[Place]:
    """By rising cost, the better of equal cost first."""
    assert line.better is not None
    sign = SIGNS[line.better]
    places = []
    for mean in arm_means(study, line, study.compared_arms):
        seeds = [(cost[mean.arm, s], y) for s, y in mean.by_seed.items() if (mean.arm, s) in cost]
        if seeds:
            places.append(Place(sum(x for x, _ in seeds) / len(seeds), mean, seeds))
    places.sort(key=lambda place: (place.cost, -sign * place.mean.estimate))
    front = pareto([(place.cost, place.mean.estimate) for place in places], line.better)
    better = _told_better(line.better, verdicts)
    judged = []
    for place in places:
        within = [other for other in places if other is not place and other.cost <= place.cost]
        rivals = [other.mean.arm for other in within]
        arm, on = place.mean.arm, (place.cost, place.mean.estimate) in front
        ahead = all((arm, other) in better for other in rivals)
        behind = any((other, arm) in better for other in rivals)
        told, cheapest = ahead if on else behind, not rivals
        judged.append(Place(place.cost, place.mean, place.seeds, on, told, cheapest))
    return judged


def _told_better(better: str, verdicts: Sequence[Comparison]) -> set[tuple[str, str]]:
    """(better, worse) of every pair with a verdict."""
    pairs = set()
    for one in verdicts:
        if one.verdict in (HIGHER, LOWER):
            ahead = one.verdict == better
            pairs.add((one.first, one.second) if ahead else (one.second, one.first))
    return pairs


def pareto(points: Sequence[tuple[float, float]], better: str) -> list[tuple[float, float]]:
    """The (cost, score) points that are better than all that cost no more, by rising cost.

    `better`: `higher` or `lower`, as the scores state it.
    """
    sign, front = SIGNS[better], list[tuple[float, float]]()
    for cost, score in sorted(points, key=lambda p: (p[0], -sign * p[1])):
        if not front or sign * score > sign * front[-1][1]:
            front.append((cost, score))
    return front
