"""Ceilings: what a model's image tokenizer gives back of the true images of the same prompts.

    <score>/ceiling    the score beside it, by the same judge, of the true images given back

No model that draws with this decoder can be expected to draw better, however well it learned. A
prompt that leaves something open has the image of its own record; the ceiling of variety is that of
the true images, which chance may pass. A model that draws pixels without a tokenizer gives the true
images back as they are.

N images of H x W pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from unify.metrics.metric import Score, Subject
from unify.metrics.reconstruction import reconstruct
from unify.paradigm import Paradigm
from unify.tokenizer import ImageTokenizer

OF_THE_MODEL = ("sampler", "sampling", "seeds")  # in a passport: a ceiling has neither


def with_ceiling(
    subject: Subject, drawn: Tensor, truth: Tensor, score: Callable[[Tensor], list[Score]]
) -> list[Score]:
    """Scores of drawn images, each followed by its ceiling.

    Args:
        drawn: [N 3 H W] in [-1, 1], by the subject's model.
        truth: the true images [N 3 H W] of the same prompts.
        score: judges N images.
    """
    best = [ceiling(subject, one) for one in score(given_back(subject, truth))]
    return [one for pair in zip(score(drawn), best, strict=True) for one in pair]


def given_back(subject: Subject, truth: Tensor) -> Tensor:
    """True images [N 3 H W] after the tokenizer that the model draws with."""
    tokenizer = _tokenizer(subject)
    return truth if tokenizer is None else reconstruct(tokenizer, truth, subject.batch)[0].float()


def ceiling(subject: Subject, score: Score) -> Score:
    """A score of what was given back, named as the ceiling of its like."""
    tokenizer = _tokenizer(subject)
    kept = {key: value for key, value in score.passport.items() if key not in OF_THE_MODEL}
    passport: dict[str, Any] = {
        **kept,
        "tokenizer": "none: pixels" if tokenizer is None else tokenizer.content_hash(),
    }
    return replace(score, metric=f"{score.metric}/ceiling", passport=passport)


def _tokenizer(subject: Subject) -> ImageTokenizer | None:
    assert isinstance(subject.model, Paradigm)
    return subject.model.draws_with
