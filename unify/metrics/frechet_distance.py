"""Frechet distance of drawn pictures to real ones (Heusel et al., arXiv:1706.08500).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))    of means m and covariances S of features

    text_to_image/frechet            n pictures drawn from the prompts of n records against the
                                     pictures of the next n records of the split
    text_to_image/frechet/floor      the same of the true pictures of these prompts: two halves of
                                     the real pictures, which differ as two samples of n do
    text_to_image/frechet/ceiling    of these true pictures, given back by the model's tokenizer

By one encoder for all arms, which a run of its own has trained and whose hash every passport has.
The distance is larger the fewer pictures there are, for the floor as for the model: compare it with
its floor, and only at one n. It has no interval, since it is no mean over prompts; seeds tell how
far it varies.

N and M pictures, D features, H x W pixels.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import Record, Source, Split, images, texts
from unify.metrics.ceiling import ceiling, given_back
from unify.metrics.metric import Better, Grid, Score, Subject, available_records, digest
from unify.metrics.picture_encoder import PictureEncoder
from unify.metrics.shapes_drawing import ShapesMetric, generate
from unify.support.ranges import Count

LEAST = 2  # pictures that have a covariance


class FrechetDistance(ShapesMetric):
    """The distance of `n` drawn pictures of a split, or of half its records where it has fewer
    than twice as many; of any source, by an encoder that was trained on its pictures."""

    version: ClassVar[int] = 1  # no checker reads anything here
    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    measures = ("text_to_image/frechet", "text_to_image/frechet/floor")

    def __init__(
        self,
        encoder: PictureEncoder,
        n: Count = 512,
        split: Split = "test",
        sealed: str | None = None,
    ):
        self.encoder, self.n, self.split, self.sealed = encoder.eval(), n, split, sealed

    def check(self, subject: Subject) -> None:
        """ValueError, too, for pictures that the encoder does not take, and for too few of them."""
        super().check(subject)
        some = images(self._records(self._source(subject), 1), "image")
        self.encoder.features(some)

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        source = self._source(subject)
        n = self._count(source)
        records = self._records(source, 2 * n)
        real = images(records, "image")  # [2N 3 H W]
        asked, (own, others) = texts(records[:n], "prompt"), real.split(n)
        size = (real.shape[-2], real.shape[-1])
        drawn = generate(subject, f"frechet/{self.split}", asked, size=size)
        reference = self.encoder.features(others)
        stamp = self._stamp(subject, records[:n], others)

        def score(name: str, shown: Tensor, passport: dict) -> Score:
            value = frechet_distance(self.encoder.features(shown), reference)
            better: Better | None = None if name.endswith("/floor") else "lower"
            return Score(name, value, n, passport=passport, better=better, unit="images")

        own_stamp = stamp | {"sampler": dict(subject.image_sampling), "seeds": "of the evaluation"}
        copies = score("text_to_image/frechet", given_back(subject, own), own_stamp)
        scores = [
            score("text_to_image/frechet", drawn, own_stamp),
            ceiling(subject, copies),
            score("text_to_image/frechet/floor", own, stamp),
        ]
        return scores, []

    def _source(self, subject: Subject) -> Source:
        """The subject's source, with the records that this metric asks."""
        is_world = isinstance(subject.source, Shapes) or self.sealed is not None
        return self.world(subject) if is_world else subject.source

    def _count(self, source: Source) -> int:
        n = min(self.n, available_records(source, "text_to_image", self.split) // 2)
        if n < LEAST:
            raise ValueError(
                f"{n} of a split's pictures have no covariance; ask for n: {LEAST} at least, of a "
                f"{self.split} split of twice as many records"
            )
        return n

    def _records(self, source: Source, n: int) -> list[Record]:
        self._count(source)
        return [source.record("text_to_image", self.split, index) for index in range(n)]

    def _stamp(self, subject: Subject, records: Sequence[Record], others: Tensor) -> dict:
        asked = "\n".join(f"{r.key} {r.fields['prompt']}" for r in records)
        seal = {} if self.seal is None else self.seal.passport
        return {
            "prompt_set": digest(asked.encode()),
            "reference": digest(others.numpy().tobytes()),
            "encoder": f"{type(self.encoder).__name__} {self.encoder.content_hash()}",
            **seal,
        }


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Of features [N D] and [M D], in double precision; ValueError for fewer than two of either.

    Covariances are those of samples (N - 1). The trace of the root is that of the symmetric
    S1^(1/2) S2 S1^(1/2), which has real eigenvalues whatever the rank.
    """
    if min(len(one), len(other)) < LEAST:
        raise ValueError(f"{len(one)} and {len(other)} pictures; each side needs {LEAST} at least")
    a, b = one.double(), other.double()
    cov_a, cov_b = (torch.atleast_2d(torch.cov(x.T)) for x in (a, b))  # [D D]
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(apart + cov_a.trace() + cov_b.trace() - 2 * product))
