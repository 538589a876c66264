"""Quality against what it costs: FLOPs of training, and seconds for an image or a text."""

from collections.abc import Sequence

from unify.analysis.best_of_trials import SIGNS
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.runs.study_files import has_value

Cost = dict[tuple[str, int], float]  # by (arm, seed)
TEXTS = ("caption", "vqa", "text")  # tasks whose target is a text


def costs(study: StudyRecord, task: str) -> dict[str, tuple[str, Cost]]:
    """{key: (label, cost of each run that has one)}, the time being that of what `task` makes."""
    made, rate = ("a text", "texts") if task in TEXTS else ("an image", "images")
    seconds = {
        (r["arm"], r["seed"]): 1 / r["value"]
        for r in study.rows
        if r["metric"] == f"generate/{rate}_per_s" and has_value(r) and r["value"]
    }
    flops = {(run.arm, run.seed): run.flops for run in study.runs if run.flops}
    return {"flops": ("FLOPs of training", flops), "seconds": (f"seconds for {made}", seconds)}


def cost_points(line: Line, arm: str, cost: Cost) -> list[tuple[float, float]]:
    """(cost, score) of each seed that has both."""
    rows = line.cells[arm].rows if arm in line.cells else {}
    return [
        (cost[arm, seed], row["value"])
        for seed, row in rows.items()
        if (arm, seed) in cost and has_value(row)
    ]


def pareto(points: Sequence[tuple[float, float]], better: str) -> list[tuple[float, float]]:
    """The (cost, score) points that are better than all that cost no more, by rising cost.

    `better`: `higher` or `lower`, as the scores state it.
    """
    sign, front = SIGNS[better], list[tuple[float, float]]()
    for cost, score in sorted(points, key=lambda p: (p[0], -sign * p[1])):
        if not front or sign * score > sign * front[-1][1]:
            front.append((cost, score))
    return front
