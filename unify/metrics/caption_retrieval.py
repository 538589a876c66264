"""Is a drawn picture recognised by its caption, where no checker can read it?

    text_to_image/retrieval           share of drawn pictures that lie nearer to their own caption
                                      than to any of so many others (R-precision, arXiv:1711.10485)
    text_to_image/retrieval/ceiling   of the true pictures, given back by the model's tokenizer
    judge/retrieval                   of the true pictures: what the judge itself can tell

One judge for all arms (text_image_judge.py), whose hash every passport has. Chance is one in
`among`. A tie is no hit. Other captions are drawn from the split by the key of the record, so they
are the same for all arms; captions of equal text are one.

B pictures.
"""

import random
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from unify.data.source import Record, Split, images, texts
from unify.metrics.ceiling import ceiling, given_back
from unify.metrics.metric import Grid, Metric, Score, Subject, digest, first_records, proportion
from unify.metrics.shapes_drawing import generate, picture
from unify.metrics.text_image_judge import TextImageJudge
from unify.noise import stable_seed
from unify.support.ranges import Count

NAME, REAL = "text_to_image/retrieval", "judge/retrieval"


class CaptionRetrieval(Metric):
    """The share for the first `n` records of a split, each among its own caption and others.

    Args:
        judge: one for all arms; weights come from a run of its own, or from a folder.
        among: captions that are compared, the own one included.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    measures = (NAME, REAL)

    def __init__(
        self,
        judge: TextImageJudge,
        n: Count = 256,
        among: Annotated[int, Ge(2)] = 64,
        split: Split = "test",
    ):
        self.judge, self.n, self.among, self.split = judge.eval(), n, among, split

    def check(self, subject: Subject) -> None:
        """ValueError, too, for too few captions, and for pictures that the judge does not take."""
        super().check(subject)
        records = self._records(subject)
        self._choices(texts(records, "prompt"), records)
        self.judge.features(images(records[:1], "image"))

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        records = self._records(subject)
        asked, truth = texts(records, "prompt"), images(records, "image")  # [B 3 H W]
        captions, choices = self._choices(asked, records)
        size = (truth.shape[-2], truth.shape[-1])
        # the pictures of a Frechet distance of the same records are not drawn twice
        drawn = generate(subject, f"frechet/{self.split}", asked, size=size)
        stamp = self._stamp(captions, choices, asked)
        own = stamp | {"sampler": dict(subject.image_sampling), "seeds": "of the evaluation"}

        def score(name: str, shown: Tensor, passport: dict) -> tuple[Score, list[bool]]:
            hits = self.hits(shown, captions, choices)
            better = None if name == REAL else "higher"  # no arm's
            of: dict = {"better": better, "unit": "images", "prompts": asked}
            return proportion(name, hits, passport, **of), hits

        main, found = score(NAME, drawn, own)
        copies, _ = score(NAME, given_back(subject, truth), own)
        real, _ = score(REAL, truth, stamp)
        grid = picture(NAME, drawn, asked, found)
        return [main, ceiling(subject, copies), real], [grid]

    def hits(self, shown: Tensor, captions: Sequence[str], choices: Tensor) -> list[bool]:
        """Which pictures [B 3 H W] are nearest to the first of their choices [B among]."""
        near = self.judge.similarity(shown, captions).gather(1, choices)  # [B among]
        return (near[:, :1] > near[:, 1:]).all(1).tolist()

    def _records(self, subject: Subject) -> list[Record]:
        return first_records(subject.source, "text_to_image", self.split, self.n)

    def _choices(self, asked: list[str], records: list[Record]) -> tuple[list[str], Tensor]:
        """The distinct captions, and for each record which of them it is compared with, its own
        first, [B among]. ValueError for too few."""
        captions = list(dict.fromkeys(asked))
        if len(captions) < self.among:
            raise ValueError(
                f"{len(captions)} of the first {len(records)} records of {self.split} have unlike "
                f"captions, and each is to be told from {self.among - 1} others: ask for more "
                "records (`n`), give the split more, or compare fewer (`among`)"
            )
        place = {text: number for number, text in enumerate(captions)}
        rows = []
        for text, record in zip(asked, records, strict=True):
            rng = random.Random(stable_seed("retrieval", record.key))
            own = place[text]
            others = rng.sample(range(len(captions) - 1), self.among - 1)
            rows.append([own, *(other + (other >= own) for other in others)])
        return captions, torch.tensor(rows)

    def _stamp(self, captions: list[str], choices: Tensor, asked: list[str]) -> dict:
        content = "\n".join([*captions, *asked]).encode() + choices.numpy().tobytes()
        judge = f"{type(self.judge).__name__} {self.judge.content_hash()}"
        return {"prompt_set": digest(content), "among": self.among, "judge": judge}
