"""The ceiling of an image score is of the same prompts, by the same judge."""

import pytest
import torch
from shapes_oracle import HARD, WORLD, Broken, Composer, Oracle, measured, subject

from unify.data.source import images, to_tensor
from unify.metrics.ceiling import given_back
from unify.metrics.metric import first_records
from unify.metrics.shapes_compositions import Compositions
from unify.metrics.shapes_images import Depths, Edits, SuperResolutions, TextToImage
from unify.tokenizer import ContinuousTokenizer

IMAGES = [
    TextToImage(prompts=6, heldout=4, geneval=6),
    Edits(6),
    Compositions(8, heldout=4),
    Depths(6),
    SuperResolutions(6),
]


class Lossy(ContinuousTokenizer):
    """Gives every image back without one of its channels: no green, no blue."""

    stride, channels = 1, 3

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def settings(self):
        return {"keep": self.keep}

    def encode(self, images):
        return images

    def decode(self, latents):
        lost = [channel for channel in range(3) if channel not in self.keep]
        decoded = latents.clone()
        decoded[:, lost] = -1
        return decoded


def drawing_with(tokenizer, model):
    model.image = tokenizer
    return model


@pytest.mark.parametrize("metric", IMAGES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    "world", [pytest.param(WORLD, id="default"), pytest.param(HARD, id="hard")]
)
def test_a_ceiling_on_the_same_prompts_stands_beside_every_image_score(metric, world):
    scores, _ = measured(
        metric, Composer(world) if "compose" in metric.tasks else Oracle(world), world
    )
    own = [name for name in scores if not name.endswith("/ceiling")]
    assert sorted(scores) == sorted([*own, *(f"{name}/ceiling" for name in own)])
    for name in own:
        best = scores[f"{name}/ceiling"]
        assert (best.unit, best.better, best.n > 0) == (
            scores[name].unit,
            scores[name].better,
            True,
        )
        assert best.passport["tokenizer"] == "none: pixels"
        assert "sampler" not in best.passport
        assert "seeds" not in best.passport
        if "variety" not in name:
            assert best.passport["prompt_set"] == scores[name].passport["prompt_set"]
            assert best.prompts == scores[name].prompts
            assert best.value == pytest.approx(scores[name].value), "it draws what is true"


def test_what_a_tokenizer_cannot_give_back_is_in_the_ceiling_and_not_in_the_score():
    model = drawing_with(Lossy(keep=(0,)), Oracle(WORLD))
    scores, _ = measured(TextToImage(prompts=40, heldout=20, geneval=8), model)
    assert scores["text_to_image/exact"].value == 1
    assert scores["text_to_image/exact/ceiling"].value < 1
    heldout = scores["text_to_image/exact/heldout/ceiling"]
    assert heldout.n == 20
    assert heldout.value < 1
    assert scores["text_to_image/unreadable/ceiling"].value > 0
    assert scores["text_to_image/geneval/colors/ceiling"].value < 1
    assert heldout.passport["tokenizer"] == Lossy(keep=(0,)).content_hash()


def test_the_heldout_ceiling_is_of_the_heldout_prompts():
    model = drawing_with(Lossy(keep=(0, 1)), Broken(WORLD))  # no blue: yellow, red, green stay
    scores, _ = measured(TextToImage(prompts=60, heldout=40, geneval=0), model)
    prompts = WORLD.prompts("full", 40, 0, "heldout")
    truth = torch.stack([to_tensor(WORLD.render(prompt.scene)) for prompt in prompts])
    read = model.checker.read(model.image.decode(truth))
    expected = sum(scene == p.scene for scene, p in zip(read, prompts, strict=True)) / 40
    assert scores["text_to_image/exact/heldout/ceiling"].value == expected
    assert scores["text_to_image/exact/heldout"].value == 0


def test_a_model_that_draws_pixels_is_given_the_true_images():
    truth = images(first_records(WORLD, "image", "test", 3), "image")
    assert torch.equal(given_back(subject(Oracle(WORLD)), truth), truth)


def test_the_decoder_counts_and_not_what_a_model_reads_with():
    model = Oracle(WORLD)
    model.vision = Lossy(keep=())
    assert model.draws_with is None
    truth = images(first_records(WORLD, "image", "test", 3), "image")
    assert torch.equal(given_back(subject(model), truth), truth)
