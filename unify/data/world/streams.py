"""The embedded world's texts, each drawn by a key of its own.

H x W pixels of an image.

A prompt or a question depends on the world's arguments, its stream, the split and an index alone.
The scenes that they are of are drawn in scenes.py, and the records that are made of them in
shapes.py.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Literal

from annotated_types import Interval

from unify.data.source import Split
from unify.data.world.keys import VERSION as KEYS_VERSION
from unify.data.world.language import (
    CATEGORIES,
    Parser,
    describe,
    partial,
    possible,
)
from unify.data.world.looks import VERSION as LOOKS_VERSION
from unify.data.world.looks import Looks
from unify.data.world.prompts import Prompts
from unify.data.world.questions import QUESTIONS
from unify.data.world.scene import Board, Pair, Scene
from unify.data.world.scenes import TRIES
from unify.support.ranges import Count, CountOrZero, NotNegative, Seed, Share, ShareBelow1

VERSION = 1  # raise it whenever a record of every world changes


class World(Prompts):
    """Scenes of coloured shapes on a board of `grid` x `grid` places, `size` x `size` pixels.

    `objects` is the least and the most things in a scene, `heldout` lists pairs like "yellow
    triangle", `questions` the kinds of question. Of training captions and prompts only:
    `completeness` is the probability that an attribute is mentioned, `caption_noise` that the text
    is another scene's, `prompt_mix` the share of prompts that leave something open. `scenes` is the
    number of distinct training scenes (0: unlimited; targets of edits lie one edit outside them,
    sources of compositions show one of their things), `records` the length of the train split for
    each task, `low_resolution` the pixels of the small image of super_resolution.

    `offset`, `radius`, `shade` and `background` are how far pictures of one scene differ (looks.py;
    drawn anew for every record), `heldout_keys` the share of scenes of two things and more that no
    training record has (keys.py). `tokenizer_images`: with `all` the world serves the task `image`
    alone, and trains it on all scenes, those of held-out pairs and keys too: for image tokenizers,
    which see no text. Raises ValueError for a world that cannot be drawn.
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
        offset: NotNegative = 0.0,
        radius: Share = 0.0,
        shade: Annotated[int, Interval(ge=0, le=255)] = 0,
        background: Annotated[int, Interval(ge=0, le=255)] = 0,
        heldout_keys: ShareBelow1 = 0.0,
        tokenizer_images: Literal["training", "all"] = "training",
    ):
        low, high = objects
        pairs = tuple(sorted({_pair(name) for name in heldout}))
        names = tuple(shapes), tuple(colors), tuple(sizes)
        looks = Looks(offset, radius, shade, background)
        super().__init__(
            Board(size, grid, *names, (low, high), pairs), looks, heldout_keys, scenes, seed
        )
        self.questions = tuple(questions)
        self.completeness, self.caption_noise = completeness, caption_noise
        self.prompt_mix, self.records = prompt_mix, records
        self.low_resolution, self.tokenizer_images = low_resolution, tokenizer_images
        self._check()
        self.parser = Parser(self.board)

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
        if self.scenes and self.scenes > self.distinct():
            raise ValueError(f"scenes={self.scenes}: this world has only {self.distinct()} scenes")
        if self.tokenizer_images not in ("training", "all"):
            raise ValueError(
                f"tokenizer_images is 'training' or 'all', not {self.tokenizer_images!r}"
            )
        if self.tokenizer_images == "all" and self.scenes:
            raise ValueError(
                f"tokenizer_images: all shows all scenes, scenes={self.scenes} so many of them; "
                "leave one of the two out"
            )
        self.looks.check(board)

    def fingerprint(self) -> str:
        knobs = (VERSION, self.board, self.questions, self.completeness, self.caption_noise)
        more = (self.prompt_mix, self.scenes, self.records, self.low_resolution, self.seed)
        new: list[object] = []  # nothing in a world without these, which keeps its fingerprint
        if self.looks:
            new += ["looks", LOOKS_VERSION, self.looks]
        if self.keys:
            new += ["held-out keys", KEYS_VERSION, self.keys.share]
        if self.tokenizer_images == "all":
            new.append("images of all scenes")
        if self.stream is not None:
            new += ["stream", self.stream]
        return hashlib.sha256(repr((*knobs, *more, *new)).encode()).hexdigest()[:12]

    def key_splits(self, task: str) -> tuple[int, ...]:
        """The object counts of which validation and test records of a task show scenes of their
        own, that no training record of any task shows or describes.

        Of an edit or a composition this is said of the scene before and of the scene after. The
        empty tuple: this world holds no key out of the task. Scenes of one thing are never held
        out, and those of a held-out pair are a split of their own.
        """
        return () if task == "image" and self.tokenizer_images == "all" else self.keys.counts

    # Texts of records

    def parse(self, caption: str) -> Scene | None:
        """The scene of a full caption; None where it is not one."""
        return self.parser.parse(caption)

    def _training_text(self, split: Split, index: int, text: Callable[[int], str]) -> str:
        """`text(index)`, or that of another scene with probability `caption_noise`."""
        if split != "train" or not self.caption_noise:
            return text(index)
        rng = self._rng("noise", index)
        if rng.random() >= self.caption_noise:
            return text(index)
        for _ in range(TRIES):
            other = rng.randrange(self.records)
            if self.scene(split, other) != self.scene(split, index):  # by meaning
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
        draw = self._draw("prompt_mix", index)
        names = self._open_categories if split == "train" else []
        if names and draw.rng.random() < self.prompt_mix:
            prompt = self._open_prompt(draw.rng.choice(names), split, draw)
            return prompt.text, prompt.scene
        return self._scene_caption(split, index), self.scene(split, index)

    @cached_property
    def _open_categories(self) -> list[str]:
        """The categories that training scenes have: a small `scenes` may lack some."""
        rng, board = self._rng("mixed"), self.board
        return [
            name
            for name in possible(board)
            if not self.scenes or any(CATEGORIES[name](board, s, rng) for s in self.pool)
        ]


def _pair(name: str) -> Pair:
    words = name.split()
    if len(words) != 2:
        raise ValueError(
            f'heldout: a pair is a colour and a shape, "yellow triangle", not {name!r}'
        )
    return words[0], words[1]
