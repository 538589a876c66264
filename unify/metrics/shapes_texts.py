"""Answers and captions about images of the embedded world.

    vqa/accuracy, /<kind>, /heldout   the answer is exactly right
    vqa/chance, /<kind>               a guess among the options of the question
    vqa/majority, /<kind>             the most frequent training answer of the kind of question
    vqa/blind, /<kind>                the same model, every image replaced by a gray one
    caption/exact, /heldout           the caption parses into exactly the true scene

B rows.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from unify.batch import Text
from unify.data.shapes import Shapes
from unify.data.source import Record, Split, images, texts
from unify.distributed.ranks import split_over_ranks
from unify.metrics.metric import Grid, Metric, Score, Subject, average, proportion
from unify.metrics.shapes_images import passport, picture, records_of, shapes_of
from unify.noise import stable_seed
from unify.paradigm import Paradigm, TextRequest


def answer(
    subject: Subject, what: str, shown: Tensor, questions: Sequence[Text] | None
) -> list[str]:
    """Texts of the model, stripped, for images [B 3 H W] and questions (None: captions).

    `what` names the stream of seeds, as in `generate`.
    """
    model = subject.model
    assert isinstance(model, Paradigm)

    def write(rows: range) -> list[str]:
        request = TextRequest(
            shown[rows.start : rows.stop].to(model.device),
            None if questions is None else list(questions[rows.start : rows.stop]),
            seed=[stable_seed(subject.seed, what, row) for row in rows],
        )
        return model.generate_text(request, **subject.text_sampling)

    chunks = split_over_ranks(subject.chunks(len(shown)), write)
    return [text.strip() for texts in chunks for text in texts]


class VisualQuestions(Metric):
    """Accuracy on the first `questions` of a split and `heldout` of the held-out one; baselines."""

    tasks: ClassVar[frozenset[str]] = frozenset({"vqa"})

    def __init__(self, questions: int = 512, heldout: int = 128, split: Split = "test"):
        self.questions, self.heldout, self.split = questions, heldout, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        records = records_of(world, "vqa", self.split, self.questions)
        shown, questions = images(records, "image"), texts(records, "question")
        answers = answer(subject, f"vqa/{self.split}", shown, questions)
        blind = answer(subject, f"vqa/{self.split}", torch.zeros_like(shown), questions)
        common = majority(records_of(world, "vqa", "train", 4 * self.questions))
        guess = [common.get(record.meta["kind"], "") for record in records]
        chance = [1 / len(record.meta["options"]) for record in records]
        stamp = passport(
            subject, [(r.key, r.fields["question"]) for r in records], subject.text_sampling
        )
        right = hits(records, answers)
        scores = by_kind(
            "vqa/accuracy", records, right, stamp, partial(proportion, better="higher")
        )
        scores += by_kind("vqa/chance", records, chance, stamp, average)
        scores += by_kind("vqa/majority", records, hits(records, guess), stamp, proportion)
        scores += by_kind("vqa/blind", records, hits(records, blind), stamp, proportion)
        if self.heldout and world.board.heldout:
            scores.append(self._heldout(subject, world))
        titles = [f"{q} {a}" for q, a in zip(questions, answers, strict=True)]
        return scores, [picture("vqa", shown, titles, right)]

    def _heldout(self, subject: Subject, world: Shapes) -> Score:
        records = records_of(world, "vqa", "heldout", self.heldout)
        answers = answer(
            subject, "vqa/heldout", images(records, "image"), texts(records, "question")
        )
        stamp = passport(
            subject, [(r.key, r.fields["question"]) for r in records], subject.text_sampling
        )
        return proportion("vqa/accuracy/heldout", hits(records, answers), stamp, better="higher")


def hits(records: Sequence[Record], answers: Sequence[str]) -> list[bool]:
    """True for each answer that equals its record's, to the letter."""
    return [text == r.fields["answer"] for r, text in zip(records, answers, strict=True)]


def majority(records: Sequence[Record]) -> dict[str, str]:
    """The most frequent answer of each kind of question; the first in the alphabet among equals."""
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        answers[record.meta["kind"]][record.fields["answer"]] += 1
    return {k: min((-n, text) for text, n in counts.items())[1] for k, counts in answers.items()}


def by_kind(
    name: str, records: Sequence[Record], values: Sequence, stamp: dict, score: Callable[..., Score]
) -> list[Score]:
    """The score over all records and over those of each kind of question."""
    groups: defaultdict[str, list] = defaultdict(list)
    for record, value in zip(records, values, strict=True):
        groups[record.meta["kind"]].append(value)
    parts = [score(f"{name}/{kind}", groups[kind], stamp) for kind in sorted(groups)]
    return [score(name, values, stamp), *parts]


class Captions(Metric):
    """Exactness of captions of the first `images` of a split and `heldout` of the held-out one."""

    tasks: ClassVar[frozenset[str]] = frozenset({"caption"})

    def __init__(self, images: int = 256, heldout: int = 128, split: Split = "test"):
        self.images, self.heldout, self.split = images, heldout, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        score, grid = self._score(subject, "caption/exact", self.split, self.images)
        scores, grids = [score], [grid]
        if self.heldout and shapes_of(subject).board.heldout:
            score, grid = self._score(subject, "caption/exact/heldout", "heldout", self.heldout)
            scores.append(score)
            grids.append(grid)
        return scores, grids

    def _score(self, subject: Subject, name: str, split: Split, n: int) -> tuple[Score, Grid]:
        world = shapes_of(subject)
        records = records_of(world, "caption", split, n)
        shown = images(records, "image")
        captions = answer(subject, f"caption/{split}", shown, None)
        right = [world.parse(t) == r.meta["scene"] for r, t in zip(records, captions, strict=True)]
        truth = [(r.key, r.fields["caption"]) for r in records]
        stamp = passport(subject, truth, subject.text_sampling)
        return proportion(name, right, stamp, better="higher"), picture(
            name, shown, captions, right
        )
