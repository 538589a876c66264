"""Reconstruction by an image tokenizer: the ceiling of every model built on it.

B images, K codes.

    psnr        20 log10(2) - 10 log10(mean squared error), images in [-1, 1], mean over images
    ssim        structural similarity, 11 x 11 Gaussian window, mean over images
    usage       share of the K codes that the images use
    perplexity  exp of the entropy of how often each code is used, at most K
    exact       share of images that the embedded world's checker reads as it reads the original
    nearest     the same of its nearest reading, which has no margin: the scene of the original

With `also`, each is measured on further splits too: `tokenizer/exact/heldout` on held-out pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unify.data.shapes import Shapes
from unify.data.source import TASKS, Source, Split, images
from unify.data.world import fitting
from unify.data.world.checker import Checker
from unify.data.world.reading import Nearest
from unify.data.world.scene import Scene
from unify.metrics.metric import (
    Grid,
    Metric,
    Score,
    Subject,
    available_records,
    average,
    digest,
    first_records,
    proportion,
)
from unify.paradigm import Paradigm
from unify.support.ranges import Count
from unify.tokenizer import ContinuousTokenizer, DiscreteTokenizer, ImageTokenizer

SHOWN = 16  # images in the grid, each above its reconstruction
COPY = 20 * math.log10(255) + 10 * math.log10(12)  # dB of rounding to 8 bits: a perfect copy


class Reconstruction(Metric):
    """Measures a tokenizer in training, or each image tokenizer of a paradigm.

    Scores are named `tokenizer/psnr`, and `tokenizer/<attribute>/psnr` where there are several;
    those of the splits `also` end with the name of the split.
    """

    tasks = frozenset(TASKS) - {"text"}
    version = fitting.VERSION  # by which scenes with looks are read
    measures = tuple(
        f"tokenizer/{part}{name}{split}"
        for part in ("", "*/")
        for name in ("psnr", "ssim", "exact", "nearest", "usage", "perplexity")
        for split in ("", "/train", "/validation", "/test", "/heldout")
    )

    def __init__(self, images: Count = 512, split: Split = "test", also: Sequence[Split] = ()):
        self.images, self.split, self.also = images, split, tuple(also)

    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        scores, grids = self._measure(subject, self.split)
        for split in self.also:
            more, _ = self._measure(subject, split)
            scores += [replace(score, metric=f"{score.metric}/{split}") for score in more]
        return scores, grids

    def _measure(self, subject: Subject, split: Split) -> tuple[list[Score], list[Grid]]:
        """Scores and grids of one split."""
        originals, task = self._originals(subject, split)
        parts = image_tokenizers(subject.model)
        scores: list[Score] = []
        grids: list[Grid] = []
        for name, tokenizer in parts.items():
            prefix = "tokenizer" if len(parts) == 1 else f"tokenizer/{name}"
            copies, codes = reconstruct(tokenizer, originals, subject.batch)
            passport = {
                "tokenizer": tokenizer.content_hash(),
                "images": f"{task}/{split}/0-{len(originals) - 1}",
                "data": digest(originals.numpy().tobytes()),
            }
            read = read_alike(subject.source, originals, copies)
            scores += fidelity(prefix, originals, copies, passport)
            if isinstance(tokenizer, DiscreteTokenizer):
                assert codes is not None
                scores += variety(prefix, codes, tokenizer.vocab_size, passport)
            scores += [
                proportion(f"{prefix}/{name}", verdicts, passport, **_of(originals))
                for name, verdicts in read.items()
            ]
            grids.append(pairs(prefix, originals, copies, read.get("exact", [])))
        return scores, grids

    def check(self, subject: Subject) -> None:
        """ValueError if the split has no image of the task that they are taken from."""
        if image_tokenizers(subject.model):
            for split in (self.split, *self.also):
                available_records(subject.source, self._task(subject), split)

    def _task(self, subject: Subject) -> str:
        """`image` where the source has it, else the first of the model's own."""
        has_images = "image" in subject.source.tasks & self.tasks
        return "image" if has_images else sorted(subject.tasks & self.tasks)[0]

    def _originals(self, subject: Subject, split: Split) -> tuple[Tensor, str]:
        """Images [N 3 H W] of the task `image` where the source has it: the same for every run."""
        task = self._task(subject)
        records = first_records(subject.source, task, split, self.images)
        return images(records, "image"), task


def image_tokenizers(model: Any) -> dict[str, ImageTokenizer]:
    """The model itself, or what a paradigm holds; one held twice counts once."""
    if isinstance(model, ImageTokenizer):
        return {"model": model}
    assert isinstance(model, Paradigm)
    parts: dict[str, ImageTokenizer] = {}
    for name, part in model.tokenizers().items():
        if isinstance(part, ImageTokenizer) and all(part is not other for other in parts.values()):
            parts[name] = part
    return parts


def reconstruct(
    tokenizer: ImageTokenizer, originals: Tensor, batch: int
) -> tuple[Tensor, Tensor | None]:
    """Images [N 3 H W] -> reconstructions [N 3 H W] and codes [N L] where there are codes."""
    copies, codes = [], []
    for part in originals.split(batch):
        part = part.to(tokenizer.device)
        if isinstance(tokenizer, DiscreteTokenizer):
            codes.append(tokenizer.encode(part).cpu())
            grid = tokenizer.grid(*part.shape[-2:])
            copies.append(tokenizer.decode(codes[-1].to(part.device), grid).cpu())
        else:
            assert isinstance(tokenizer, ContinuousTokenizer)
            copies.append(tokenizer.decode(tokenizer.encode(part)).cpu())
    return torch.cat(copies), torch.cat(codes) if codes else None


def _of(originals: Tensor) -> dict[str, Any]:
    """What holds for every score of copies of originals [N 3 H W]; one shown twice counts so."""
    shown = [image.numpy().tobytes() for image in originals]
    return {"better": "higher", "unit": "images", "prompts": shown}


def fidelity(prefix: str, originals: Tensor, copies: Tensor, passport: dict) -> list[Score]:
    """PSNR and SSIM of copies [N 3 H W]; a perfect one has the PSNR of 8-bit rounding, 58.9 dB."""
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    psnr = peak_signal_noise_ratio(
        copies, originals, data_range=2.0, reduction="none", dim=(1, 2, 3)
    )
    # In double precision: the variances of flat areas are differences of almost equal numbers.
    # By parts: its convolutions would take gigabytes of memory for all at once.
    ssim: list[float] = []
    for copy, original in zip(copies.double().split(16), originals.double().split(16), strict=True):
        part = structural_similarity_index_measure(copy, original, reduction="none", data_range=2.0)
        assert isinstance(part, Tensor)
        ssim += part.tolist()
    of = _of(originals)
    return [
        average(f"{prefix}/psnr", psnr.clamp(max=COPY).tolist(), passport, bounds=(0, COPY), **of),
        average(f"{prefix}/ssim", ssim, passport, bounds=(-1, 1), **of),
    ]


def variety(prefix: str, codes: Tensor, vocab_size: int, passport: dict) -> list[Score]:
    """Usage and perplexity over all codes [N L]; `n` is N * L, without an interval.

    Neither has a better direction: a tokenizer that uses more codes gives no better images for it.
    """
    counts = torch.bincount(codes.flatten(), minlength=vocab_size).double()
    usage = (counts > 0).double().mean().item()
    perplexity = torch.special.entr(counts / counts.sum()).sum().exp().item()
    n = codes.numel()
    return [
        Score(f"{prefix}/usage", usage, n, passport=passport, unit="codes"),
        Score(f"{prefix}/perplexity", perplexity, n, passport=passport, unit="codes"),
    ]


def read_alike(source: Source, originals: Tensor, copies: Tensor) -> dict[str, list[bool]]:
    """Per image: is it read as the scene of its original, with the margin (`exact`) and without
    (`nearest`)? Empty outside the embedded world."""
    if not isinstance(source, Shapes):
        return {}
    checker = Checker(source)
    truths = checker.read(originals)
    fits = checker.fits(copies)
    read = [checker.scene(checker.readings(fit)) for fit in fits]
    nearest = [Nearest.of(fit).at_margin(0) for fit in fits]
    return {
        name: [isinstance(a, Scene) and a == b for a, b in zip(truths, found, strict=True)]
        for name, found in (("exact", read), ("nearest", nearest))
    }


def exact(source: Source, originals: Tensor, copies: Tensor) -> list[bool]:
    """Per image: is it read as the scene of its original? Empty outside the embedded world."""
    return read_alike(source, originals, copies).get("exact", [])


def pairs(prefix: str, originals: Tensor, copies: Tensor, verdicts: Sequence[bool]) -> Grid:
    """A grid of originals [N 3 H W], each followed by its reconstruction with its verdict."""
    shown = min(SHOWN, len(originals))
    both = torch.stack([originals[:shown], copies[:shown]], 1).flatten(0, 1)  # [2N 3 H W]
    marks = [*verdicts[:shown], *[None] * (shown - len(verdicts[:shown]))]
    return Grid(
        f"{prefix}/reconstruction".replace("/", "-"),
        both,
        ["original", "reconstruction"] * shown,
        [mark for verdict in marks for mark in (None, verdict)],
    )
