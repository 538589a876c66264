"""Scores of answers and captions: exact words, and baselines that follow from the questions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapes_oracle import WORLD, Oracle, measured, subject

from unify.data.source import Record
from unify.metrics.metric import first_records
from unify.metrics.shapes_texts import Captions, VisualQuestions, others_pictures


def test_question_baselines_are_those_of_the_answers():
    scores, grids = measured(VisualQuestions(questions=200, heldout=0), Oracle(WORLD))
    records = first_records(WORLD, "vqa", "test", 200)
    options = [len(record.meta["options"]) for record in records]
    assert scores["vqa/chance"].value == pytest.approx(sum(1 / n for n in options) / 200)
    assert scores["vqa/chance/exists"].value == 0.5
    assert scores["vqa/chance/count"].value == pytest.approx(1 / 3)
    for kind in WORLD.questions:
        assert scores[f"vqa/accuracy/{kind}"].n == sum(r.meta["kind"] == kind for r in records)
        gap = scores[f"vqa/majority/{kind}"].value - scores[f"vqa/chance/{kind}"].value
        assert abs(gap) < 0.25  # balanced answers: a constant is no better than a guess
    chance, blind = scores["vqa/chance"], scores["vqa/blind"]
    assert (chance.low, chance.high, len(chance.outcomes)) == (None, None, 0), "a constant"
    assert blind.value < 0.5 < scores["vqa/accuracy"].value, "it answers from the image alone"
    assert len(grids["vqa"].titles) == 16


def test_the_blind_are_shown_pictures_of_other_questions_the_same_for_every_arm():
    class Seeing(Oracle):
        def __init__(self, world):
            super().__init__(world)
            self.seen = []

        def sample_text(self, request, sampler):
            self.seen.append((request.images, request.prompts))
            return super().sample_text(request, sampler)

    shown = []
    for seed in (1, 2):
        model = Seeing(WORLD)
        metric = VisualQuestions(questions=40, heldout=0)
        metric.measure(subject(model, seed=seed))
        pictures = torch.cat([images for images, _ in model.seen])
        questions = [text for _, texts in model.seen for text in texts]
        assert questions[:40] == questions[40:]
        shown.append(pictures)
    truth, others = shown[0].split(40)
    assert torch.equal(shown[0], shown[1]), "whatever the arm's seed"
    assert sorted(row.numpy().tobytes() for row in truth) == sorted(
        row.numpy().tobytes() for row in others
    ), "each picture once: as in the questions themselves"
    assert not any(torch.equal(*pair) for pair in zip(truth, others, strict=True))


def scene_records(scenes):
    return [Record(f"vqa/{i}", {}, {"scene": scene}) for i, scene in enumerate(scenes)]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30))
def test_no_question_keeps_its_picture_and_few_get_one_of_its_scene(scenes):
    others = others_pictures(scene_records(scenes))
    assert sorted(others) == list(range(len(scenes)))
    assert all(i != other for i, other in enumerate(others))
    alike = sum(scenes[i] == scenes[other] for i, other in enumerate(others))
    assert alike == 0 or max(scenes.count(s) for s in scenes) > 1


def test_a_question_without_another_has_no_blind_row():
    scores, _ = measured(VisualQuestions(questions=1, heldout=0), Oracle(WORLD))
    assert "vqa/accuracy" in scores
    assert "vqa/blind" not in scores


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
