"""The scenes of an embedded world, each drawn by a key of its own.

Everything is generated, nothing is stored: a scene depends on the world's arguments, its stream,
the split and an index alone. Train, validation, test and heldout are independent streams of scenes.
Held-out attribute pairs ("yellow triangle") occur in no image and no text of the first three; every
scene of `heldout` has one at least. Which scenes are held out by meaning is in keys.py, how
pictures of one scene differ in looks.py.
"""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Self, TypeVar

import numpy as np

from unify.data.source import Split
from unify.data.world.keys import HeldOutKeys
from unify.data.world.looks import Looks
from unify.data.world.renderer import Renderer
from unify.data.world.scene import Board, Pair, Pattern, Scene
from unify.noise import stable_seed

TRIES = 1000  # scenes drawn in search of one, before the world is said to have none
PATIENCE = 20  # a split's own scenes are missed with probability exp(-PATIENCE)
EVALUATED = frozenset({"validation", "test", "heldout"})

T = TypeVar("T")


@dataclass
class Draw:
    """What a record is drawn with: its meaning by `rng`, its looks by another, where it has any."""

    rng: random.Random
    looks: random.Random | None


class Scenes:
    """The scenes of a board by split and index; the arguments are those of `World`.

    `stream` is None for the prompts and records that are used in development; with another number,
    those of validation, test and held-out pairs are other ones, and training stays what it is. With
    held-out keys, its test has keys that development's has not.
    """

    def __init__(self, board: Board, looks: Looks, heldout_keys: float, scenes: int, seed: int):
        self.board, self.looks, self.scenes, self.seed = board, looks, scenes, seed
        self.keys, self.renderer = HeldOutKeys(board, heldout_keys), Renderer(board)
        self.stream: int | None = None

    def on_stream(self, number: int) -> Self:
        """The same world with other prompts and records to evaluate by; ValueError if negative."""
        if number < 0:
            raise ValueError(f"a stream of prompts has a number from 0 on, not {number}")
        made = copy.copy(self)
        made.stream, made.keys = number, self.keys.of_sealed()
        return made

    def distinct(self) -> int:
        """Number of different scenes that the train split can hold.

        About, where held-out keys leave more of an object count than can be listed.
        """
        low, high = self.board.objects
        return sum(self.keys.training(n) for n in range(low, high + 1))

    def render(self, scene: Scene) -> np.ndarray:
        """The image of a scene, uint8 [H W 3]."""
        return self.renderer.render(scene)

    def scene(self, split: Split, index: int) -> Scene:
        """The scene that the tasks of a split share; its looks are those of the index."""
        draw = self._draw("scene", split, index)
        if split == "train" and self.scenes:
            return self._dressed(self.pool[index % self.scenes], draw)
        scene = self._drawn(split, draw.rng)
        if scene is None:
            raise ValueError(f"no {split} scene of this world was found")
        return self._dressed(scene, draw)

    def pairs(self, split: Split) -> tuple[Pair, ...]:
        """The (colour, shape) pairs that a split may show or name."""
        return self.board.all_pairs if split == "heldout" else self.board.pairs

    def _rng(self, *stream: object) -> random.Random:
        other = () if self.stream is None or not EVALUATED & set(stream) else ("on", self.stream)
        return random.Random(stable_seed("shapes", self.seed, *other, *stream))

    def _draw(self, *stream: object) -> Draw:
        looks = self._rng("looks", *stream) if self.looks else None
        return Draw(self._rng(*stream), looks)

    def _dressed(self, scene: Scene, draw: Draw) -> Scene:
        """The scene with looks for all that has none yet, in a world that has looks."""
        return scene if draw.looks is None else self.looks.dress(scene, draw.looks)

    @cached_property
    def pool(self) -> list[Scene]:
        """The distinct training scenes of a world with a fixed number of them, without looks."""
        rng, scenes = self._rng("pool"), dict[Scene, None]()
        while len(scenes) < self.scenes:
            if (scene := self._drawn("train", rng)) is not None:
                scenes[scene] = None
        return list(scenes)

    def _drawn(
        self,
        split: Split,
        rng: random.Random,
        pins: Sequence[Pattern] = (),
        count: int | None = None,
    ) -> Scene | None:
        """A random scene of a split, see `Board.draw`; None where no key of the split has `pins`.

        The number of things is drawn first, and then a scene of so many whose key is the split's.
        """
        heldout = split == "heldout"
        if heldout or not self.keys:
            return self.board.draw(rng, pins, count, heldout)
        low, high = self.board.objects
        count = count or rng.randint(max(low, len(pins)), high)
        listed = None if pins or split == "train" else self.keys.listed(count, split)
        if listed is not None:
            return rng.choice(listed)
        for _ in range(ceil(PATIENCE / self.keys.part(split))):
            scene = self.board.draw(rng, pins, count)
            if self.keys.allows(split, scene):
                return scene
        return None

    def _candidates(
        self, split: Split, rng: random.Random, pins: Sequence[Pattern], count: int | None
    ) -> Iterator[Scene]:
        """Scenes of a split to search, without looks."""
        if split == "train" and self.scenes:
            start = rng.randrange(self.scenes)
            yield from (self.pool[(start + i) % self.scenes] for i in range(self.scenes))
            return
        for _ in range(TRIES):
            if (scene := self._drawn(split, rng, pins, count)) is None:
                return  # each further try would be as long, and as vain
            if split != "heldout" or self.board.has_heldout(scene):
                yield scene

    def _find(
        self,
        split: Split,
        draw: Draw,
        pins: Sequence[Pattern],
        count: int | None,
        accept: Callable[[Scene], T | None],
    ) -> T | None:
        """The result of `accept` for the first scene where it is not None; None after TRIES scenes.

        Scenes are drawn with `pins` and `count` (see `Board.draw`); the training scenes of a world
        that has a fixed number of them are searched from a random one on.
        """
        for scene in self._candidates(split, draw.rng, pins, count):
            if (result := accept(self._dressed(scene, draw))) is not None:
                return result
        return None
