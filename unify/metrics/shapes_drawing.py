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
