"""Scenes held out by meaning: no training record of any task shows or describes them.

The key of a scene is what a full caption says of it: its set of (size, colour, shape, place), never
a pixel. A hash of the key and a fixed word gives some keys to validation, as many to test, and all
others to training, the same in every world and process. One half of the test keys is of the sealed
stream of prompts alone, the other of all else: a sealed test asks nothing that development asked.
Scenes of one thing are shared by all splits, since to learn the words takes all of them; so are
those of an object count of which the world has too few for each split to get one.
"""

import copy
import hashlib
from collections.abc import Iterator
from functools import cached_property
from itertools import combinations, product
from math import comb
from typing import Self

from unify.data.source import Split
from unify.data.world.language import place
from unify.data.world.scene import Board, Scene, Thing

VERSION = 2  # raise it whenever a key changes its split
WORD = "held out of training"
LISTED = 20_000  # scenes of an object count that are listed; of more, some are drawn
ENOUGH = 2_000  # expected keys of a part that is not listed: many more than prompts are asked

Owner = Split | None  # None: all splits


def key_of(board: Board, scene: Scene) -> str:
    """The description that the split of a scene depends on, a line a thing."""
    names = (f"{t.size} {t.color} {t.shape} at {place(board, t.cell)}" for t in scene.things)
    return "\n".join(sorted(names))


def owner_of(key: str, share: float) -> Split:
    """The split of a key where `share` of all keys are held out, half of them for each split."""
    u = int.from_bytes(_digest(key)[:6], "big") / 2**48
    return "validation" if u < share / 2 else "test" if u >= 1 - share / 2 else "train"


def is_sealed(key: str) -> bool:
    """True if a key of the test split is of the sealed streams; a bit that decides no split."""
    return bool(_digest(key)[-1] & 1)


def _digest(key: str) -> bytes:
    return hashlib.sha256(f"{WORD}\n{key}".encode()).digest()


class HeldOutKeys:
    """Which scenes of a board a split may hold. Held-out pairs are a split of their own.

    `sealed`: whether the test split is that of the sealed streams.
    """

    def __init__(self, board: Board, share: float):
        self.board, self.share, self.sealed = board, share, False
        self._listed: dict[tuple[int, Split], list[Scene]] = {}
        if not 0 <= share <= 0.9:
            raise ValueError(f"heldout_keys is a share of the scenes in [0, 0.9], not {share}")
        low, high = board.objects
        totals = {n: self.total(n) for n in range(low, high + 1)}
        for n, total in totals.items():
            if n > 1 and share and total > LISTED and total * min(share / 4, 1 - share) < ENOUGH:
                raise ValueError(
                    f"heldout_keys={share} gives a test {total * share / 4:.1f} of the {total:,} "
                    f"scenes of {n} objects; take {4 * ENOUGH / total:.1e} at least, or 0"
                )

    def __bool__(self) -> bool:
        return self.share > 0

    def of_sealed(self) -> Self:
        """The same with the sealed half of the test split instead of the other."""
        made = copy.copy(self)
        made.sealed, made._listed = True, {}
        return made

    def part(self, split: Split) -> float:
        """The share of all keys that a split has here."""
        return {"train": 1 - self.share, "test": self.share / 4}.get(split, self.share / 2)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """The object counts of which validation and test have scenes of their own."""
        low, high = self.board.objects
        return tuple(n for n in range(max(low, 2), high + 1) if self.share and self._is_split(n))

    def owner(self, scene: Scene) -> Owner:
        """The only split that may hold a scene; None if all may."""
        if len(scene) not in self.counts:
            return None
        return owner_of(key_of(self.board, scene), self.share)

    def allows(self, split: Split, scene: Scene) -> bool:
        """True if a split may hold a scene; held-out pairs are not looked at."""
        if not self.share or split == "heldout" or (owner := self.owner(scene)) is None:
            return True
        other_half = owner == "test" and is_sealed(key_of(self.board, scene)) != self.sealed
        return owner == split and not other_half

    def listed(self, count: int, split: Split) -> list[Scene] | None:
        """All scenes of an object count that a split has; None where they are too many to list.

        They are plain: without looks.
        """
        heldout = split == "heldout"
        if self.total(count, heldout) > LISTED:
            return None
        if (count, split) not in self._listed:
            scenes = self.scenes(count, heldout)
            self._listed[count, split] = [s for s in scenes if self.allows(split, s)]
        return self._listed[count, split]

    def training(self, count: int) -> int:
        """Number of training scenes of an object count; about, where they are too many to list."""
        if count not in self.counts:
            return self.total(count)
        scenes = self.listed(count, "train")
        return int(self.total(count) * (1 - self.share)) if scenes is None else len(scenes)

    def total(self, count: int, heldout: bool = False) -> int:
        """Number of scenes of an object count without a held-out pair, or with one at least."""
        board = self.board
        plain, all_kinds = (len(p) * len(board.sizes) for p in (board.pairs, board.all_pairs))
        kinds = all_kinds**count - plain**count if heldout else plain**count
        return comb(len(board.cells), count) * kinds

    def _is_split(self, count: int) -> bool:
        if self.total(count) > LISTED:
            return True
        keys = (key_of(self.board, scene) for scene in self.scenes(count))
        parts = {(owner := owner_of(k, self.share), owner == "test" and is_sealed(k)) for k in keys}
        return len(parts) == 4

    def scenes(self, count: int, heldout: bool = False) -> Iterator[Scene]:
        """All of these, of whatever split."""
        board = self.board
        kinds = list(product(board.all_pairs if heldout else board.pairs, board.sizes))
        for cells in combinations(board.cells, count):
            for some in product(kinds, repeat=count):
                placed = zip(cells, some, strict=True)
                scene = Scene(tuple(Thing(c, s, color, z) for c, ((color, s), z) in placed))
                if board.has_heldout(scene) == heldout:
                    yield scene
