"""Captions and prompts of the embedded world.

A full caption names every attribute of every thing in the order of the places, and reads back:

    a red circle at the top left and a blue square at the bottom right

Prompts that leave something open come in the six categories of GenEval (arXiv:2310.11513). A prompt
is satisfied by a scene that holds what it names and nothing else. Sizes are named only in worlds
that have more than one. Every random choice is made by the `rng` that is passed in.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from unify.data.world.scene import Board, Cell, Pattern, Scene, Thing

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
ATTRIBUTES = ("shape", "color", "size", "cell")
RELATIONS: dict[str, Callable[[Thing, Thing], bool]] = {
    "left of": lambda a, b: a.cell[1] < b.cell[1],
    "right of": lambda a, b: a.cell[1] > b.cell[1],
    "above": lambda a, b: a.cell[0] < b.cell[0],
    "below": lambda a, b: a.cell[0] > b.cell[0],
}


@dataclass(frozen=True)
class Spec:
    """Content of a prompt: one thing for each pattern, the first `relation` the second."""

    patterns: tuple[Pattern, ...]
    relation: str | None = None

    def satisfied(self, scene: Scene) -> bool:
        """True if the scene holds these things, in this relation, and no other thing."""
        return len(scene) == len(self.patterns) and any(
            all(pattern.fits(thing) for pattern, thing in zip(self.patterns, order, strict=True))
            and (self.relation is None or RELATIONS[self.relation](order[0], order[1]))
            for order in permutations(scene.things)
        )

    def left_open(self) -> list[str]:
        """Attributes left open, out of shape, color, size, place; a relation settles the place."""
        names = [a for a in ATTRIBUTES if any(getattr(p, a) is None for p in self.patterns)]
        if self.relation is not None:
            names.remove("cell")
        return ["place" if name == "cell" else name for name in names]


@dataclass(frozen=True)
class Prompt:
    """A prompt, what satisfies it, and the scene that it was drawn from."""

    text: str
    spec: Spec
    scene: Scene

    def satisfied(self, scene: Scene) -> bool:
        return self.spec.satisfied(scene)

    def left_open(self) -> list[str]:
        return self.spec.left_open()


def place(board: Board, cell: Cell) -> str:
    """`top left`, `center`; on boards above 3 x 3, `row 1 column 4`."""
    row, column = cell
    if board.grid > 3:
        return f"row {row + 1} column {column + 1}"
    vertical = ("top", "bottom") if board.grid == 2 else ("top", "", "bottom")
    horizontal = ("left", "right") if board.grid == 2 else ("left", "", "right")
    if board.grid == 1:
        return "center"
    return f"{vertical[row]} {horizontal[column]}".strip() or "center"


def at(board: Board, cell: Cell) -> str:
    """The place with its article, as it follows `at` or `to`."""
    return f"{'' if board.grid > 3 else 'the '}{place(board, cell)}"


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(shape: str) -> str:
    """`circles`, `crosses`."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def phrase(board: Board, pattern: Pattern) -> str:
    """`a small red circle at the top left`, less what the pattern leaves open."""
    size = pattern.size if len(board.sizes) > 1 else None
    words = _a(" ".join(w for w in (size, pattern.color, pattern.shape or "object") if w))
    return words if pattern.cell is None else f"{words} at {at(board, pattern.cell)}"


def describe(board: Board, patterns: Sequence[Pattern]) -> str:
    """`a circle, a square and a triangle`."""
    return listed([phrase(board, pattern) for pattern in patterns])


def listed(phrases: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))


def full(thing: Thing) -> Pattern:
    """The pattern that leaves nothing of a thing open."""
    return Pattern(thing.shape, thing.color, thing.size, thing.cell)


def partial(scene: Scene, completeness: float, rng: random.Random) -> list[Pattern]:
    """Patterns of a scene that say each attribute of each thing with probability `completeness`."""
    return [
        replace(full(thing), **{a: None for a in ATTRIBUTES if rng.random() >= completeness})
        for thing in scene.things
    ]


class Parser:
    """Reads full captions back into scenes."""

    def __init__(self, board: Board):
        self.board = board
        self._cells = {at(board, cell): cell for cell in board.cells}
        size = rf"(?:({'|'.join(board.sizes)}) )" if len(board.sizes) > 1 else "()"
        color, shape = "|".join(board.colors), "|".join(board.shapes)
        self._thing = re.compile(rf"an? {size}({color}) ({shape}) at ({'|'.join(self._cells)})")

    def parse(self, caption: str) -> Scene | None:
        """The scene of a full caption, in any order of things; None for any other text."""
        things = []
        for part in re.split(r", | and ", caption.strip()):
            match = self._thing.fullmatch(part)
            if match is None:
                return None
            size, color, shape, where = match.groups()
            things.append(Thing(self._cells[where], shape, color, size or self.board.sizes[0]))
        if len({thing.cell for thing in things}) < len(things):
            return None
        return Scene.of(things)


# Prompts by category: each reads a prompt off a scene, or None where the scene has none.


def _named(board: Board, thing: Thing, attributes: Sequence[str]) -> Pattern:
    """Only `attributes` of a thing; a size is never open where there is but one."""
    size = board.sizes[0] if len(board.sizes) == 1 else None
    return replace(Pattern(size=size), **{name: getattr(thing, name) for name in attributes})


def _alone(*attributes: str) -> Callable[[Board, Scene, random.Random], Prompt | None]:
    """One thing of which only `attributes` are named."""

    def read(board: Board, scene: Scene, rng: random.Random) -> Prompt | None:
        if len(scene) != 1:
            return None
        pattern = _named(board, scene.things[0], attributes)
        return Prompt(phrase(board, pattern), Spec((pattern,)), scene)

    return read


def _both(*attributes: str) -> Callable[[Board, Scene, random.Random], Prompt | None]:
    """Two things that differ in each of `attributes`, which alone are named."""

    def read(board: Board, scene: Scene, rng: random.Random) -> Prompt | None:
        things = rng.sample(scene.things, len(scene))
        differ = all(len({getattr(t, name) for t in things}) == 2 for name in attributes)
        if len(things) != 2 or not differ:
            return None
        patterns = [_named(board, thing, attributes) for thing in things]
        return Prompt(describe(board, patterns), Spec(tuple(patterns)), scene)

    return read


def _counting(board: Board, scene: Scene, rng: random.Random) -> Prompt | None:
    shapes = {thing.shape for thing in scene.things}
    if len(scene) < 2 or len(shapes) != 1:
        return None
    patterns = [_named(board, thing, ["shape"]) for thing in scene.things]
    return Prompt(f"{NUMBERS[len(scene)]} {plural(shapes.pop())}", Spec(tuple(patterns)), scene)


def _position(board: Board, scene: Scene, rng: random.Random) -> Prompt | None:
    if len(scene) == 1:
        return _alone("shape", "cell")(board, scene, rng)
    pair = _both("shape")(board, scene, rng)
    if pair is None:
        return None
    one, other = pair.spec.patterns
    holds = [name for name in RELATIONS if Spec((one, other), name).satisfied(scene)]
    relation = rng.choice(holds)
    text = f"{phrase(board, one)} {relation} {phrase(board, other)}"
    return Prompt(text, Spec((one, other), relation), scene)


CATEGORIES: dict[str, Callable[[Board, Scene, random.Random], Prompt | None]] = {
    "single_object": _alone("shape"),  # a circle
    "two_object": _both("shape"),  # a circle and a square
    "counting": _counting,  # two circles
    "colors": _alone("shape", "color"),  # a red circle
    "position": _position,  # a circle left of a square, a circle at the top left
    "color_attr": _both("shape", "color"),  # a red circle and a blue square
}


def full_category(n: int) -> str:
    """`one_object`, `two_objects` ...: full captions of n objects."""
    return f"{NUMBERS[n]}_object{'s' if n > 1 else ''}"


def possible(board: Board) -> list[str]:
    """The categories that some scene of the board has."""
    low, high = board.objects
    one, two = low == 1, low <= 2 <= high and len(board.shapes) > 1
    has = {
        "single_object": one,
        "two_object": two,
        "counting": high >= 2,
        "colors": one,
        "position": one or two,
        "color_attr": two and len(board.colors) > 1,
    }
    return [name for name in CATEGORIES if has[name]]


def wish(board: Board, category: str, rng: random.Random) -> list[Pattern]:
    """Pins of a scene that is likely to have a prompt of the category."""
    low, high = board.objects
    if category == "counting":
        return [Pattern(shape=rng.choice(board.shapes))] * rng.randint(max(low, 2), high)
    if category == "position":
        allowed = [n for n in (1, 2) if low <= n <= high and (n == 1 or len(board.shapes) > 1)]
        return [Pattern()] * rng.choice(allowed)
    return [Pattern()] * (1 if category in ("single_object", "colors") else 2)
