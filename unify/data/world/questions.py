"""Questions with answers, edits and compositions of scenes of the embedded world.

For a question the answer is chosen first, uniformly among the options of its kind, and then a scene
that has this answer: so the answers of every kind are balanced. An edit asks for one change and
leaves everything else as it is. A composition shows things one by one, and says where each goes.
Every random choice is made by the `rng` that is passed in.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from unify.data.world.language import (
    NUMBERS,
    ORDINALS,
    RELATIONS,
    at,
    full,
    listed,
    phrase,
    place,
    plural,
)
from unify.data.world.scene import Board, Cell, Pair, Pattern, Scene, Thing


@dataclass(frozen=True)
class Question:
    """A question and the answer that is `wanted`; `pins` are things of a scene likely to have it.

    `read(scene)` is the true answer, or None where the scene leaves the question without one.
    """

    kind: str
    text: str
    wanted: str
    options: tuple[str, ...]
    pins: tuple[Pattern, ...]
    read: Callable[[Scene], str | None]

    def answered(self, scene: Scene) -> Scene | None:
        """The scene if it has the wanted answer."""
        return scene if self.read(scene) == self.wanted else None


def _only(scene: Scene, pattern: Pattern) -> Thing | None:
    """The thing that fits the pattern if it is the only one."""
    fitting = scene.like(pattern)
    return fitting[0] if len(fitting) == 1 else None


def _attribute_question(
    kind: str,
    text: str,
    wanted: str,
    options: Sequence[str],
    pin: Pattern,
    pattern: Pattern,
    name: Callable[[Thing], str],
) -> Question:
    """A question about the only thing that fits `pattern`: `name(thing)` is the answer."""

    def read(scene: Scene) -> str | None:
        thing = _only(scene, pattern)
        return None if thing is None else name(thing)

    return Question(kind, text, wanted, tuple(options), (pin,), read)


def _ask_color(board: Board, pairs: Sequence[Pair], rng: random.Random) -> Question:
    color = rng.choice(board.colors)
    shape = rng.choice([s for c, s in pairs if c == color])
    text, pattern = f"what color is the {shape}?", Pattern(shape=shape)
    pin = Pattern(shape=shape, color=color)
    return _attribute_question("color", text, color, board.colors, pin, pattern, lambda t: t.color)


def _ask_shape(board: Board, pairs: Sequence[Pair], rng: random.Random) -> Question:
    shape = rng.choice(board.shapes)
    color = rng.choice([c for c, s in pairs if s == shape])
    text, pattern = f"what shape is the {color} object?", Pattern(color=color)
    pin = Pattern(shape=shape, color=color)
    return _attribute_question("shape", text, shape, board.shapes, pin, pattern, lambda t: t.shape)


def _ask_position(board: Board, pairs: Sequence[Pair], rng: random.Random) -> Question:
    cell, (color, shape) = rng.choice(board.cells), rng.choice(pairs)
    text, pattern = f"where is the {color} {shape}?", Pattern(shape=shape, color=color)
    options = [place(board, c) for c in board.cells]
    pin = replace(pattern, cell=cell)
    return _attribute_question(
        "position", text, place(board, cell), options, pin, pattern, lambda t: place(board, t.cell)
    )


def _ask_size(board: Board, pairs: Sequence[Pair], rng: random.Random) -> Question:
    size, (color, shape) = rng.choice(board.sizes), rng.choice(pairs)
    text, pattern = f"what size is the {color} {shape}?", Pattern(shape=shape, color=color)
    pin = replace(pattern, size=size)
    return _attribute_question("size", text, size, board.sizes, pin, pattern, lambda t: t.size)


def _ask_count(board: Board, pairs: Sequence[Pair], rng: random.Random) -> Question:
    k, shape = rng.randint(0, board.objects[1]), rng.choice(board.shapes)
    pattern = Pattern(shape=shape)
    text, options = f"how many {plural(shape)} are there?", NUMBERS[: board.objects[1] + 1]
    return Question(
        "count", text, NUMBERS[k], options, (pattern,) * k, lambda s: NUMBERS[len(s.like(pattern))]
    )


def _ask_exists(board: Board, pairs: Sequence[Pair], rng: random.Random) -> Question:
    wanted, (color, shape) = rng.choice(("yes", "no")), rng.choice(pairs)
    pattern = Pattern(shape=shape, color=color)
    text, pins = f"is there {phrase(board, pattern)}?", (pattern,) if wanted == "yes" else ()
    return Question(
        "exists", text, wanted, ("yes", "no"), pins, lambda s: "yes" if s.like(pattern) else "no"
    )


def _ask_relation(board: Board, pairs: Sequence[Pair], rng: random.Random) -> Question:
    wanted, relation = rng.choice(("yes", "no")), rng.choice(list(RELATIONS))
    one, other = (Pattern(shape=s, color=c) for c, s in rng.sample(pairs, 2))

    def read(scene: Scene) -> str | None:
        a, b = _only(scene, one), _only(scene, other)
        return None if a is None or b is None else "yes" if RELATIONS[relation](a, b) else "no"

    text = f"is the {one.color} {one.shape} {relation} the {other.color} {other.shape}?"
    return Question("relation", text, wanted, ("yes", "no"), (one, other), read)


QUESTIONS: dict[str, Callable[[Board, Sequence[Pair], random.Random], Question]] = {
    "count": _ask_count,
    "color": _ask_color,
    "shape": _ask_shape,
    "position": _ask_position,
    "exists": _ask_exists,
    "relation": _ask_relation,
    "size": _ask_size,
}


@dataclass(frozen=True)
class Edit:
    """An instruction, the scene before and after, and the places that differ."""

    kind: str
    instruction: str
    source: Scene
    target: Scene
    cells: tuple[Cell, ...]


def _name(thing: Thing) -> str:
    return f"the {thing.color} {thing.shape}"


def _other(options: Sequence[str], value: str, rng: random.Random) -> str:
    return rng.choice([option for option in options if option != value])


def _edit_color(board: Board, scene: Scene, thing: Thing, rng: random.Random) -> Edit:
    color = _other(board.colors, thing.color, rng)
    text = f"change {_name(thing)} to {color}"
    return Edit("color", text, scene, scene.changing(thing, color=color), (thing.cell,))


def _edit_shape(board: Board, scene: Scene, thing: Thing, rng: random.Random) -> Edit:
    shape = _other(board.shapes, thing.shape, rng)
    text = f"replace {_name(thing)} with {phrase(board, Pattern(shape=shape))}"
    return Edit("shape", text, scene, scene.changing(thing, shape=shape), (thing.cell,))


def _edit_size(board: Board, scene: Scene, thing: Thing, rng: random.Random) -> Edit:
    size = _other(board.sizes, thing.size, rng)
    text = f"make {_name(thing)} {size}"
    return Edit("size", text, scene, scene.changing(thing, size=size), (thing.cell,))


def _edit_remove(board: Board, scene: Scene, thing: Thing, rng: random.Random) -> Edit:
    return Edit("remove", f"remove {_name(thing)}", scene, scene.without(thing), (thing.cell,))


def _free(board: Board, scene: Scene, rng: random.Random) -> Cell:
    return rng.choice([cell for cell in board.cells if scene.at(cell) is None])


def _edit_add(board: Board, scene: Scene, thing: Thing, rng: random.Random) -> Edit:
    color, shape = rng.choice(board.all_pairs)
    new = Thing(_free(board, scene, rng), shape, color, rng.choice(board.sizes))
    text = f"add {phrase(board, full(new))}"
    return Edit("add", text, scene, scene.adding(new), (new.cell,))


def _edit_move(board: Board, scene: Scene, thing: Thing, rng: random.Random) -> Edit:
    cell = _free(board, scene, rng)
    text = f"move {_name(thing)} to {at(board, cell)}"
    return Edit("move", text, scene, scene.changing(thing, cell=cell), (thing.cell, cell))


EDITS: dict[str, Callable[[Board, Scene, Thing, random.Random], Edit]] = {
    "color": _edit_color,
    "shape": _edit_shape,
    "size": _edit_size,
    "remove": _edit_remove,
    "add": _edit_add,
    "move": _edit_move,
}


def possible_edits(board: Board) -> list[str]:
    """The edits that stay within the board's vocabulary and object counts."""
    low, high = board.objects
    has = {
        "color": len(board.colors) > 1,
        "shape": len(board.shapes) > 1,
        "size": len(board.sizes) > 1,
        "remove": low < high,
        "add": low < high,
        "move": low < len(board.cells),
    }
    return [name for name in EDITS if has[name]]


def source_counts(board: Board, kind: str) -> range:
    """The object counts of scenes that an edit of a kind can change."""
    low, high = board.objects
    if kind == "move":
        return range(low, min(high, len(board.cells) - 1) + 1)
    return range(low + (kind == "remove"), high + (kind != "add"))


def edit(board: Board, kind: str, scene: Scene, rng: random.Random) -> Edit | None:
    """A random edit of a kind out of `EDITS`; None where the scene does not allow one.

    The thing that is edited is the only one of its colour and shape, so that the instruction names
    it without doubt.
    """
    low, high = board.objects
    alone = [t for t in scene.things if len(scene.like(Pattern(shape=t.shape, color=t.color))) == 1]
    lacks = {"remove": len(scene) == low, "add": len(scene) == high}
    full_board = len(scene) == len(board.cells) and kind in ("add", "move")
    if not alone or lacks.get(kind, False) or full_board:
        return None
    return EDITS[kind](board, scene, rng.choice(alone), rng)


@dataclass(frozen=True)
class Composition:
    """An instruction, scenes that each show one thing, and the scene that the things make."""

    instruction: str
    sources: tuple[Scene, ...]
    target: Scene


def compose(board: Board, target: Scene, rng: random.Random) -> Composition:
    """A composition of a scene's things in random order, each shown alone at a random place."""
    things = rng.sample(target.things, len(target))
    ground = target.background
    alone = [Scene((replace(t, cell=rng.choice(board.cells)),), ground) for t in things]
    goals = zip(ORDINALS, things, strict=False)  # a scene has nine things at most
    text = "put " + listed([f"the {name} at {at(board, thing.cell)}" for name, thing in goals])
    return Composition(text, tuple(alone), target)
