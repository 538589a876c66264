"""The embedded world's scenes and texts, each drawn by a key of its own.

H x W pixels of an image.

Everything is generated, nothing is stored: a scene, a prompt or a question depends on the world's
arguments, its stream, the split and an index alone. Train, validation, test and heldout are
independent streams of scenes. Held-out attribute pairs ("yellow triangle") occur in no image and no
text of the first three; every scene of `heldout` has one at least. The records that are made of
them are in shapes.py.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import cached_property
from math import comb
from typing import TypeVar

import numpy as np

from unify.data.source import Split
from unify.data.world.language import (
    CATEGORIES,
    Parser,
    Prompt,
    Spec,
    describe,
    full,
    full_category,
    partial,
    possible,
    wish,
)
from unify.data.world.questions import QUESTIONS
from unify.data.world.scene import Board, Pair, Pattern, Renderer, Scene
from unify.noise import stable_seed
from unify.support.ranges import Count, CountOrZero, Seed, Share

VERSION = 1  # raise it whenever a record changes
TRIES = 1000  # scenes drawn in search of one, before the world is said to have none

T = TypeVar("T")


class World:
    """Scenes of coloured shapes on a board of `grid` x `grid` places, `size` x `size` pixels.

    `objects` is the least and the most things in a scene, `heldout` lists pairs like "yellow
    triangle", `questions` the kinds of question. Of training captions and prompts only:
    `completeness` is the probability that an attribute is mentioned, `caption_noise` that the text
    is another scene's, `prompt_mix` the share of prompts that leave something open. `scenes` is the
    number of distinct training scenes (0: unlimited; targets of edits lie one edit outside them,
    sources of compositions show one of their things), `records` the length of the train split for
    each task, `low_resolution` the pixels of the small image of super_resolution. Raises ValueError
    for a world that cannot be drawn.
    """

    def __init__(
        self,
        size: Count = 32,
        grid: Count = 2,
        shapes: Sequence[str] = ("circle", "square", "triangle"),
        colors: Sequence[str] = ("red", "green", "blue", "yellow"),
        sizes: Sequence[str] = ("large",),
        objects: tuple[Count, Count] = (1, 2),
        heldout: Sequence[str] = ("yellow triangle", "green square"),
        questions: Sequence[str] = ("count", "color", "shape", "position", "exists"),
        completeness: Share = 1.0,
        caption_noise: Share = 0.0,
        prompt_mix: Share = 0.2,
        scenes: CountOrZero = 0,
        records: Count = 20_000,
        low_resolution: Count = 16,
        seed: Seed = 0,
    ):
        low, high = objects
        pairs = tuple(sorted({_pair(name) for name in heldout}))
        self.board = Board(
            size, grid, tuple(shapes), tuple(colors), tuple(sizes), (low, high), pairs
        )
        self.questions = tuple(questions)
        self.completeness, self.caption_noise = completeness, caption_noise
        self.prompt_mix, self.scenes, self.records = prompt_mix, scenes, records
        self.low_resolution, self.seed = low_resolution, seed
        self._check()
        self.renderer, self.parser = Renderer(self.board), Parser(self.board)

    def _check(self) -> None:
        for name in ("completeness", "caption_noise", "prompt_mix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], not {getattr(self, name)}")
        board = self.board
        kinds = {name for name in self.questions if name in QUESTIONS}
        if not kinds or len(kinds) != len(self.questions):
            raise ValueError(
                f"questions must be distinct names out of {list(QUESTIONS)}, "
                f"not {list(self.questions)}"
            )
        if "size" in kinds and len(board.sizes) == 1:
            raise ValueError("questions: 'size' needs a world with two sizes at least")
        if "relation" in kinds and board.objects[1] == 1:
            raise ValueError("questions: 'relation' needs objects: a scene of two at least")
        if board.pixels % self.low_resolution:
            raise ValueError(f"low_resolution={self.low_resolution} does not divide {board.pixels}")
        if self.scenes > self.distinct():
            raise ValueError(f"scenes={self.scenes}: this world has only {self.distinct()} scenes")

    def distinct(self) -> int:
        """Number of different scenes that the train split can hold."""
        low, high = self.board.objects
        kinds, cells = len(self.board.pairs) * len(self.board.sizes), len(self.board.cells)
        return sum(comb(cells, n) * kinds**n for n in range(low, high + 1))

    def fingerprint(self) -> str:
        knobs = (VERSION, self.board, self.questions, self.completeness, self.caption_noise)
        more = (self.prompt_mix, self.scenes, self.records, self.low_resolution, self.seed)
        return hashlib.sha256(repr((*knobs, *more)).encode()).hexdigest()[:12]

    # Scenes

    def _rng(self, *stream: object) -> random.Random:
        return random.Random(stable_seed("shapes", self.seed, *stream))

    @cached_property
    def _pool(self) -> list[Scene]:
        """The distinct training scenes of a world that has a fixed number of them."""
        rng, scenes = self._rng("pool"), dict[Scene, None]()
        while len(scenes) < self.scenes:
            scenes[self.board.draw(rng)] = None
        return list(scenes)

    def scene(self, split: Split, index: int) -> Scene:
        """The scene that the tasks of a split share."""
        if split == "train" and self.scenes:
            return self._pool[index % self.scenes]
        return self.board.draw(self._rng("scene", split, index), heldout=split == "heldout")

    def _find(
        self,
        split: Split,
        rng: random.Random,
        pins: Sequence[Pattern],
        count: int | None,
        accept: Callable[[Scene], T | None],
    ) -> T | None:
        """The result of `accept` for the first scene where it is not None; None after TRIES scenes.

        Scenes are drawn with `pins` and `count` (see `Board.draw`); the training scenes of a world
        that has a fixed number of them are searched from a random one on.
        """
        if split == "train" and self.scenes:
            start = rng.randrange(self.scenes)
            tried = (self._pool[(start + i) % self.scenes] for i in range(self.scenes))
        else:
            heldout = split == "heldout"
            tried = (self.board.draw(rng, pins, count, heldout) for _ in range(TRIES))
        for scene in tried:
            if split == "heldout" and not self.board.has_heldout(scene):
                continue
            if (result := accept(scene)) is not None:
                return result
        return None

    def pairs(self, split: Split) -> tuple[Pair, ...]:
        """The (colour, shape) pairs that a split may show or name."""
        return self.board.all_pairs if split == "heldout" else self.board.pairs

    # Texts

    def caption(self, scene: Scene) -> str:
        """The full caption, from which `parse` reads the scene back."""
        return describe(self.board, [full(thing) for thing in scene.things])

    def parse(self, caption: str) -> Scene | None:
        """The scene of a full caption; None where it is not one."""
        return self.parser.parse(caption)

    def render(self, scene: Scene) -> np.ndarray:
        """The image of a scene, uint8 [H W 3]."""
        return self.renderer.render(scene)

    @property
    def categories(self) -> list[str]:
        """Categories of `prompts`: full captions by object count, and GenEval's where possible."""
        return [*self.complete, *possible(self.board)]

    @property
    def complete(self) -> dict[str, int]:
        """The object counts of full captions by category: `one_object`, `two_objects` ..."""
        low, high = self.board.objects
        return {full_category(n): n for n in range(low, high + 1)}

    def prompts(self, category: str, n: int, seed: int, split: Split = "test") -> list[Prompt]:
        """`n` prompts with their scenes, the first of an endless stream.

        Args:
            category: one of `categories`, or `full`: full captions of any object count.
            seed, split: which stream.
        """
        if category not in (names := ["full", *self.categories]):
            raise ValueError(f"this world has no prompts {category!r}; it has {names}")
        return [
            self._prompt(category, split, self._rng("prompts", split, category, seed, i))
            for i in range(n)
        ]

    def _prompt(self, category: str, split: Split, rng: random.Random) -> Prompt:
        if category in CATEGORIES:
            pins = wish(self.board, category, rng)
            read = CATEGORIES[category]
            prompt = self._find(
                split, rng, pins, len(pins), lambda scene: read(self.board, scene, rng)
            )
            if prompt is None:
                raise ValueError(f"no {split} scene of this world has a prompt {category!r}")
            return prompt
        count = self.complete.get(category)
        scene = self.board.draw(rng, count=count, heldout=split == "heldout")
        spec = Spec(tuple(full(thing) for thing in scene.things))
        return Prompt(self.caption(scene), spec, scene)

    def _training_text(self, split: Split, index: int, text: Callable[[int], str]) -> str:
        """`text(index)`, or that of another scene with probability `caption_noise`."""
        if split != "train" or not self.caption_noise:
            return text(index)
        rng = self._rng("noise", index)
        if rng.random() >= self.caption_noise:
            return text(index)
        for _ in range(TRIES):
            other = rng.randrange(self.records)
            if self.scene(split, other) != self.scene(split, index):
                return text(other)
        raise ValueError("caption_noise needs a world with two training scenes at least")

    def _scene_caption(self, split: Split, index: int) -> str:
        """The caption of a scene; of a training scene, as complete as `completeness` says."""
        scene = self.scene(split, index)
        if split != "train" or self.completeness == 1:
            return self.caption(scene)
        rng = self._rng("completeness", index)
        return describe(self.board, partial(scene, self.completeness, rng))

    def _prompt_and_scene(self, split: Split, index: int) -> tuple[str, Scene]:
        """The prompt of text_to_image and its scene."""
        rng = self._rng("prompt_mix", index)
        if split == "train" and (names := self._open_categories) and rng.random() < self.prompt_mix:
            prompt = self._prompt(rng.choice(names), split, rng)
            return prompt.text, prompt.scene
        return self._scene_caption(split, index), self.scene(split, index)

    @cached_property
    def _open_categories(self) -> list[str]:
        """The categories that training scenes have: a small `scenes` may lack some."""
        rng, board = self._rng("mixed"), self.board
        return [
            name
            for name in possible(board)
            if not self.scenes or any(CATEGORIES[name](board, s, rng) for s in self._pool)
        ]


def _pair(name: str) -> Pair:
    words = name.split()
    if len(words) != 2:
        raise ValueError(
            f'heldout: a pair is a colour and a shape, "yellow triangle", not {name!r}'
        )
    return words[0], words[1]
