"""What reconstruction measures, on tokenizers whose scores are known."""

import math
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial

import pytest
import torch
from torch import nn

from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.scene import Scene
from unify.metrics.metric import Subject
from unify.metrics.reconstruction import (
    COPY,
    Reconstruction,
    exact,
    read_alike,
    reconstruct,
    variety,
)
from unify.paradigm import Paradigm
from unify.tokenizer import DiscreteTokenizer, inference
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.vq import VQ, FSQCodes

TASKS = frozenset({"image"})


class Grey(DiscreteTokenizer):
    """Each pixel is one of `vocab_size` greys: the reconstruction is known."""

    stride = 1

    def __init__(self, vocab_size=4):
        super().__init__()
        self.vocab_size = vocab_size

    def settings(self):
        return {"vocab_size": self.vocab_size}

    @inference
    def encode(self, images):
        level = (images.mean(1) + 1) / 2 * self.vocab_size
        return level.long().clamp(0, self.vocab_size - 1).flatten(1)

    @inference
    def decode(self, codes, grid):
        values = (codes + 0.5) / self.vocab_size * 2 - 1
        return values.unflatten(1, grid)[:, None].repeat(1, 3, 1, 1)


class Holder(Paradigm):
    """A paradigm that only holds tokenizers."""

    tasks = frozenset({"text_to_image"})
    terms = frozenset()

    def __init__(self, **parts):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        for name, part in parts.items():
            setattr(self, name, part)

    def loss(self, batch, noise):
        return {}


def measure(model, tasks=TASKS, source=None, images=24):
    subject = Subject(model, source or Shapes(), tasks, {}, {}, {}, seed=0, batch=10)
    scores, grids = Reconstruction(images=images).measure(subject)
    return {score.metric: score for score in scores}, grids


def test_a_perfect_copy_scores_as_rounding_to_8_bits_and_is_read_exactly():
    scores, grids = measure(Pixels())
    assert scores["tokenizer/psnr"].value == pytest.approx(COPY)
    assert scores["tokenizer/ssim"].value == pytest.approx(1, abs=1e-5)
    assert scores["tokenizer/exact"].value == 1
    assert scores["tokenizer/nearest"].value == 1
    assert "tokenizer/usage" not in scores
    assert {score.n for score in scores.values()} == {24}
    (grid,) = grids
    assert len(grid.images) == len(grid.titles) == len(grid.verdicts) == 32
    assert torch.equal(grid.images[0], grid.images[1])
    assert grid.verdicts[:2] == [None, True]


def test_psnr_is_that_of_the_mean_squared_error():
    model, source = Grey(), Shapes()
    scores, _ = measure(model, source=source, images=3)
    data = torch.stack(
        [torch.as_tensor(source.record("image", "test", i).fields["image"]) for i in range(3)]
    )
    data = data.permute(0, 3, 1, 2) / 127.5 - 1
    error = (model.decode(model.encode(data), (32, 32)) - data).square().mean((1, 2, 3))
    expected = (20 * math.log10(2) - 10 * error.log10()).mean()
    assert scores["tokenizer/psnr"].value == pytest.approx(expected.item(), abs=1e-3)
    assert scores["tokenizer/exact"].value == 0, "grey is no colour of this world"


@pytest.mark.parametrize(
    ("codes", "usage", "perplexity"),
    [
        (torch.arange(8).repeat(3, 2), 1.0, 8.0),
        (torch.full((3, 5), 2), 1 / 8, 1.0),
        (torch.tensor([[0, 0, 1, 1]]), 2 / 8, 2.0),
    ],
)
def test_uniform_codes_have_perplexity_k_and_a_constant_one(codes, usage, perplexity):
    scores = {score.metric: score for score in variety("tokenizer", codes, 8, {})}
    assert scores["tokenizer/usage"].value == pytest.approx(usage)
    assert scores["tokenizer/perplexity"].value == pytest.approx(perplexity)
    assert scores["tokenizer/usage"].n == codes.numel()


def test_batches_do_not_change_what_is_reconstructed():
    torch.manual_seed(0)
    model = VQ(FSQCodes([5, 5, 5]), widths=[8, 16], patch=2).eval()
    data = torch.rand(7, 3, 16, 16) * 2 - 1
    copies, codes = reconstruct(model, data, batch=3)
    whole, all_codes = reconstruct(model, data, batch=7)
    assert torch.equal(codes, all_codes)
    torch.testing.assert_close(copies, whole)


def test_an_unreadable_copy_is_not_exact_even_of_an_unreadable_original():
    blank = torch.zeros(2, 3, 32, 32)
    assert exact(Shapes(), blank, blank) == [False, False]


def test_further_splits_are_measured_on_images_of_their_own_and_named_so():
    subject = Subject(Pixels(), Shapes(), TASKS, {}, {}, {}, seed=0, batch=10)
    metric = Reconstruction(images=6, also=["heldout", "validation"])
    scores, grids = metric.measure(subject)
    named = {score.metric: score for score in scores}
    plain = {name for name in named if name.count("/") == 1}
    assert named.keys() == plain | {f"{n}/{s}" for n in plain for s in ("heldout", "validation")}
    shown = {named[n].passport["images"] for n in named if "exact" in n}
    assert shown == {f"image/{split}/0-5" for split in ("test", "heldout", "validation")}
    assert len({named[n].passport["data"] for n in named if "exact" in n}) == 3
    assert len(grids) == 1, "the first split's"
    assert all(any(fnmatch(n, pattern) for pattern in metric.measures) for n in named)


def test_a_further_split_without_images_is_refused_before_training():
    class WithoutPairs(Shapes):
        def size(self, task, split):
            return 0 if split == "heldout" else super().size(task, split)

    subject = Subject(Pixels(), WithoutPairs(), TASKS, {}, {}, {}, seed=0, batch=10)
    Reconstruction(images=6, also=["validation"]).check(subject)
    with pytest.raises(ValueError, match="the heldout split"):
        Reconstruction(images=6, also=["heldout"]).check(subject)


def test_a_copy_within_the_margin_is_nearest_and_not_exact():
    world = Shapes()
    scene = next(s for s in map(partial(world.scene, "test"), range(50)) if len(s) == 1)
    (thing,) = scene.things
    other = replace(thing, shape="circle" if thing.shape == "square" else "square")
    images = torch.stack([to_tensor(world.render(s)) for s in (scene, Scene((other,)))])
    copy = (0.63 * images[0] + 0.37 * images[1])[None]  # at 0.26 between half-way and the original
    assert read_alike(world, images[:1], copy) == {"exact": [False], "nearest": [True]}
    assert read_alike(world, images[:1], images[:1]) == {"exact": [True], "nearest": [True]}
    assert read_alike(world, images[:1], images[1:]) == {"exact": [False], "nearest": [False]}


def test_a_paradigm_s_tokenizers_are_measured_by_name_and_once():
    grey = Grey()
    scores, grids = measure(Holder(codes=grey, again=grey), frozenset({"text_to_image"}))
    assert "tokenizer/psnr" in scores
    assert len(grids) == 1
    scores, grids = measure(Holder(codes=grey, pixels=Pixels()), frozenset({"text_to_image"}))
    assert {"tokenizer/codes/psnr", "tokenizer/codes/usage", "tokenizer/pixels/psnr"} <= set(scores)
    assert [grid.name for grid in grids] == [
        "tokenizer-codes-reconstruction",
        "tokenizer-pixels-reconstruction",
    ]


def test_the_passport_names_tokenizer_and_the_images_themselves():
    model = Grey()

    def passport(source):
        return measure(model, source=source, images=4)[0]["tokenizer/psnr"].passport

    assert passport(Shapes())["tokenizer"] == model.content_hash()
    assert passport(Shapes())["images"] == "image/test/0-3"
    assert passport(Shapes()) == passport(Shapes(caption_noise=1.0)), "the same images"
    assert passport(Shapes())["data"] != passport(Shapes(seed=1))["data"]
