"""`unify eval RUN`: a trained run -> scores with counts, intervals and passports.

Scores go to `<run>/eval/scores.json`, the outcome of every trial to `outcomes.npz`, what the
paradigm is to `card.json`, grids beside them; to MLflow too. The exported (averaged)
weights of the last step are used, never the best on what is evaluated.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from unify import __version__
from unify.data.source import Source, images
from unify.distributed.ranks import broadcast_first, in_step, is_first
from unify.evaluation.image_grids import save_grid
from unify.evaluation.paradigm_card import card
from unify.metrics.metric import Grid, Metric, Score, Subject
from unify.metrics.reconstruction import reconstruct
from unify.paradigm import ImageRequest, Paradigm, TextRequest, Trainable
from unify.runs.folder import Run, autocast, write_json
from unify.schema.experiment import Recipe
from unify.support.atomic_files import write_atomically
from unify.tokenizer import ImageTokenizer

Row = dict[str, Any]
SCORING = ("evaluation", "image_sampling", "text_sampling")  # how a run is scored, in its config


def evaluate(
    run: Run, recipe: Recipe, config: dict[str, Any], again: bool = False, untimed: bool = False
) -> list[Row]:
    """Scores of a finished run, measured once per (weights, evaluation settings, version).

    `untimed` leaves what takes a quiet machine to a later call, which adds it. All ranks call: each
    does its share, and the first writes.
    """
    # perhaps another process is scoring it
    with run.writing(wait=True), in_step():
        return _evaluate(run, recipe, config, again, untimed)


def stored_scores(run: Run, config: dict[str, Any], untimed: bool = False) -> list[Row] | None:
    """The scores of a run, if all that is asked was measured: that takes none of its parts."""
    known = _known(run, config)
    return known["rows"] if known and _enough(known, untimed) else None


def _evaluate(
    run: Run, recipe: Recipe, config: dict[str, Any], again: bool, untimed: bool
) -> list[Row]:
    known = None if again else broadcast_first(_known(run, config) if is_first() else None)
    if known and _enough(known, untimed):
        return known["rows"]
    drawn = card(recipe) if known is None and isinstance(recipe.model, Paradigm) else None
    left = [metric for metric in recipe.evaluation if metric.timed or not known]
    chosen = [metric for metric in left if not (metric.timed and untimed)]
    facts = broadcast_first(run.info)
    scores, grids = measure(recipe, facts, chosen)
    rows = [
        {"arm": facts["arm"], "paradigm": facts["paradigm"], "seed": facts["seed"], **score.row()}
        for score in scores
    ]
    rows = [*(known["rows"] if known else []), *rows]
    if is_first():
        folder = run.folder / "eval"
        if drawn is not None:
            write_json(folder / "card.json", drawn)
        for grid in grids:
            save_grid(grid, folder / f"{grid.name.replace('/', '-')}.png")
        if not known:
            write_atomically(folder / OUTCOMES, _packed(scores))
        done = {"asked": _identity(run, config), "complete": chosen == left, "rows": rows}
        write_json(folder / SCORES, done)
    return rows


SCORES, OUTCOMES = "scores.json", "outcomes.npz"


def _known(run: Run, config: dict[str, Any]) -> dict[str, Any] | None:
    """What was measured of what is asked."""
    folder = run.folder / "eval"
    if not (folder / SCORES).exists() or not (folder / OUTCOMES).exists():
        return None
    known = json.loads((folder / SCORES).read_text())
    return known if known["asked"] == _identity(run, config) else None


def _enough(known: dict[str, Any], untimed: bool) -> bool:
    return untimed or known.get("complete", True)


def _packed(scores: list[Score]) -> bytes:
    """Outcomes by metric, as numpy's npz."""
    packed = io.BytesIO()
    arrays: dict[str, Any] = {s.metric: np.asarray(s.outcomes, float) for s in scores}
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def _identity(run: Run, config: dict[str, Any]) -> str:
    parts = [config[key] for key in SCORING]
    text = json.dumps([parts, run.info["weights"], __version__], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measure(
    recipe: Recipe, facts: dict[str, Any], metrics: Sequence[Metric]
) -> tuple[list[Score], list[Grid]]:
    """Every metric that applies to what the run trained on or answers untrained."""
    subject = subject_of(recipe, facts["seed"])
    scores: list[Score] = []
    grids: list[Grid] = []
    device = next(subject.model.parameters()).device
    with torch.no_grad(), autocast(recipe.machine.precision, device):
        for metric in metrics:
            if metric.tasks & subject.tasks:
                found, pictures = metric.measure(subject)
                scores += found
                grids += pictures
    common = {
        "weights": facts["weights"],
        "precision": recipe.machine.precision,
        "version": __version__,
    }
    for score in scores:
        score.passport = {**common, **score.passport}
    return scores, grids


def subject_of(recipe: Recipe, seed: int) -> Subject:
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


def preview(subject: Subject, precision: str, count: int = 16) -> list[Grid]:
    """A look at what the model makes of the first validation records, by the evaluation sampler."""
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


def _first(source: Source, task: str, count: int):
    return [
        source.record(task, "validation", index)
        for index in range(min(count, source.size(task, "validation")))
    ]
