"""The embedded world: small scenes with captions, questions, edits, depth and low resolution.

`record(task, split, index)` depends on the world's arguments, the task, the split and the index
alone (world/streams.py). caption, image, depth, super_resolution and the targets of compose share
one stream of scenes, and so does text_to_image where its prompt is a full caption.
The exact checker is in world/checker.py, the metrics in unify/metrics/shapes_*.py.
"""

from dataclasses import replace
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
    source_counts,
)
from unify.data.world.scene import Scene
from unify.data.world.scenes import TRIES, Draw
from unify.data.world.streams import World

EVALUATION_RECORDS = 10_000  # of each split but train


class Shapes(World, Source):
    """A `World` as records of every task."""

    @cached_property
    def _edits(self) -> list[str]:
        return possible_edits(self.board)

    @property
    def tasks(self) -> frozenset[str]:
        if self.tokenizer_images == "all":  # what it shows is held out of every other task
            return frozenset({"image"})
        return frozenset(TASKS) if self._edits else frozenset(TASKS) - {"edit"}

    def size(self, task: str, split: Split) -> int:
        return self.records if split == "train" else EVALUATION_RECORDS

    def record(self, task: str, split: Split, index: int) -> Record:
        if self.tokenizer_images == "all" and task != "image":
            raise ValueError(
                f"tokenizer_images: all shows held-out scenes, and serves no {task}; train a "
                "tokenizer on it, and all else on the same world without it"
            )
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
        draw = self._draw("vqa", split, index)
        for _ in range(TRIES):
            ask = QUESTIONS[draw.rng.choice(self.questions)]
            question = ask(self.board, self.pairs(split), draw.rng)
            scene = self._find(split, draw, question.pins, None, question.answered)
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
        draw, heldout = self._draw("edit", split, index), split == "heldout"
        for _ in range(TRIES):
            kind = draw.rng.choice(self._edits)

            def change(scene: Scene, kind: str = kind) -> Edit | None:
                made = edit(self.board, kind, scene, draw.rng)
                if made is None or self.board.has_heldout(made.target) != heldout:
                    return None
                return made if self.keys.allows(split, made.target) else None

            if (
                made := self._find(split, draw, (), self._source_count(kind, draw), change)
            ) is not None:
                return replace(made, target=self._dressed(made.target, draw))
        raise ValueError(f"no {split} scene of this world can be edited")

    def _source_count(self, kind: str, draw: Draw) -> int | None:
        """Number of things before an edit; None, drawn with the scene, without held-out keys.

        With them it is drawn first: few edits lead from a scene of a split to another one of it.
        """
        return draw.rng.choice(source_counts(self.board, kind)) if self.keys else None

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

    def pictured(self, split: Split, index: int) -> Scene:
        """The scene of a record of the task `image`, without its picture."""
        if split == "train" and self.tokenizer_images == "all":
            draw = self._draw("all scenes", index)
            return self._dressed(self.board.draw(draw.rng, pairs=self.board.all_pairs), draw)
        return self.scene(split, index)

    def _image(self, split: Split, index: int):
        scene = self.pictured(split, index)
        return {"image": self.render(scene)}, {"scene": scene}
