"""Scores of answers and captions: exact words, and baselines that follow from the questions."""

import pytest
from shapes_oracle import WORLD, Oracle, measured

from unify.metrics.shapes_images import (
    records_of,
)
from unify.metrics.shapes_texts import Captions, VisualQuestions


def test_question_baselines_are_those_of_the_answers():
    scores, grids = measured(VisualQuestions(questions=200, heldout=0), Oracle(WORLD))
    records = records_of(WORLD, "vqa", "test", 200)
    options = [len(record.meta["options"]) for record in records]
    assert scores["vqa/chance"].value == pytest.approx(sum(1 / n for n in options) / 200)
    assert scores["vqa/chance/exists"].value == 0.5
    assert scores["vqa/chance/count"].value == pytest.approx(1 / 3)
    for kind in WORLD.questions:
        assert scores[f"vqa/accuracy/{kind}"].n == sum(r.meta["kind"] == kind for r in records)
        gap = scores[f"vqa/majority/{kind}"].value - scores[f"vqa/chance/{kind}"].value
        assert abs(gap) < 0.25  # balanced answers: a constant is no better than a guess
    assert scores["vqa/blind"].value == 0  # the oracle answers from the image alone
    assert len(grids["vqa"].titles) == 16


def test_an_answer_must_be_exact_but_for_space_around_it():
    class Padded(Oracle):
        def sample_text(self, request, sampler):
            return [f" {text}\n" for text in super().sample_text(request, sampler)]

    class Wordy(Oracle):
        def sample_text(self, request, sampler):
            return [f"{text}." for text in super().sample_text(request, sampler)]

    metric = VisualQuestions(questions=20, heldout=0)
    assert measured(metric, Padded(WORLD))[0]["vqa/accuracy"].value == 1
    assert measured(metric, Wordy(WORLD))[0]["vqa/accuracy"].value == 0


def test_captions_may_name_objects_in_any_order():
    class Backwards(Oracle):
        def sample_text(self, request, sampler):
            captions = super().sample_text(request, sampler)
            return [" and ".join(text.strip().split(" and ")[::-1]) for text in captions]

    scores, _ = measured(Captions(images=20, heldout=0), Backwards(WORLD))
    assert scores["caption/exact"].value == 1
