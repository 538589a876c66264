"""Invariants of SemanticFirst: directions are what is learned, and drawing repeats training."""

import pytest
import torch
import torch.nn.functional as F
from small import DIM, PROMPTS, SIDE, awake, confusion, learn

from unify.nn.image_layers import ImageLayers
from unify.nn.init import initialise
from unify.nn.layers import patchify, unpatchify
from unify.nn.trunk import Trunk
from unify.noise import Noise
from unify.paradigm import ImageRequest
from unify.paradigms.semantic_first import SemanticFirst
from unify.tokenizer import ContinuousTokenizer
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes

PATCH, PLACES, NUMBERS = 4, (SIDE // 4) ** 2, 48


class Directions(ContinuousTokenizer):
    """Cells of 4 x 4 pixels, all of one length: their contrast is lost."""

    stride, channels, unit = PATCH, NUMBERS, True

    def settings(self):
        return {}

    def encode(self, images):
        cells = patchify(images, PATCH)  # [B N C]
        cells = F.normalize(cells, dim=-1) * NUMBERS**0.5
        return cells.transpose(1, 2).unflatten(2, self.grid(*images.shape[-2:]))

    def decode(self, latents):
        h, w = latents.shape[-2:]
        cells = latents.flatten(2).transpose(1, 2)
        return unpatchify(cells, (h * PATCH, w * PATCH), PATCH).clamp(-1, 1)


def make(**settings):
    sections = settings.pop("axes", None)
    model = SemanticFirst(
        Trunk(DIM, 2, 2, sections=sections), Bytes(), Directions(), size=SIDE, **settings
    )
    initialise(model, 0)
    return model


def value(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))["image_cosine"].value


def scaled_head(model, factor):
    with torch.no_grad():
        model.to_features.weight *= factor
    return model


def captured(model, run):
    """Predicted features, one tensor for each call of their head."""
    calls = []
    handle = model.to_features.register_forward_hook(lambda m, a, out: calls.append(out))
    run()
    handle.remove()
    return calls


def test_the_loss_is_one_less_the_cosine_and_the_length_of_a_prediction_means_nothing(drawing):
    model = awake(make())
    (predicted,) = captured(model, lambda: value(model, drawing))
    wanted = model.features(drawing.segments[1].images)
    expected = 1 - (predicted * wanted).sum(-1) / (predicted.norm(dim=-1) * wanted.norm(dim=-1))
    torch.testing.assert_close(value(model, drawing), expected.mean(1))
    before = value(model, drawing)
    torch.testing.assert_close(value(scaled_head(model, 7.0), drawing), before)


def test_a_loss_of_the_feature_itself_is_zero_and_of_its_opposite_two(drawing, monkeypatch):
    model = make()
    wanted = model.features(drawing.segments[1].images)
    for factor, expected in ((3.0, 0.0), (-1.0, 2.0)):
        monkeypatch.setattr(model.to_features, "forward", lambda h, f=factor: f * wanted)
        torch.testing.assert_close(value(model, drawing), torch.full((3,), expected))


@pytest.mark.parametrize("axes", [None, [2, 1, 1]], ids=["one axis", "three"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_drawing_predicts_what_training_predicts_of_the_picture_drawn(axes, guidance):
    model = awake(make(axes=axes))
    drawn = []
    decode = model.image.decode
    model.image.decode = lambda latents: drawn.append(latents) or decode(latents)
    calls = captured(model, lambda: model.generate_image(ImageRequest(PROMPTS), guidance=guidance))
    stepwise = torch.stack(calls, 1)[-len(PROMPTS) :]  # with the prompt: the last of the contexts
    (latents,) = drawn
    features = latents.flatten(2).transpose(1, 2)  # [B N C]
    torch.testing.assert_close(features.norm(dim=-1), torch.full((3, PLACES), NUMBERS**0.5))
    sequence = model.prefix([(PROMPTS, [])])
    where = model.add_features(sequence, features)
    with torch.no_grad():
        hidden = sequence.run(model.trunk)[:, where.start - 1 : where.stop - 1]
        torch.testing.assert_close(model.to_features(hidden), stepwise)
    if guidance == 1:
        torch.testing.assert_close(
            F.cosine_similarity(stepwise, features, dim=-1).mean(), torch.tensor(1.0)
        )


def test_the_seed_changes_nothing_and_the_prompt_does():
    model = awake(make())
    one, other = (model.generate_image(ImageRequest(PROMPTS, seed=s)) for s in (0, 1))
    assert torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_what_follows_a_feature_changes_no_prediction_up_to_it(drawing):
    model = awake(make())
    features = model.features(drawing.segments[1].images)
    changed = features.clone()
    changed[:, 2:] = changed[:, 2:].roll(1, 0)
    both = []
    for each in (features, changed):
        sequence = model.prefix([(PROMPTS, [])])
        where = model.add_features(sequence, each)
        both.append(sequence.run(model.trunk)[:, where])
    assert torch.equal(both[0][:, :2], both[1][:, :2])
    assert (both[0][:, 2:] != both[1][:, 2:]).any(-1).all()


def test_latents_of_any_length_are_refused():
    with pytest.raises(ValueError, match="only directions are predicted; use an RAE"):
        SemanticFirst(Trunk(DIM, 1, 2), Bytes(), Pixels(), size=SIDE)


def test_pictures_learned_by_heart_are_drawn_while_answers_are_learned(drawing, reading):
    model = learn(make(dropout=0.0), [drawing, reading], 120, ("image_cosine", "text_ce"))
    assert value(model, drawing).max() < 0.02
    drawn = model.generate_image(ImageRequest(PROMPTS))
    wanted = model.image.decode(model.image.encode(drawing.segments[1].images))
    assert confusion(drawn, wanted).max() < 0.2


@torch.no_grad()
def test_the_first_feature_goes_through_the_layers_of_images(images, drawing):
    model = SemanticFirst(ImageLayers(Trunk(DIM, 1, 2)), Bytes(), Directions(), size=SIDE)
    initialise(model, 0)
    awake(model)
    (before,) = captured(model, lambda: value(model, drawing))
    for part in model.trunk.after.parameters():
        part.mul_(1.5)
    (after,) = captured(model, lambda: value(model, drawing))
    assert ((before - after).abs().amax(-1) > 1e-4).all()
    drawn = captured(model, lambda: model.generate_image(ImageRequest(PROMPTS)))
    assert len(drawn) == PLACES
