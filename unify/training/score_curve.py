"""Scores on validation data at a few steps of a training, with the averaged weights.

They are `curve` records of the journal: {"step": 800, "kind": "curve", "text_to_image/exact": 0.4}.
By them a report says whether an arm was still learning when its training ended
(answers/learned.py). Their time is part of the training's.
"""

from collections.abc import Callable, Mapping, Sequence

from lightning.pytorch import Trainer

from unify.assembly.assemble import assemble, in_shards
from unify.config.validation_metrics import scored_steps, validation_metrics
from unify.distributed.ranks import in_step
from unify.evaluation.score_run import check_scores, measure
from unify.metrics.metric import Metric
from unify.runs.folder import Run
from unify.runs.journal import Journal
from unify.runs.study_files import has_value
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.support.user_code import check_imports
from unify.training.callbacks import EachStep
from unify.training.lightning_module import TrainingModule

Values = Mapping[str, float | None]


def assembled(config: Config, needed: dict[str, Run], scored: bool) -> tuple[Recipe, list[Metric]]:
    """The parts of a run that is to be trained, and the metrics that score it on the way.

    ValueError for a metric that could not score it; for those of `evaluation`, if it is `scored`
    afterwards.
    """
    whole, count = with_curve_metrics(config)
    recipe = assemble(whole, needed, meta=in_shards(config))
    check_imports()
    place = len(recipe.evaluation) - count
    final, curve = recipe.evaluation[:place], recipe.evaluation[place:]
    recipe.evaluation = [*(final if scored else ()), *curve]
    if recipe.evaluation:
        check_scores(recipe)
    recipe.evaluation = final
    return recipe, curve


def with_curve_metrics(config: Config) -> tuple[Config, int]:
    """The configuration whose `evaluation` ends with the metrics of `logging.scores`, and how many
    those are."""
    scores = config["logging"].get("scores")
    if not scores:
        return config, 0
    nodes = validation_metrics(config, scores["metrics"], scores["evaluation"])
    return {**config, "evaluation": [*config["evaluation"], *nodes]}, len(nodes)


def score_curve(run: Run, recipe: Recipe, metrics: Sequence[Metric]) -> list["ScoreCurve"]:
    """The callback that writes the scores by these metrics; none without a metric."""
    scores = recipe.logging.scores
    if scores is None or not metrics:
        return []

    def values() -> Values:
        facts = {"seed": recipe.seeds.init, "weights": None}
        rows = [score.row() for score in measure(recipe, facts, metrics)[0]]
        told = {row["metric"]: row["value"] if has_value(row) else None for row in rows}
        return {name: told[name] for name in scores.metrics if name in told}

    at = scored_steps(scores.at, recipe.steps)
    return [ScoreCurve(Journal(run.folder), at, values)]


class ScoreCurve(EachStep):
    """Writes a `curve` record at each of the steps `at`.

    All ranks measure, as weights in shards need them to; the first one writes. What is drawn is
    keyed by the run's seed, so that nothing of the training changes, and a resumed run repeats it.

    Args:
        journal: gets the records.
        at: steps.
        values: scores of the model as it is, by name.
    """

    def __init__(self, journal: Journal, at: set[int], values: Callable[[], Values]):
        self.journal, self.at, self.values = journal, at, values

    def each_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        if step not in self.at:
            return
        with module.averaged(), in_step():
            values = self.values()
        if trainer.is_global_zero:
            self.journal.write(step, "curve", values)
