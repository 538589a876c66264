"""Prompts that leave something open: is what was said there, and is the rest spread as in the data?

    text_to_image/open/said               share of pictures that have what was said and no other
                                          thing, by the nearest reading (refused ones have not)
    text_to_image/open/spread             total variation distance of what was left open from the
                                          training data, over all pictures
    text_to_image/open/spread/<a>         of one attribute: color, place, size
    text_to_image/open/spread/.../floor   the same of as many values drawn from the data
    <each>/ceiling                        of true images given back by the model's tokenizer

For each thing that a prompt asks for and each attribute that it leaves open, a picture has a value:
that of the thing in it that has most of what was said. `absent` where there are too few things, and
`refused` where the checker's limits refuse the picture, are values too, which the data never has.
Values are compared where the same was asked, in a *context*: what the prompt says of the thing.
(All categories come as often in the data, so a context is the same mixture of them there.) With
shares p of the values drawn in a context c and q of the data's,

    spread = sum over c of n_c / n * 1/2 sum over values |p - q|

So a model that draws all circles red and all squares blue has a large one, though it draws as much
red and blue as there is; and one that draws wrong things is not better off for it. The data are
`data` prompts of each category with their training scenes. A distance of few values is above 0 even
for the data itself: the floor says how far, by values of other `data` training scenes, in the very
contexts that were asked (mean of 200 draws, and the range of 95% of them).

Distances have no interval here, since they are no means over prompts.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import Split
from unify.data.world.checker import Checker
from unify.data.world.language import ATTRIBUTES, Prompt
from unify.data.world.reading import Nearest
from unify.data.world.scene import Pattern, Scene, Thing
from unify.metrics.ceiling import OF_THE_MODEL, ceiling, given_back
from unify.metrics.metric import Grid, Score, Subject, digest, proportion
from unify.metrics.shapes_drawing import SHOWN, ShapesMetric, picture
from unify.metrics.shapes_prompts import open_prompts, pictures_of
from unify.noise import stable_seed
from unify.support.ranges import Count

REFUSED, ABSENT = "refused", "absent"
DRAWS = 200  # of the floor
REFERENCE, FLOOR = "open reference", "open floor"  # names of streams of training prompts


class Value(NamedTuple):
    """What the picture of a row has where something was left open."""

    row: int
    attribute: str
    context: Pattern
    value: object


class OpenPrompts(ShapesMetric):
    """What `prompts` prompts of each category say, and how what they leave open is spread, beside
    the training scenes of `data` prompts of each."""

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    measures = (
        "text_to_image/open/said",
        "text_to_image/open/spread",
        "text_to_image/open/spread/*",
    )

    def __init__(
        self,
        prompts: Count = 64,
        data: Count = 1000,
        split: Split = "test",
        sealed: str | None = None,
    ):
        self.prompts, self.data, self.split, self.sealed = prompts, data, split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = self.world(subject)
        checker, asked = Checker(world), open_prompts(world, self.prompts, self.split)
        if not asked:  # a world whose scenes have none
            return [], []
        prompts: list[Prompt] = []
        drawn: list[Nearest] = []
        best: list[Nearest] = []  # the true images of the same prompts, given back
        shown: list[Tensor] = []
        titles: list[str] = []
        verdicts: list[bool | None] = []
        for some in asked.values():
            own, pictures, truth = pictures_of(subject, world, some)
            prompts += own
            drawn += (read := checker.nearest(pictures))
            best += checker.nearest(given_back(subject, truth))
            share = SHOWN // len(asked)  # of the one grid
            shown += pictures[:share]
            verdicts += said(own, read)[:share]
            titles += [prompt.text for prompt in own[:share]]
        reference, floor = (self._values_of_data(world, stream) for stream in (REFERENCE, FLOOR))
        stamp = self.passport(subject, [p.text for p in prompts], subject.image_sampling)
        stamp["data"] = digest(repr(sorted(map(repr, reference))).encode())

        def scores(read: Sequence[Nearest]) -> list[Score]:
            shared = _spreads(values_of(prompts, read), reference, stamp)
            return [_said(prompts, read, stamp), *shared]

        ceilings = [ceiling(subject, score) for score in scores(best)]
        floors = _floors(values_of(prompts, drawn), reference, floor, stamp)
        grid = picture("text_to_image/open", torch.stack(shown), titles, verdicts)
        return [*scores(drawn), *ceilings, *floors], [grid]

    def _values_of_data(self, world: Shapes, stream: str) -> list[Value]:
        """What training scenes have where prompts of each category leave something open."""
        seed = stable_seed(stream)
        prompts = [
            prompt
            for category, _, _ in open_prompts(world, 1, "train").values()
            for prompt in world.prompts(category, self.data, seed, "train")
        ]
        return values_of(prompts, [Nearest(prompt.scene, None, 1.0) for prompt in prompts])


def said(prompts: Sequence[Prompt], read: Sequence[Nearest]) -> list[bool]:
    """Which pictures have what was said and no other thing."""
    taken = zip(prompts, (near.at_margin(0) for near in read), strict=True)
    return [scene is not None and prompt.satisfied(scene) for prompt, scene in taken]


def values_of(prompts: Sequence[Prompt], read: Sequence[Nearest]) -> list[Value]:
    """The values of pictures of prompts."""
    values: list[Value] = []
    for row, (prompt, near) in enumerate(zip(prompts, read, strict=True)):
        spec = prompt.spec
        things = matched(spec.patterns, Scene(()) if near.refused else near.scene)
        missing = REFUSED if near.refused else ABSENT
        for pattern, thing in zip(spec.patterns, things, strict=True):
            for name in ATTRIBUTES:
                settled = getattr(pattern, name) is not None or (name == "cell" and spec.relation)
                if not settled:
                    value = missing if thing is None else getattr(thing, name)
                    label = "place" if name == "cell" else name
                    values.append(Value(row, label, pattern, value))
    return values


def matched(patterns: Sequence[Pattern], scene: Scene) -> list[Thing | None]:
    """A thing of the scene for each pattern, none twice, so that most of what is said holds."""
    from scipy.optimize import linear_sum_assignment

    def agree(pattern: Pattern, thing: Thing) -> int:
        return sum(getattr(pattern, name) == getattr(thing, name) for name in ATTRIBUTES)

    things: list[Thing | None] = [None] * len(patterns)
    if scene.things:
        table = [[agree(pattern, thing) for thing in scene.things] for pattern in patterns]
        rows, columns = linear_sum_assignment(table, maximize=True)
        for i, j in zip(rows, columns, strict=True):
            things[i] = scene.things[j]
    return things


Shares = dict[tuple[str, Pattern], Counter[object]]  # of attribute and context


def by_attribute(values: Sequence[Value]) -> dict[str, list[Value]]:
    """The values of all attributes and of each, by the end of their scores' names."""
    names = dict.fromkeys(value.attribute for value in values)
    parts = {f"/{name}": [v for v in values if v.attribute == name] for name in sorted(names)}
    return {"": list(values), **parts}


def counted(values: Iterable[Value]) -> Shares:
    """How often each value comes, by attribute and context."""
    counts: Shares = defaultdict(Counter)
    for _, attribute, context, value in values:
        counts[attribute, context][value] += 1
    return dict(counts)


def distance(drawn: Shares, data: Shares) -> float:
    """Total variation distance, each context as much as it was drawn; all are in the data."""
    total = sum(own.total() for own in drawn.values())
    apart = 0.0
    for place, own in drawn.items():
        n, m = own.total(), data[place].total()
        values = own.keys() | data[place].keys()
        apart += n * sum(abs(own[v] / n - data[place][v] / m) for v in values) / 2
    return apart / total


def floor_of(drawn: Shares, data: Shares, other: Shares) -> np.ndarray:
    """Distances from the data of as many values drawn from other data, [DRAWS], keyed."""
    rng = np.random.default_rng(stable_seed("floor of open prompts"))
    apart, total = np.zeros(DRAWS), sum(own.total() for own in drawn.values())
    for place in sorted(drawn, key=repr):
        n, m = drawn[place].total(), data[place].total()
        values = sorted(data[place].keys() | other[place].keys(), key=repr)
        p = np.array([other[place][v] for v in values], float)
        q = np.array([data[place][v] for v in values], float) / m
        shares = rng.multinomial(n, p / p.sum(), DRAWS) / n  # [DRAWS V]
        apart += n * np.abs(shares - q).sum(1) / 2
    return apart / total


def _spreads(values: list[Value], data: list[Value], stamp: dict) -> list[Score]:
    """The distance over all attributes and for each, of values in contexts that the data has."""
    known, scores = counted(data), []
    for end, own in by_attribute(values).items():
        own = [v for v in own if (v.attribute, v.context) in known]
        value = distance(counted(own), known) if own else None
        scores.append(_score(f"text_to_image/open/spread{end}", value, own, stamp))
    return scores


def _floors(values: list[Value], data: list[Value], other: list[Value], stamp: dict) -> list[Score]:
    known, others, scores = counted(data), counted(other), []
    stamp = {key: kept for key, kept in stamp.items() if key not in OF_THE_MODEL}
    for end, own in by_attribute(values).items():
        own = [v for v in own if (v.attribute, v.context) in known.keys() & others.keys()]
        name = f"text_to_image/open/spread{end}/floor"
        apart = floor_of(counted(own), known, others) if own else np.empty(0)
        floor = _score(name, float(apart.mean()) if own else None, own, stamp)
        if own:
            low, high = (float(edge) for edge in np.quantile(apart, (0.025, 0.975)))
            floor.low, floor.high = min(low, floor.value or low), max(high, floor.value or high)
        floor.better = None
        scores.append(floor)
    return scores


def _score(name: str, value: float | None, own: list[Value], stamp: dict) -> Score:
    n = len({v.row for v in own})
    return Score(name, value, n, passport=stamp, better="lower", unit="images")


def _said(prompts: list[Prompt], read: Sequence[Nearest], stamp: dict) -> Score:
    of: dict[str, Any] = {"better": "higher", "unit": "prompts"}
    texts = [prompt.text for prompt in prompts]
    return proportion("text_to_image/open/said", said(prompts, read), stamp, prompts=texts, **of)
