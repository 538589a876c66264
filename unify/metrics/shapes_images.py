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

Prompts and records are those of a fixed stream of the test split, the same for every run of the
same world; images are drawn with seeds stable_seed(seed of the evaluation, what, row).

B images, H x W pixels.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from unify.batch import Segment, Text
from unify.data.shapes import Shapes
from unify.data.source import Record, Split, images
from unify.data.world.checker import VERSION, Checker, Unreadable
from unify.data.world.language import Prompt
from unify.data.world.scene import Pattern, Scene
from unify.distributed.ranks import split_over_ranks
from unify.metrics.metric import Grid, Metric, Score, Subject, average, digest, proportion, psnr
from unify.noise import stable_seed
from unify.paradigm import ImageRequest, Paradigm

SHOWN = 16  # pictures of a grid
PROMPT_SEED = 0  # of the prompt streams; outside any run's seeds


def shapes_of(subject: Subject) -> Shapes:
    """The subject's world; ValueError if its data is another."""
    if not isinstance(subject.source, Shapes):
        raise ValueError(
            "this metric reads the embedded world (unify.data.shapes.Shapes), and the source of "
            f"this run is {type(subject.source).__name__}: take the metric out of `evaluation`"
        )
    return subject.source


def records_of(world: Shapes, task: str, split: Split, n: int) -> list[Record]:
    """The first n records of the split, or all if it has fewer."""
    return [world.record(task, split, i) for i in range(min(n, world.size(task, split)))]


def passport(subject: Subject, prompts_or_keys: Sequence[object], sampling: dict) -> dict:
    """Passport of a score: digest of what was asked, sampler, rule of seeds, checker."""
    prompts = digest("\n".join(map(str, prompts_or_keys)).encode())
    seeds = "stable_seed(evaluation seed, what, row)"
    return {"prompt_set": prompts, "sampler": dict(sampling), "seeds": seeds, "checker": VERSION}


def generate(
    subject: Subject, what: str, prompts: Sequence[Text], columns: Sequence[Segment] = ()
) -> Tensor:
    """Draw an image for each prompt, in chunks that ranks share.

    Args:
        what: names the stream of seeds: the same words draw the same noise in every run.
        prompts: one for each row, None for a task without a text.
        columns: source images [B 3 H W]; a row may lack some.

    Returns [B 3 H W] in [-1, 1], on the CPU.
    """
    side, model = shapes_of(subject).board.pixels, subject.model
    assert isinstance(model, Paradigm)

    def draw(rows: range) -> Tensor:
        some = slice(rows.start, rows.stop)
        given = [column.rows(some).to(model.device) for column in columns]
        request = ImageRequest(
            list(prompts[some]),
            sources=[column.images for column in given],
            present=[column.present for column in given],
            size=(side, side),
            seed=[stable_seed(subject.seed, what, row) for row in rows],
        )
        return model.generate_image(request, **subject.image_sampling).float().cpu()

    return torch.cat(split_over_ranks(subject.chunks(len(prompts)), draw))


def picture(
    name: str, shown: Tensor, titles: Sequence[str], verdicts: Sequence[bool | None]
) -> Grid:
    """A grid of the first `SHOWN` images."""
    return Grid(name, shown[:SHOWN], list(titles[:SHOWN]), list(verdicts[:SHOWN]))


@dataclass
class Drawn:
    """Prompts of one kind with what the model made of them."""

    prompts: list[Prompt]
    images: Tensor
    read: list[Scene | Unreadable]
    right: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.right = [
            isinstance(scene, Scene) and prompt.satisfied(scene)
            for prompt, scene in zip(self.prompts, self.read, strict=True)
        ]

    def grid(self, name: str) -> Grid:
        return picture(name, self.images, [p.text for p in self.prompts], self.right)


class TextToImage(Metric):
    """Exactness on `prompts` full captions (as many of each object count), `heldout` held-out ones
    and `geneval` prompts of each of the six categories; variety of what the latter leave open."""

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})

    def __init__(
        self, prompts: int = 256, heldout: int = 128, geneval: int = 64, split: Split = "test"
    ):
        self.prompts, self.heldout, self.geneval, self.split = prompts, heldout, geneval, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        checker = Checker(world)

        def draw(category: str, n: int, split: Split) -> Drawn:
            prompts = world.prompts(category, n, PROMPT_SEED, split)
            texts = [prompt.text for prompt in prompts]
            pictures = generate(subject, f"text_to_image/{split}/{category}", texts)
            return Drawn(prompts, pictures, checker.read(pictures))

        each = math.ceil(self.prompts / len(world.complete))
        drawn = {c: draw(c, each, self.split) for c in world.complete}
        partial = [c for c in world.categories if c not in drawn] if self.geneval else []
        loose = {c: draw(c, self.geneval, self.split) for c in partial}
        scores = self._exact(subject, drawn)
        grids = [d.grid(f"text_to_image/{c}") for c, d in drawn.items()]
        for c, d in loose.items():
            scores.append(self._share(subject, f"text_to_image/geneval/{c}", [d]))
        if "single_object" in loose:
            open_ended = loose["single_object"]
            scores += variety(world, open_ended, self._passport(subject, [open_ended]))
        if self.heldout and world.board.heldout:
            new = draw("full", self.heldout, "heldout")
            scores.append(self._share(subject, "text_to_image/exact/heldout", [new]))
            grids.append(new.grid("text_to_image/heldout"))
        return scores, grids

    def _exact(self, subject: Subject, drawn: dict[str, Drawn]) -> list[Score]:
        scores = [self._share(subject, "text_to_image/exact", list(drawn.values()))]
        for category, some in drawn.items():
            scores.append(self._share(subject, f"text_to_image/exact/{category}", [some]))
        refused = [isinstance(s, Unreadable) for some in drawn.values() for s in some.read]
        stamp = self._passport(subject, drawn.values())
        return [*scores, proportion("text_to_image/unreadable", refused, stamp, better="lower")]

    def _share(self, subject: Subject, name: str, drawn: Sequence[Drawn]) -> Score:
        right = [hit for some in drawn for hit in some.right]
        return proportion(name, right, self._passport(subject, drawn), better="higher")

    @staticmethod
    def _passport(subject: Subject, drawn: Iterable[Drawn]) -> dict:
        texts = [prompt.text for some in drawn for prompt in some.prompts]
        return passport(subject, texts, subject.image_sampling)


def variety(world: Shapes, drawn: Drawn, stamp: dict) -> list[Score]:
    """Normalised entropy of each attribute that `single_object` prompts leave open.

    Taken for each prompt text over its right images and averaged by their number, so that always
    drawing red circles and blue squares counts as no variety. With m options, v of them seen in N
    images, the entropy is corrected for small N by (v - 1) / 2N (Miller and Madow) and divided by
    log m; 1 says that all options that training has are equally frequent.
    """
    scenes_of: defaultdict[str, list[Scene]] = defaultdict(list)
    for prompt, scene, right in zip(drawn.prompts, drawn.read, drawn.right, strict=True):
        if right and isinstance(scene, Scene):
            scenes_of[prompt.text].append(scene)
    shape = {prompt.text: prompt.spec.patterns[0].shape for prompt in drawn.prompts}
    scores = []
    for attribute in drawn.prompts[0].left_open():
        name = "cell" if attribute == "place" else attribute
        total, n = 0.0, 0
        for text, scenes in scenes_of.items():
            m = _options(world, name, Pattern(shape=shape[text]))
            if m > 1:
                values = Counter(getattr(scene.things[0], name) for scene in scenes)
                total += len(scenes) * _entropy(values) / math.log(m)
                n += len(scenes)
        value = min(1.0, total / n) if n else math.nan
        name = f"text_to_image/variety/{attribute}"
        scores.append(Score(name, value, n, passport=stamp, better="higher"))
    return scores


def _options(world: Shapes, attribute: str, pattern: Pattern) -> int:
    """Number of values that training has for an attribute of the thing asked for."""
    board = world.board
    if attribute == "color":
        return sum(shape == pattern.shape for _, shape in board.pairs)
    return len(board.sizes) if attribute == "size" else len(board.cells)


def _entropy(counts: Counter) -> float:
    n = sum(counts.values())
    plain = -sum(k / n * math.log(k / n) for k in counts.values())
    return plain + (len(counts) - 1) / (2 * n)


class Edits(Metric):
    """Exactness of the first n edits of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"edit"})

    def __init__(self, n: int = 128, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        checker = Checker(world)
        records = records_of(world, "edit", self.split, self.n)
        instructions = [record.fields["instruction"] for record in records]
        sources = images(records, "source")
        drawn = generate(
            subject, f"edit/{self.split}", instructions, [Segment.image(sources, "condition")]
        )
        exact, changed, kept = [], [], []
        for record, places in zip(records, checker.places(drawn), strict=True):
            target, cells = record.meta["target"], record.meta["cells"]
            right = {cell: reading == target.at(cell) for cell, reading in places.items()}
            exact.append(all(right.values()))
            changed.append(all(right[cell] for cell in cells))
            kept.append(all(hit for cell, hit in right.items() if cell not in cells))
        stamp = passport(subject, [r.key for r in records] + instructions, subject.image_sampling)
        parts = {"exact": exact, "changed": changed, "kept": kept}
        scores = [
            proportion(f"edit/{name}", hits, stamp, better="higher") for name, hits in parts.items()
        ]
        pairs = torch.stack([sources, drawn], 1).flatten(0, 1)  # before, after, before ...
        titles = [title for text in instructions for title in ("before", text)]
        verdicts = [verdict for hit in exact for verdict in (None, hit)]
        return scores, [picture("edit", pairs, titles, verdicts)]


class Depths(Metric):
    """Error of the first n depth maps of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"depth"})

    def __init__(self, n: int = 128, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        records = records_of(shapes_of(subject), "depth", self.split, self.n)
        sources = [Segment.image(images(records, "source"), "condition")]
        truth = images(records, "image")
        drawn = generate(subject, f"depth/{self.split}", [None] * len(records), sources)
        error = (drawn - truth).abs().mean((1, 2, 3)) / 2  # [B], of [0, 1]
        stamp = passport(subject, [r.key for r in records], subject.image_sampling)
        grid = picture("depth", drawn, [r.key for r in records], [None] * len(records))
        return [average("depth/abs_error", error.tolist(), stamp, better="lower")], [grid]


class SuperResolutions(Metric):
    """PSNR and exactness of the first n enlarged images of a split."""

    tasks: ClassVar[frozenset[str]] = frozenset({"super_resolution"})

    def __init__(self, n: int = 128, split: Split = "test"):
        self.n, self.split = n, split

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        world = shapes_of(subject)
        records = records_of(world, "super_resolution", self.split, self.n)
        sources = [Segment.image(images(records, "source"), "condition")]
        truth = images(records, "image")
        drawn = generate(subject, f"super_resolution/{self.split}", [None] * len(records), sources)
        read = Checker(world).read(drawn)
        right = [scene == r.meta["scene"] for scene, r in zip(read, records, strict=True)]
        stamp = passport(subject, [r.key for r in records], subject.image_sampling)
        scores = [
            average("super_resolution/psnr", psnr(drawn, truth), stamp, better="higher"),
            proportion("super_resolution/exact", right, stamp, better="higher"),
        ]
        return scores, [picture("super_resolution", drawn, [r.key for r in records], right)]
