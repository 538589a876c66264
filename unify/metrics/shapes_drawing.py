"""What metrics of the embedded world share: its prompts, drawing what is asked, passports, grids.

B images.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from unify.batch import Segment, Text
from unify.data.shapes import Shapes
from unify.data.world import fitting, templates
from unify.distributed.ranks import split_over_ranks
from unify.metrics.metric import Grid, Metric, Subject, digest
from unify.metrics.sealed_prompts import Seal, seal_of
from unify.noise import stable_seed
from unify.paradigm import ImageRequest, Paradigm

SHOWN = 16  # pictures of a grid


class ShapesMetric(Metric):
    """A metric of the embedded world: asks the prompts of development, or those of a sealed test.

    `sealed` is the path of a committed file, whose commit says which prompts (sealed_prompts.py).
    """

    version: ClassVar[int] = 1 + fitting.VERSION  # what reads worlds with looks counts, too
    sealed: str | None = None

    def check(self, subject: Subject) -> None:
        """ValueError for an empty split, and for a file that seals nothing."""
        super().check(subject)
        if self.sealed is not None:
            seal_of(self.sealed)

    @classmethod
    def depends_on(cls, arguments: Mapping[str, Any]) -> object | None:
        """The commit of the file that seals the prompts."""
        sealed = arguments.get("sealed")
        return None if sealed is None else seal_of(sealed).commit

    @cached_property
    def seal(self) -> Seal | None:
        """What seals the prompts, as it is when they are first asked."""
        return None if self.sealed is None else seal_of(self.sealed)

    def world(self, subject: Subject) -> Shapes:
        """The subject's world, with the prompts and records that this metric asks."""
        world = shapes_of(subject)
        return world if self.seal is None else world.on_stream(self.seal.stream)

    def passport(self, subject: Subject, asked: Sequence[object], sampling: dict) -> dict:
        """`passport`, and what sealed the prompts."""
        seal = {} if self.seal is None else self.seal.passport
        return passport(subject, asked, sampling) | seal


def shapes_of(subject: Subject) -> Shapes:
    """The subject's world; ValueError if its data is another."""
    if not isinstance(subject.source, Shapes):
        raise ValueError(
            "this metric reads the embedded world (unify.data.shapes.Shapes), and the source of "
            f"this run is {type(subject.source).__name__}: take the metric out of `evaluation`"
        )
    return subject.source


def passport(subject: Subject, prompts_or_keys: Sequence[object], sampling: dict) -> dict:
    """Passport of a score: digest of what was asked, sampler, rule of seeds, checker."""
    prompts = digest("\n".join(map(str, prompts_or_keys)).encode())
    seeds = "stable_seed(evaluation seed, what, row)"
    fitted = bool(shapes_of(subject).looks)
    checker = f"fitting {fitting.VERSION}" if fitted else templates.VERSION
    return {"prompt_set": prompts, "sampler": dict(sampling), "seeds": seeds, "checker": checker}


def generate(
    subject: Subject,
    what: str,
    prompts: Sequence[Text],
    columns: Sequence[Segment] = (),
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Draw an image for each prompt, in chunks that ranks share.

    What another metric of this evaluation drew from prompts alone is not drawn again.

    Args:
        what: names the stream of seeds: the same words draw the same noise in every run.
        prompts: one for each row, None for a task without a text.
        columns: source images [B 3 H W]; a row may lack some.
        size: (H, W); None: that of the subject's embedded world.

    Returns [B 3 H W] in [-1, 1], on the CPU.
    """
    side, model = shapes_of(subject).board.pixels if size is None else 0, subject.model
    assert isinstance(model, Paradigm)
    keys = [(what, row, prompt) for row, prompt in enumerate(prompts)]
    missing = [row for row, key in enumerate(keys) if columns or key not in subject.drawn]

    def draw(chunk: range) -> Tensor:
        rows = [missing[place] for place in chunk]
        some = slice(chunk.start, chunk.stop)
        given = [column.rows(some).to(model.device) for column in columns]  # then none is skipped
        request = ImageRequest(
            [prompts[row] for row in rows],
            sources=[column.images for column in given],
            present=[column.present for column in given],
            size=size or (side, side),
            seed=[stable_seed(subject.seed, what, row) for row in rows],
        )
        return model.generate_image(request, **subject.image_sampling).float().cpu()

    chunks = split_over_ranks(subject.chunks(len(missing)), draw)
    images = dict(zip(missing, (image for chunk in chunks for image in chunk), strict=True))
    if not columns:
        subject.drawn.update({keys[row]: image for row, image in images.items()})
        return torch.stack([subject.drawn[key] for key in keys])
    return torch.stack([images[row] for row in range(len(prompts))])


def picture(
    name: str, shown: Tensor, titles: Sequence[str], verdicts: Sequence[bool | None]
) -> Grid:
    """A grid of the first `SHOWN` images."""
    return Grid(name, shown[:SHOWN], list(titles[:SHOWN]), list(verdicts[:SHOWN]))
