"""`unify eval RUN`: a trained run -> scores with counts, intervals and passports.

Scores go to `<run>/eval/scores.json`, the outcome of every trial to `outcomes.npz`, the paradigm's
card to `card.json`, grids beside them. The exported (averaged) weights of the last step are used,
never the best on what is evaluated.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from unify import __version__
from unify.data.source import Record, Source, images, source_fingerprint
from unify.distributed.ranks import broadcast_first, in_step, is_first
from unify.evaluation.image_grids import save_grid
from unify.evaluation.paradigm_card import card
from unify.evaluation.scores_identity import scores_identity
from unify.metrics.metric import Grid, Metric, Score, Subject, available_records, first_records
from unify.metrics.reconstruction import reconstruct
from unify.paradigm import ImageRequest, Paradigm, TextRequest, Trainable
from unify.runs.cut_texts import count_cut
from unify.runs.folder import Run, write_json
from unify.runs.stored_scores import (
    METRIC_VERSION,
    OUTCOMES,
    PROMPTS,
    StoredScores,
    array_names,
    read_scores,
    with_arrays,
    write_scores,
)
from unify.runs.study_files import Row
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.support.portable import portable
from unify.support.precision import autocast, precision_on
from unify.support.stop_protocol import kept_if_interrupted
from unify.support.user_code import class_code, warn_of_imports
from unify.tokenizer import ImageTokenizer

CARD = "card.json"  # in <run>/eval


def evaluate(
    run: Run, recipe: Recipe, config: Config, again: bool = False, untimed: bool = False
) -> list[Row]:
    """Scores of a finished run, measured once per (weights, evaluation settings, version).

    All ranks call: each does its share, and the first writes.

    Args:
        recipe: what the run was trained with, built, its weights loaded.
        config: the completed configuration that says how to score it.
        again: measure even if the scores are stored.
        untimed: leave the metrics that need a quiet machine to a later call, which adds them.

    ValueError for stored scores that were edited or damaged, unless `again`.
    """
    _check_source(run, recipe)
    kept = f"{run.folder} is trained, and the same command scores it from the start"
    # another process is perhaps scoring it
    with run.writing(wait=True), in_step(), kept_if_interrupted(kept):
        stored = None if again else _stored_on_first(run, config)
        if stored and _is_enough(stored, untimed):
            return stored.rows
        new = stored is None
        paradigm_card = card(recipe) if new and isinstance(recipe.model, Paradigm) else None
        left = [metric for metric in recipe.evaluation if metric.timed or new]
        chosen = [metric for metric in left if not (metric.timed and untimed)]
        facts = broadcast_first(run.info)
        cut_before = _texts_cut(recipe)
        scores, grids = measure(recipe, facts, chosen)
        cut = _texts_cut(recipe) - cut_before
        if new and cut != facts.get("texts_cut_in_scoring", 0):
            run.update(texts_cut_in_scoring=cut)
        arm = {key: facts[key] for key in ("arm", "paradigm", "seed")}
        measured = [{**arm, **score.row()} for score in scores]
        rows = with_arrays([*(stored.rows if stored else []), *measured])
        warn_of_imports()
        if is_first():
            folder = run.folder / "eval"
            if paradigm_card is not None:
                write_json(folder / CARD, paradigm_card)
            for grid in grids:
                save_grid(grid, folder / f"{grid.name.replace('/', '-')}.png")
            outcomes = outcomes_of(scores) if new else None
            write_scores(run.folder, scores_identity(run, config), chosen == left, rows, outcomes)
        return rows


def _check_source(run: Run, recipe: Recipe) -> None:
    """ValueError if the data are others than those that the run was trained on."""
    then, now = run.info.get("source"), source_fingerprint(recipe.data.source)
    if then not in (None, now):
        raise ValueError(
            f"{run.folder} was trained on data whose fingerprint is {then}, and its data have "
            f"{now} now: put those back, or train again"
        )


def _texts_cut(recipe: Recipe) -> int:
    """Texts that were cut so far, by all ranks."""
    model = recipe.model
    return count_cut(model.tokenizers().values())[0] if isinstance(model, Paradigm) else 0


def stored_scores(run: Run, config: Config, untimed: bool = False) -> list[Row] | None:
    """Rows that an earlier call stored, if they answer this request; no weights are loaded.

    All ranks call. ValueError for scores that were edited or damaged.
    """
    stored = _stored_on_first(run, config)
    return stored.rows if stored and _is_enough(stored, untimed) else None


def _stored_on_first(run: Run, config: Config) -> StoredScores | None:
    """`_stored` as the first rank reads it, on all ranks, or its ValueError on all."""
    stored, problem = None, ""
    if is_first():
        try:
            stored = _stored(run, config)
        except ValueError as error:
            problem = str(error)
    stored, problem = broadcast_first((stored, problem))
    if problem:
        raise ValueError(problem)
    return stored


def _stored(run: Run, config: Config) -> StoredScores | None:
    """The scores, if they were measured with these weights, settings, versions and precision.

    `auto` takes them in any: the machine that asks may be another one, without the accelerator.
    """
    stored = read_scores(run.folder)
    if stored is None or not (run.folder / "eval" / OUTCOMES).is_file():
        return None
    precisions = {row["passport"].get("precision") for row in stored.rows}
    as_asked = precisions <= {None, config["machine"]["precision"]}
    if not as_asked and config["machine"]["precision"] != "auto":
        return None
    return stored if stored.asked == scores_identity(run, config) else None


def _is_enough(stored: StoredScores, untimed: bool) -> bool:
    """True if no score is missing; timed metrics may have been left for later."""
    return untimed or stored.complete


def outcomes_of(scores: Sequence[Score]) -> dict[str, np.ndarray]:
    """Outcomes of every trial by the name of their array, as outcomes.npz has them.

    `prompts/<name>`: index of the distinct prompt of each trial, int64 [n]; absent where each
    trial has its own.
    """
    named = dict(zip(array_names([s.metric for s in scores]), scores, strict=True))
    outcomes = {name: np.asarray(s.outcomes, float) for name, s in named.items()}
    prompts = {PROMPTS + name: np.asarray(s.prompts, int) for name, s in named.items() if s.prompts}
    return outcomes | prompts


def check_told_apart(scores: Sequence[Score]) -> None:
    """ValueError for two unlike scores of one name and passport: no report tells them apart."""
    first: dict[str, Score] = {}
    for score in scores:
        key = json.dumps([score.metric, score.passport], sort_keys=True, default=str)
        before = first.setdefault(key, score)
        alike = [(each.value, list(each.outcomes)) for each in (before, score)]
        if before is not score and repr(alike[0]) != repr(alike[1]):  # as repr: NaN is as NaN
            raise ValueError(
                f"evaluation: {score.metric} is measured twice, as {before.value} and as "
                f"{score.value}, and the passports are the same: say in the passport what differs "
                "(`split`, the digest of the prompts), or measure it once"
            )


def measure(
    recipe: Recipe, facts: dict[str, Any], metrics: Sequence[Metric]
) -> tuple[list[Score], list[Grid]]:
    """Scores and grids of every metric that applies to a task the run trained on or answers.

    `facts` is run.json: its seed is that of the samplers, its weights go into each passport.
    """
    subject = subject_of(recipe, facts["seed"])
    scores: list[Score] = []
    grids: list[Grid] = []
    device = next(subject.model.parameters()).device
    with torch.no_grad(), autocast(recipe.machine.precision, device):
        for metric in metrics:
            if metric.tasks & subject.tasks:
                measured, pictures = metric.measure(subject)
                for score in measured:
                    score.passport = {**_of_metric(metric), **score.passport}
                scores += measured
                grids += pictures
    common = {
        "weights": facts["weights"],
        "precision": precision_on(device, recipe.machine.precision),
        "version": __version__,
    }
    for score in scores:
        score.passport = {**common, **score.passport}
    check_told_apart(scores)
    return scores, grids


def _of_metric(metric: Metric) -> dict[str, Any]:
    """What a passport says of the metric itself: version, code and its own weights, if it has.

    Of a user's metric also its arguments, by which two of a name may measure unlike things.
    """
    code = class_code(type(metric))
    of_user = {"arguments": portable(dict(metric.configured))} if code else {}
    weights = {"metric_weights": dict(metric.own_weights)} if metric.own_weights else {}
    version = f"{metric.version}, {code}" if code else metric.version
    return {METRIC_VERSION: version, **of_user, **weights}


def subject_of(recipe: Recipe, seed: int) -> Subject:
    """The model as metrics see it, with the tasks it was trained on or answers untrained."""
    assert isinstance(recipe.model, Trainable)
    tasks = frozenset(recipe.data.tasks)
    if isinstance(recipe.model, Paradigm):
        tasks |= recipe.model.answers & recipe.data.source.tasks
    return Subject(
        model=recipe.model,
        source=recipe.data.source,
        tasks=tasks,
        lengths=dict(recipe.data.lengths),
        image_sampling=recipe.image_sampling,
        text_sampling=recipe.text_sampling,
        seed=seed,
    )


def check_scores(recipe: Recipe) -> None:
    """ValueError, before a training begins, if a metric could not score what it makes."""
    subject = subject_of(recipe, recipe.seeds.init)
    for metric in recipe.evaluation:
        if metric.tasks & subject.tasks:
            try:
                metric.check(subject)
            except ValueError as error:
                name = type(metric).__name__
                raise ValueError(f"evaluation: {name}: {error}, or leave it out") from None


def check_preview(subject: Subject) -> None:
    """ValueError, before a training begins, if the validation split lacks what `preview` draws."""
    of_paradigms = ("text_to_image", "caption")
    drawn = ("image",) if isinstance(subject.model, ImageTokenizer) else of_paradigms
    for task in subject.tasks.intersection(drawn):
        try:
            available_records(subject.source, task, "validation")
        except ValueError as error:
            raise ValueError(f"logging.samples_every: {error}; 0 draws no pictures") from None


def preview(subject: Subject, precision: str, count: int = 16) -> list[Grid]:
    """Grids of what the model makes of the first `count` validation records.

    Drawn with the samplers of the evaluation; captions, pictures or reconstructions by its tasks.
    """
    device = next(subject.model.parameters()).device
    with torch.no_grad(), autocast(precision, device):
        return _preview(subject, count)


def _preview(subject: Subject, count: int) -> list[Grid]:
    model = subject.model
    grids: list[Grid] = []
    if isinstance(model, Paradigm) and "text_to_image" in subject.tasks:
        records = _first(subject.source, "text_to_image", count)
        prompts = [record.fields["prompt"] for record in records]
        size = tuple(records[0].fields["image"].shape[:2])
        request = ImageRequest(prompts, size=size)
        drawn = model.generate_image(request, **subject.image_sampling)
        grids.append(Grid("text_to_image", drawn.cpu(), prompts, [None] * len(prompts)))
    if isinstance(model, Paradigm) and "caption" in subject.tasks:
        shown = images(_first(subject.source, "caption", count), "image")
        captions = model.generate_text(TextRequest(shown), **subject.text_sampling)
        grids.append(Grid("caption", shown, captions, [None] * len(captions)))
    if isinstance(model, ImageTokenizer):
        shown = images(_first(subject.source, "image", count), "image")
        copies, _ = reconstruct(model, shown, subject.batch)
        both = torch.stack([shown, copies], dim=1).flatten(0, 1)
        unjudged: list[bool | None] = [None] * len(both)
        grids.append(Grid("reconstruction", both, ["image", "decoded"] * len(shown), unjudged))
    return grids


def _first(source: Source, task: str, count: int) -> list[Record]:
    return first_records(source, task, "validation", count)
