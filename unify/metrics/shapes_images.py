"""Generated images of the embedded world, read back by the exact checker.

    text_to_image/exact             full captions: every object right in shape, colour and place
    text_to_image/exact/<n>         by object count: one_object, two_objects ...
    text_to_image/exact/heldout     full captions with an attribute pair that no training split has
    text_to_image/unreadable        share of these images that the checker refuses (counted wrong)
    text_to_image/nearest, /refused, /errors/<kind>, /attributes
                                    the same images read without a margin (shapes_outcomes.py)
    text_to_image/geneval/<c>       own prompts in the six categories of GenEval (arXiv:2310.11513),
                                    which leave open what they do not name
    text_to_image/variety/<a>       what `single_object` prompts leave open: entropy, 1 is all of it
    edit/exact, /changed, /kept     the whole target, the places asked for, all other places
    edit/nearest                    the whole target, read without a margin
    edit/drift                      mean |error| of pixels at all other places, on the [0, 1] scale
    depth/abs_error                 mean |error| of nearness on the [0, 1] scale
    super_resolution/psnr, /exact   dB against the original; share read as the true scene
    super_resolution/nearest        the same, read without a margin
    <each>/ceiling                  the same of the true images of these prompts, given back by the
                                    tokenizer that the model draws with (ceiling.py)

Prompts and records are those of a fixed stream of the test split, the same for every run of the
same world, or those that a committed file seals (sealed_prompts.py). A world with held-out keys has
no full caption twice, and fewer of them than are asked for where it has no more. Images are drawn
with seeds stable_seed(seed of the evaluation, what, row).

B images, H x W pixels.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from unify.batch import Segment
from unify.data.source import Record, Split, images
from unify.data.world.checker import Checker
from unify.data.world.reading import Fit, Reading, Unreadable
from unify.data.world.scene import Cell
from unify.metrics.ceiling import ceiling, given_back, with_ceiling
from unify.metrics.metric import (
    MOST_PSNR,
    Better,
    Grid,
    Score,
    Subject,
    average,
    conditions,
    first_records,
    proportion,
    psnr,
)
from unify.metrics.shapes_drawing import ShapesMetric, generate, picture, shapes_of
from unify.metrics.shapes_outcomes import Drawn, drift, nearest_to
from unify.metrics.shapes_prompts import full_prompts, open_prompts, pictures_of
from unify.metrics.shapes_variety import variety
from unify.support.ranges import Count, CountOrZero


class TextToImage(ShapesMetric):
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
        "text_to_image/nearest*",
        "text_to_image/refused*",
        "text_to_image/errors/*",
        "text_to_image/attributes*",
    )

    def __init__(
        self,
        prompts: Count = 256,
        heldout: CountOrZero = 128,
        geneval: CountOrZero = 64,
        split: Split = "test",
        sealed: str | None = None,
    ):
        if prompts < 1:
            raise ValueError(f"prompts: {prompts} measure nothing; ask for 1 at least")
        self.prompts, self.heldout, self.geneval = prompts, heldout, geneval
        self.split, self.sealed = split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = self.world(subject)
        checker = Checker(world)
        drawn: dict[str, Drawn] = {}
        best: dict[str, Drawn] = {}  # the true images of the same prompts, given back
        asked = full_prompts(world, self.prompts, self.heldout, self.split)
        if self.geneval:
            asked |= open_prompts(world, self.geneval, self.split)
        for name, some in asked.items():
            prompts, pictures, truth = pictures_of(subject, world, some)
            drawn[name] = Drawn.of(checker, prompts, pictures)
            best[name] = Drawn.of(checker, prompts, given_back(subject, truth))
        ceilings = [ceiling(subject, score) for score in self._scores(subject, best)]
        scores = [*self._scores(subject, drawn), *ceilings]
        shown = {name: d for name, d in drawn.items() if not name.startswith("geneval/")}
        return scores, [d.grid(f"text_to_image/{name}") for name, d in shown.items()]

    def _scores(self, subject: Subject, drawn: dict[str, Drawn]) -> list[Score]:
        world = shapes_of(subject)
        complete = {name: drawn[name] for name in world.complete}
        loose = {name: d for name, d in drawn.items() if name.startswith("geneval/")}
        everything = Drawn.joined(list(complete.values()))
        share = partial(self._share, subject)
        refused = [isinstance(scene, Unreadable) for scene in everything.read]
        scores = [share("exact", everything, everything.right)]
        scores += [share(f"exact/{name}", d, d.right) for name, d in complete.items()]
        scores += [share("unreadable", everything, refused, "lower")]
        scores += [share(name, d, d.right) for name, d in loose.items()]
        if (single := loose.get("geneval/single_object")) is not None:
            stamp = self.passport(subject, single.texts, subject.image_sampling)
            scores += variety(world, single.prompts, single.read, stamp)
        if (new := drawn.get("heldout")) is not None:
            scores.append(share("exact/heldout", new, new.right))
            complete["heldout"] = new
        return scores + self._nearest(subject, everything, complete)

    def _nearest(self, subject: Subject, d: Drawn, parts: dict[str, Drawn]) -> list[Score]:
        """Scores of all full captions, and of parts of them, by the nearest reading."""
        board, share = shapes_of(subject).board, partial(self._share, subject)
        scores = [share("nearest", d, d.nearest())]
        scores += [share(f"nearest/{name}", part, part.nearest()) for name, part in parts.items()]
        scores += [share(f"nearest/{name}", d, hits) for name, hits in d.by_margin().items()]
        scores.append(share("refused", d, d.refused, "lower"))
        for name, part in parts.items():
            scores.append(share(f"refused/{name}", part, part.refused, "lower"))
        for kind, hits in d.errors(board).items():
            scores.append(share(f"errors/{kind}", d, hits, None))
        by_part = {f"attributes/{name}": part for name, part in parts.items()}
        for name, part in {"attributes": d, **by_part}.items():
            stamp = self.passport(subject, part.texts, subject.image_sampling)
            of: dict[str, Any] = {"better": "higher", "unit": "prompts", "prompts": part.texts}
            values = part.attributes(board)
            scores.append(average(f"text_to_image/{name}", values, stamp, bounds=(0, 1), **of))
        return scores

    def _share(
        self,
        subject: Subject,
        name: str,
        d: Drawn,
        hits: list[bool],
        better: Better | None = "higher",
    ) -> Score:
        stamp = self.passport(subject, d.texts, subject.image_sampling)
        of: dict[str, Any] = {"better": better, "unit": "prompts", "prompts": d.texts}
        return proportion(f"text_to_image/{name}", hits, stamp, **of)


class Edits(ShapesMetric):
    """Exactness of the first n edits of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"edit"})
    measures = ("edit/exact", "edit/changed", "edit/kept", "edit/nearest*", "edit/drift")

    def __init__(self, n: Count = 128, split: Split = "test", sealed: str | None = None):
        self.n, self.split, self.sealed = n, split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = self.world(subject)
        checker = Checker(world)
        records = first_records(world, "edit", self.split, self.n)
        instructions = [record.fields["instruction"] for record in records]
        sources = images(records, "source")
        drawn = generate(
            subject, f"edit/{self.split}", instructions, [Segment.image(sources, "condition")]
        )
        stamp = self.passport(
            subject, [r.key for r in records] + instructions, subject.image_sampling
        )
        asked = conditions(world, "edit", records)

        def score(shown: Tensor) -> list[Score]:
            of: dict[str, Any] = {"unit": "prompts", "prompts": asked}
            fits = checker.fits(shown)
            parts = edit_parts(records, [checker.readings(places) for places in fits])
            parts["nearest"] = nearest_to(records, "target", fits)
            scores = [
                proportion(f"edit/{name}", hits, stamp, better="higher", **of)
                for name, hits in parts.items()
            ]
            off = drift(world, records, shown, images(records, "image"))
            of |= {"better": "lower", "bounds": (0, 1)}
            return [*scores, average("edit/drift", off, stamp, **of)]

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


class Depths(ShapesMetric):
    """Error of the first n depth maps of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"depth"})
    measures = ("depth/abs_error",)

    def __init__(self, n: Count = 128, split: Split = "test", sealed: str | None = None):
        self.n, self.split, self.sealed = n, split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = self.world(subject)
        records = first_records(world, "depth", self.split, self.n)
        sources = [Segment.image(images(records, "source"), "condition")]
        truth, asked = images(records, "image"), conditions(world, "depth", records)
        drawn = generate(subject, f"depth/{self.split}", [None] * len(records), sources)
        stamp = self.passport(subject, [r.key for r in records], subject.image_sampling)

        def score(shown: Tensor) -> list[Score]:
            error = (shown.clamp(-1, 1) - truth).abs().mean((1, 2, 3)) / 2  # [B], of [0, 1]
            of: dict[str, Any] = {"better": "lower", "unit": "images", "prompts": asked}
            return [average("depth/abs_error", error.tolist(), stamp, bounds=(0, 1), **of)]

        grid = picture("depth", drawn, [r.key for r in records], [None] * len(records))
        return with_ceiling(subject, drawn, truth, score), [grid]


class SuperResolutions(ShapesMetric):
    """PSNR and exactness of the first n enlarged images of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"super_resolution"})
    measures = ("super_resolution/psnr", "super_resolution/exact", "super_resolution/nearest*")

    def __init__(self, n: Count = 128, split: Split = "test", sealed: str | None = None):
        self.n, self.split, self.sealed = n, split, sealed

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world, task = self.world(subject), "super_resolution"
        checker, records = Checker(world), first_records(world, task, self.split, self.n)
        sources = [Segment.image(images(records, "source"), "condition")]
        truth, asked = images(records, "image"), conditions(world, task, records)
        drawn = generate(subject, f"{task}/{self.split}", [None] * len(records), sources)
        stamp = self.passport(subject, [r.key for r in records], subject.image_sampling)

        def right(fits: Sequence[dict[Cell, Fit]]) -> list[bool]:
            read = (checker.scene(checker.readings(places)) for places in fits)
            return [scene == r.meta["scene"] for scene, r in zip(read, records, strict=True)]

        def score(shown: Tensor) -> list[Score]:
            of: dict[str, Any] = {"better": "higher", "unit": "images", "prompts": asked}
            ratios, bounds = psnr(shown, truth), (-math.inf, MOST_PSNR)
            fits = checker.fits(shown)
            return [
                average(f"{task}/psnr", ratios, stamp, bounds=bounds, **of),
                proportion(f"{task}/exact", right(fits), stamp, **of),
                proportion(f"{task}/nearest", nearest_to(records, "scene", fits), stamp, **of),
            ]

        grid = picture(task, drawn, [r.key for r in records], right(checker.fits(drawn)))
        return with_ceiling(subject, drawn, truth, score), [grid]
