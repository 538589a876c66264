"""Generated images of the embedded world, read back by the exact checker.

    text_to_image/exact             full captions: every object right in shape, colour and place
    text_to_image/exact/<n>         by object count: one_object, two_objects ...
    text_to_image/exact/heldout     full captions with an attribute pair that no training split has
    text_to_image/unreadable        share of these images that the checker refuses (counted wrong)
    text_to_image/geneval/<c>       own prompts in the six categories of GenEval (arXiv:2310.11513),
                                    which leave open what they do not name
    text_to_image/variety/<a>       what `single_object` prompts leave open: entropy, 1 is all of it
    edit/exact, /changed, /kept     the whole target, the places asked for, all other places
    depth/abs_error                 mean |error| of nearness on the [0, 1] scale
    super_resolution/psnr, /exact   dB against the original; share read as the true scene
    <each>/ceiling                  the same of the true images of these prompts, given back by the
                                    tokenizer that the model draws with (ceiling.py)

Prompts and records are those of a fixed stream of the test split, the same for every run of the
same world; images are drawn with seeds stable_seed(seed of the evaluation, what, row).

B images, H x W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from unify.batch import Segment
from unify.data.shapes import Shapes
from unify.data.source import Record, Split, images, to_tensor
from unify.data.world.checker import Checker, Reading, Unreadable
from unify.data.world.language import Prompt
from unify.data.world.scene import Cell, Scene
from unify.metrics.ceiling import ceiling, given_back, with_ceiling
from unify.metrics.metric import (
    MOST_PSNR,
    Better,
    Grid,
    Metric,
    Score,
    Subject,
    available_records,
    average,
    conditions,
    first_records,
    proportion,
    psnr,
)
from unify.metrics.shapes_drawing import generate, passport, picture, shapes_of
from unify.metrics.shapes_variety import variety
from unify.support.ranges import Count, CountOrZero

PROMPT_SEED = 0  # of the prompt streams; outside any run's seeds


@dataclass
class Drawn:
    """Prompts of one kind with images of them, drawn or given back, and what they show."""

    prompts: list[Prompt]
    images: Tensor
    read: list[Scene | Unreadable]
    right: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.right = [
            isinstance(scene, Scene) and prompt.satisfied(scene)
            for prompt, scene in zip(self.prompts, self.read, strict=True)
        ]

    @property
    def texts(self) -> list[str]:
        return [prompt.text for prompt in self.prompts]

    def grid(self, name: str) -> Grid:
        return picture(name, self.images, self.texts, self.right)

    @staticmethod
    def joined(some: Sequence["Drawn"]) -> "Drawn":
        """All of them, one after the other."""
        prompts, read = (
            [p for one in some for p in one.prompts],
            [s for one in some for s in one.read],
        )
        return Drawn(prompts, torch.cat([one.images for one in some]), read)


class TextToImage(Metric):
    """Exactness on `prompts` full captions (as many of each object count), `heldout` held-out ones
    and `geneval` prompts of each of the six categories; variety of what the latter leave open."""

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    measures = (
        "text_to_image/exact",
        "text_to_image/exact/*_object*",
        "text_to_image/exact/heldout",
        "text_to_image/unreadable",
        "text_to_image/geneval/*",
        "text_to_image/variety/*",
    )

    def __init__(
        self,
        prompts: Count = 256,
        heldout: CountOrZero = 128,
        geneval: CountOrZero = 64,
        split: Split = "test",
    ):
        if prompts < 1:
            raise ValueError(f"prompts: {prompts} measure nothing; ask for 1 at least")
        self.prompts, self.heldout, self.geneval, self.split = prompts, heldout, geneval, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        checker = Checker(world)
        drawn: dict[str, Drawn] = {}
        best: dict[str, Drawn] = {}  # the true images of the same prompts, given back
        for name, (category, n, split) in self._asked(world).items():
            available_records(world, "text_to_image", split)
            prompts = world.prompts(category, n, PROMPT_SEED, split)
            texts = [prompt.text for prompt in prompts]
            pictures = generate(subject, f"text_to_image/{split}/{category}", texts)
            drawn[name] = Drawn(prompts, pictures, checker.read(pictures))
            truth = torch.stack([to_tensor(world.render(prompt.scene)) for prompt in prompts])
            copies = given_back(subject, truth)
            best[name] = Drawn(prompts, copies, checker.read(copies))
        ceilings = [ceiling(subject, score) for score in self._scores(subject, best)]
        scores = [*self._scores(subject, drawn), *ceilings]
        shown = {name: d for name, d in drawn.items() if not name.startswith("geneval/")}
        return scores, [d.grid(f"text_to_image/{name}") for name, d in shown.items()]

    def _asked(self, world: Shapes) -> dict[str, tuple[str, int, Split]]:
        """(category, number, split) of each kind of prompt, by the end of its scores' names."""
        each = math.ceil(self.prompts / len(world.complete))
        asked: dict[str, tuple[str, int, Split]] = {
            c: (c, each, self.split) for c in world.complete
        }
        if self.geneval:
            partial = [c for c in world.categories if c not in world.complete]
            asked |= {f"geneval/{c}": (c, self.geneval, self.split) for c in partial}
        if self.heldout and world.board.heldout:
            asked["heldout"] = ("full", self.heldout, "heldout")
        return asked

    def _scores(self, subject: Subject, drawn: dict[str, Drawn]) -> list[Score]:
        world = shapes_of(subject)
        complete = {name: drawn[name] for name in world.complete}
        loose = {name: d for name, d in drawn.items() if name.startswith("geneval/")}
        everything = Drawn.joined(list(complete.values()))

        def share(name: str, d: Drawn, hits: list[bool], better: Better = "higher") -> Score:
            stamp = passport(subject, d.texts, subject.image_sampling)
            of: dict[str, Any] = {"better": better, "unit": "prompts", "prompts": d.texts}
            return proportion(f"text_to_image/{name}", hits, stamp, **of)

        refused = [isinstance(scene, Unreadable) for scene in everything.read]
        scores = [share("exact", everything, everything.right)]
        scores += [share(f"exact/{name}", d, d.right) for name, d in complete.items()]
        scores += [share("unreadable", everything, refused, "lower")]
        scores += [share(name, d, d.right) for name, d in loose.items()]
        if (single := loose.get("geneval/single_object")) is not None:
            stamp = passport(subject, single.texts, subject.image_sampling)
            scores += variety(world, single.prompts, single.read, stamp)
        if (new := drawn.get("heldout")) is not None:
            scores.append(share("exact/heldout", new, new.right))
        return scores


class Edits(Metric):
    """Exactness of the first n edits of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"edit"})
    measures = ("edit/exact", "edit/changed", "edit/kept")

    def __init__(self, n: Count = 128, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        checker = Checker(world)
        records = first_records(world, "edit", self.split, self.n)
        instructions = [record.fields["instruction"] for record in records]
        sources = images(records, "source")
        drawn = generate(
            subject, f"edit/{self.split}", instructions, [Segment.image(sources, "condition")]
        )
        stamp = passport(subject, [r.key for r in records] + instructions, subject.image_sampling)
        asked = conditions(world, "edit", records)

        def score(shown: Tensor) -> list[Score]:
            of: dict[str, Any] = {"better": "higher", "unit": "prompts", "prompts": asked}
            parts = edit_parts(records, checker.places(shown))
            return [proportion(f"edit/{name}", hits, stamp, **of) for name, hits in parts.items()]

        exact = edit_parts(records, checker.places(drawn))["exact"]
        pairs = torch.stack([sources, drawn], 1).flatten(0, 1)  # before, after, before ...
        titles = [title for text in instructions for title in ("before", text)]
        verdicts = [verdict for hit in exact for verdict in (None, hit)]
        scores = with_ceiling(subject, drawn, images(records, "image"), score)
        return scores, [picture("edit", pairs, titles, verdicts)]


def edit_parts(
    records: Sequence[Record], read: Sequence[dict[Cell, Reading]]
) -> dict[str, list[bool]]:
    """Per edit: is the whole target there, what was asked for, and all that was not?"""
    parts: dict[str, list[bool]] = {"exact": [], "changed": [], "kept": []}
    for record, places in zip(records, read, strict=True):
        target, cells = record.meta["target"], record.meta["cells"]
        right = {cell: reading == target.at(cell) for cell, reading in places.items()}
        parts["exact"].append(all(right.values()))
        parts["changed"].append(all(right[cell] for cell in cells))
        parts["kept"].append(all(hit for cell, hit in right.items() if cell not in cells))
    return parts


class Depths(Metric):
    """Error of the first n depth maps of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"depth"})
    measures = ("depth/abs_error",)

    def __init__(self, n: Count = 128, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        records = first_records(world, "depth", self.split, self.n)
        sources = [Segment.image(images(records, "source"), "condition")]
        truth, asked = images(records, "image"), conditions(world, "depth", records)
        drawn = generate(subject, f"depth/{self.split}", [None] * len(records), sources)
        stamp = passport(subject, [r.key for r in records], subject.image_sampling)

        def score(shown: Tensor) -> list[Score]:
            error = (shown.clamp(-1, 1) - truth).abs().mean((1, 2, 3)) / 2  # [B], of [0, 1]
            of: dict[str, Any] = {"better": "lower", "unit": "images", "prompts": asked}
            return [average("depth/abs_error", error.tolist(), stamp, bounds=(0, 1), **of)]

        grid = picture("depth", drawn, [r.key for r in records], [None] * len(records))
        return with_ceiling(subject, drawn, truth, score), [grid]


class SuperResolutions(Metric):
    """PSNR and exactness of the first n enlarged images of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"super_resolution"})
    measures = ("super_resolution/psnr", "super_resolution/exact")

    def __init__(self, n: Count = 128, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world, task = shapes_of(subject), "super_resolution"
        checker, records = Checker(world), first_records(world, task, self.split, self.n)
        sources = [Segment.image(images(records, "source"), "condition")]
        truth, asked = images(records, "image"), conditions(world, task, records)
        drawn = generate(subject, f"{task}/{self.split}", [None] * len(records), sources)
        stamp = passport(subject, [r.key for r in records], subject.image_sampling)

        def right(shown: Tensor) -> list[bool]:
            read = zip(checker.read(shown), records, strict=True)
            return [scene == record.meta["scene"] for scene, record in read]

        def score(shown: Tensor) -> list[Score]:
            of: dict[str, Any] = {"better": "higher", "unit": "images", "prompts": asked}
            ratios, bounds = psnr(shown, truth), (-math.inf, MOST_PSNR)
            return [
                average(f"{task}/psnr", ratios, stamp, bounds=bounds, **of),
                proportion(f"{task}/exact", right(shown), stamp, **of),
            ]

        grid = picture(task, drawn, [r.key for r in records], right(drawn))
        return with_ceiling(subject, drawn, truth, score), [grid]
