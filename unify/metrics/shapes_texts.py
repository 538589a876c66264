"""Answers and captions about images of the embedded world.

    vqa/accuracy, /<kind>, /heldout   the answer is exactly right
    vqa/chance, /<kind>               a guess among the options of the question; no interval, since
                                      the questions decide it
    vqa/majority, /<kind>             the most frequent training answer of the kind of question
    vqa/blind, /<kind>                the same model, shown the picture of another question: what it
                                      answers from questions alone, with pictures as in training
    caption/exact, /heldout           the caption parses into exactly the true scene

B rows.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from unify.batch import Text
from unify.data.shapes import Shapes
from unify.data.source import Record, Split, images, texts
from unify.distributed.ranks import split_over_ranks
from unify.metrics.metric import (
    Better,
    Grid,
    Score,
    Subject,
    conditions,
    first_records,
    proportion,
)
from unify.metrics.shapes_drawing import ShapesMetric, picture, shapes_of
from unify.noise import stable_seed
from unify.paradigm import Paradigm, TextRequest
from unify.support.ranges import Count, CountOrZero

ByRows = Callable[[str, Sequence[int]], Score]  # the score of a name over some of the rows


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


class VisualQuestions(ShapesMetric):
    """Accuracy on the first `questions` of a split and `heldout` of the held-out one; baselines."""

    tasks: ClassVar[frozenset[str]] = frozenset({"vqa"})
    measures = tuple(
        f"vqa/{name}{kind}"
        for name in ("accuracy", "chance", "majority", "blind")
        for kind in ("", "/*")
    )

    def __init__(
        self,
        questions: Count = 512,
        heldout: CountOrZero = 128,
        split: Split = "test",
        sealed: str | None = None,
    ):
        self.questions, self.heldout = questions, heldout
        self.split, self.sealed = split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = self.world(subject)
        records = first_records(world, "vqa", self.split, self.questions)
        shown, questions = images(records, "image"), texts(records, "question")
        answers = answer(subject, f"vqa/{self.split}", shown, questions)
        right, stamp = hits(records, answers), self._passport(subject, records)
        asked = conditions(world, "vqa", records)
        common = majority(first_records(world, "vqa", "train", 4 * self.questions))
        guess = hits(records, [common.get(record.meta["kind"], "") for record in records])
        options = [len(record.meta["options"]) for record in records]

        def share(hits: Sequence[bool], better: Better | None = None, **seen: str) -> ByRows:
            of: dict[str, Any] = {"better": better, "unit": "questions"}
            return lambda name, rows: proportion(
                name, pick(hits, rows), stamp | seen, prompts=pick(asked, rows), **of
            )

        def chance(name: str, rows: Sequence[int]) -> Score:
            # no interval: given its questions, a guess has this share and no other
            value = math.fsum(1 / n for n in pick(options, rows)) / len(rows)
            return Score(name, value, len(rows), passport=stamp, unit="questions")

        scores = by_kind("vqa/accuracy", records, share(right, "higher"))
        scores += by_kind("vqa/chance", records, chance)
        scores += by_kind("vqa/majority", records, share(guess))
        if len(records) > 1:
            others = shown[others_pictures(records)]
            blind = hits(records, answer(subject, f"vqa/{self.split}", others, questions))
            scores += by_kind("vqa/blind", records, share(blind, images="of other questions"))
        if self.heldout and world.board.heldout:
            scores.append(self._heldout(subject, world))
        titles = [f"{q} {a}" for q, a in zip(questions, answers, strict=True)]
        return scores, [picture("vqa", shown, titles, right)]

    def _heldout(self, subject: Subject, world: Shapes) -> Score:
        records = first_records(world, "vqa", "heldout", self.heldout)
        shown, questions = images(records, "image"), texts(records, "question")
        right = hits(records, answer(subject, "vqa/heldout", shown, questions))
        stamp, asked = self._passport(subject, records), conditions(world, "vqa", records)
        of: dict[str, Any] = {"better": "higher", "unit": "questions", "prompts": asked}
        return proportion("vqa/accuracy/heldout", right, stamp, **of)

    def _passport(self, subject: Subject, records: Sequence[Record]) -> dict:
        asked = [(record.key, record.fields["question"]) for record in records]
        return self.passport(subject, asked, subject.text_sampling)


def hits(records: Sequence[Record], answers: Sequence[str]) -> list[bool]:
    """True for each answer that equals its record's, to the letter."""
    return [text == r.fields["answer"] for r, text in zip(records, answers, strict=True)]


def majority(records: Sequence[Record]) -> dict[str, str]:
    """The most frequent answer of each kind of question; the first in the alphabet among equals."""
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        answers[record.meta["kind"]][record.fields["answer"]] += 1
    return {k: min((-n, text) for text, n in counts.items())[1] for k, counts in answers.items()}


def others_pictures(records: Sequence[Record]) -> list[int]:
    """For each of several questions the index of another's picture; every picture is used once.

    A shift of the questions in a random order, the same for every arm: the first in which no
    question gets a picture of its own scene, or else the one with the fewest.
    """
    order = sorted(range(len(records)), key=lambda i: stable_seed("blind", records[i].key))
    scenes = [records[i].meta["scene"] for i in order]

    def alike(shift: int) -> int:
        return sum(a == b for a, b in zip(scenes, scenes[shift:] + scenes[:shift], strict=True))

    shifts = range(1, len(order))
    shift = next((s for s in shifts if not alike(s)), None) or min(shifts, key=alike)
    return [order[(order.index(i) + shift) % len(order)] for i in range(len(order))]


def by_kind(name: str, records: Sequence[Record], score: ByRows) -> list[Score]:
    """The score over all records and over those of each kind of question."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        rows[record.meta["kind"]].append(row)
    parts = [score(f"{name}/{kind}", rows[kind]) for kind in sorted(rows)]
    return [score(name, range(len(records))), *parts]


def pick(values: Sequence, rows: Sequence[int]) -> list:
    """Some of the values."""
    return [values[row] for row in rows]


class Captions(ShapesMetric):
    """Exactness of captions of the first `images` of a split and `heldout` of the held-out one."""

    tasks: ClassVar[frozenset[str]] = frozenset({"caption"})
    measures = ("caption/exact", "caption/exact/heldout")

    def __init__(
        self,
        images: Count = 256,
        heldout: CountOrZero = 128,
        split: Split = "test",
        sealed: str | None = None,
    ):
        self.images, self.heldout, self.split, self.sealed = images, heldout, split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        score, grid = self._score(subject, "caption/exact", self.split, self.images)
        scores, grids = [score], [grid]
        if self.heldout and shapes_of(subject).board.heldout:
            score, grid = self._score(subject, "caption/exact/heldout", "heldout", self.heldout)
            scores.append(score)
            grids.append(grid)
        return scores, grids

    def _score(self, subject: Subject, name: str, split: Split, n: int) -> tuple[Score, Grid]:
        world = self.world(subject)
        records = first_records(world, "caption", split, n)
        shown, asked = images(records, "image"), conditions(world, "caption", records)
        captions = answer(subject, f"caption/{split}", shown, None)
        right = [world.parse(t) == r.meta["scene"] for r, t in zip(records, captions, strict=True)]
        truth = [(r.key, r.fields["caption"]) for r in records]
        stamp = self.passport(subject, truth, subject.text_sampling)
        of: dict[str, Any] = {"better": "higher", "unit": "images", "prompts": asked}
        return proportion(name, right, stamp, **of), picture(name, shown, captions, right)
