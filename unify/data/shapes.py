"""The embedded world: small scenes with captions, questions, edits, depth and low resolution.

`record(task, split, index)` depends on the world's arguments, the task, the split and the index
alone (world/streams.py). caption, image, depth, super_resolution and the targets of compose share
one stream of scenes, and so does text_to_image where its prompt is a full caption.
The exact checker is in world/checker.py, the metrics in unify/metrics/shapes_*.py.
"""

from functools import cached_property

import numpy as np

from unify.data.source import TASKS, Record, Source, Split
from unify.data.world.questions import (
    QUESTIONS,
    Composition,
    Edit,
    Question,
    compose,
    edit,
    possible_edits,
)
from unify.data.world.scene import Scene
from unify.data.world.streams import TRIES, World

EVALUATION_RECORDS = 10_000  # of each split but train


class Shapes(World, Source):
    """A `World` as records of every task."""

    @cached_property
    def _edits(self) -> list[str]:
        return possible_edits(self.board)

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset(TASKS) if self._edits else frozenset(TASKS) - {"edit"}

    def size(self, task: str, split: Split) -> int:
        return self.records if split == "train" else EVALUATION_RECORDS

    def record(self, task: str, split: Split, index: int) -> Record:
        if not 0 <= index < self.size(task, split):
            raise IndexError(f"{task}/{split} has {self.size(task, split)} records, not {index}")
        fields, meta = getattr(self, f"_{task}")(split, index)
        return Record(f"{task}/{split}/{index}", fields, meta)

    # Tasks: each method returns the fields and the meta of a record.

    def _text_to_image(self, split: Split, index: int):
        _, scene = self._prompt_and_scene(split, index)
        text = self._training_text(split, index, lambda i: self._prompt_and_scene(split, i)[0])
        return {"prompt": text, "image": self.render(scene)}, {"scene": scene}

    def _caption(self, split: Split, index: int):
        scene = self.scene(split, index)
        text = self._training_text(split, index, lambda i: self._scene_caption(split, i))
        return {"image": self.render(scene), "caption": text}, {"scene": scene}

    def _question(self, split: Split, index: int) -> tuple[Question, Scene]:
        rng = self._rng("vqa", split, index)
        for _ in range(TRIES):
            ask = QUESTIONS[rng.choice(self.questions)]
            question = ask(self.board, self.pairs(split), rng)
            scene = self._find(split, rng, question.pins, None, question.answered)
            if scene is not None:
                return question, scene
        raise ValueError(f"no {split} scene of this world has an answer to {self.questions}")

    def _vqa(self, split: Split, index: int):
        question, scene = self._question(split, index)
        fields = {"question": question.text, "answer": question.wanted}
        meta = {"kind": question.kind, "options": list(question.options), "scene": scene}
        return {"image": self.render(scene), **fields}, meta

    def edited(self, split: Split, index: int) -> Edit:
        """The edit of a split at an index: both scenes and the instruction."""
        rng, heldout = self._rng("edit", split, index), split == "heldout"
        for _ in range(TRIES):
            kind = rng.choice(self._edits)

            def change(scene: Scene, kind: str = kind) -> Edit | None:
                made = edit(self.board, kind, scene, rng)
                return made if made and self.board.has_heldout(made.target) == heldout else None

            if (result := self._find(split, rng, (), None, change)) is not None:
                return result
        raise ValueError(f"no {split} scene of this world can be edited")

    def _edit(self, split: Split, index: int):
        made = self.edited(split, index)
        images = {"source": self.render(made.source), "image": self.render(made.target)}
        meta = {"kind": made.kind, "source": made.source, "target": made.target}
        return {**images, "instruction": made.instruction}, {**meta, "cells": list(made.cells)}

    def composed(self, split: Split, index: int) -> Composition:
        """The composition of a split at an index: all scenes and the instruction."""
        return compose(self.board, self.scene(split, index), self._rng("compose", split, index))

    def _compose(self, split: Split, index: int):
        """One source for each thing that a scene may have; None where this scene has fewer."""
        made = self.composed(split, index)
        shown = [self.render(scene) for scene in made.sources]
        absent = [None] * (self.board.objects[1] - len(shown))
        fields = {"sources": [*shown, *absent], "instruction": made.instruction}
        meta = {"sources": list(made.sources), "target": made.target}
        return {**fields, "image": self.render(made.target)}, meta

    def _depth(self, split: Split, index: int):
        scene = self.scene(split, index)
        images = {"source": self.render(scene), "image": self.renderer.depth(scene)}
        return images, {"scene": scene}

    def _super_resolution(self, split: Split, index: int):
        scene, n = self.scene(split, index), self.low_resolution
        image = self.render(scene)
        blocks = image.reshape(n, len(image) // n, n, len(image) // n, 3)
        return {"source": blocks.mean((1, 3)).round().astype(np.uint8), "image": image}, {
            "scene": scene
        }

    def _text(self, split: Split, index: int):
        """Sentences of every kind in turn, so that a language model is trained on them all."""
        turn = index % 4
        if turn == 0:
            question, _ = self._question(split, index)
            return {"text": f"{question.text} {question.wanted}"}, {}
        if turn == 1 and self._edits:
            return {"text": self.edited(split, index).instruction}, {}
        return {"text": self._prompt_and_scene(split, index)[0]}, {}

    def _image(self, split: Split, index: int):
        scene = self.scene(split, index)
        return {"image": self.render(scene)}, {"scene": scene}
