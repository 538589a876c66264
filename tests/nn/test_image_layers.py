"""Further layers for image tokens: their definition, and the trunk where they add nothing."""

import copy

import pytest
import torch
from test_towers import IMAGES, TEXTS, TOWERS, base, close, inputs, mask, positions, shaken

from unify.nn.image_layers import ImageLayers
from unify.nn.masks import Mask
from unify.nn.towers import DualTrunk
from unify.nn.trunk import TEXT, TimedTrunk, Tokens, Trunk

FIRST_TEXT = TEXTS[:4]  # reads no image


def layers(before=1, after=2, **settings) -> ImageLayers:
    return shaken(ImageLayers(base(**settings), before, after), 5)


def tokens(x=None, towers=TOWERS) -> Tokens:
    return Tokens(inputs() if x is None else x, mask(), positions(), towers=towers)


@torch.no_grad()
def defined(model: ImageLayers, x: torch.Tensor) -> torch.Tensor:
    """Every block over all tokens in float64, and the further ones kept for those of images."""
    double, seen = copy.deepcopy(model).double(), mask()
    x, image = x.double(), torch.zeros(13, dtype=torch.bool)
    image[IMAGES] = True
    tables = double.trunk.tables(positions())

    def through(blocks, x, kept):
        for block in blocks:
            x = torch.where(kept[:, None], block(x, seen, tables, None, None, None), x)
        return x

    x = through(double.before, x, image)
    x = through(double.trunk.blocks, x, torch.ones_like(image))
    texts, x = double.trunk.norm(x), through(double.after, x, image)
    return torch.where(image[:, None], double.norm(x), texts)


def test_image_tokens_go_through_all_layers_and_texts_through_the_trunk_s():
    model = layers()
    close(model(tokens()), defined(model, inputs()).float(), 1e-4)


def test_a_text_without_images_is_what_the_trunk_alone_makes_of_it():
    model = layers()
    x, place = inputs()[:, :4], positions()[:, :4]
    seen = Mask.causal(torch.ones(2, 4, dtype=torch.bool))
    alone = model.trunk(Tokens(x, seen, place))
    assert torch.equal(model(Tokens(x, seen, place)), alone)
    close(model(tokens())[:, FIRST_TEXT], alone)


def test_layers_that_add_nothing_leave_the_trunk():
    model = layers()
    with torch.no_grad():
        for block in (*model.before, *model.after):
            block.attention.out.weight.zero_()
            block.mlp.down.weight.zero_()
        model.norm.weight.copy_(model.trunk.norm.weight)
    close(model(tokens()), model.trunk(tokens()))


def test_read_piece_by_piece_over_a_cache_it_is_the_same():
    model = layers()
    whole, cache, past, read, kinds = model(tokens()), model.cache(), 0, [], []
    for (tower, n), kind in zip(TOWERS, (Mask.causal, Mask.full, Mask.causal), strict=True):
        part, kinds = slice(past, past + n), [*kinds, kind(torch.ones(2, n, dtype=torch.bool))]
        seen = Mask.cat(kinds).queries(past)
        row = Tokens(inputs()[:, part], seen, positions()[:, part], towers=((tower, n),))
        read.append(model(row, cache))
        past += n
    close(torch.cat(read, 1), whole, 1e-4)
    assert cache.length == 13


def test_a_loss_on_texts_alone_reaches_no_further_layer_and_one_on_images_all():
    model = layers().train()
    model(tokens(towers=((TEXT, 13),))).sum().backward()
    own = [p for part in (model.before, model.after, model.norm) for p in part.parameters()]
    assert all(p.grad is None or not p.grad.any() for p in own)
    model(tokens())[:, IMAGES].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in own)


def test_states_after_so_many_layers_count_all_that_an_image_goes_through():
    model = layers(before=1, after=2)
    hidden, states = model(tokens(), None, range(model.depth + 1))
    assert sorted(states) == list(range(7))
    assert torch.equal(states[0], inputs())
    close(states[0][:, TEXTS], states[1][:, TEXTS])
    close(states[4][:, TEXTS], states[6][:, TEXTS])
    close(model.norm(states[6])[:, IMAGES], hidden[:, IMAGES])
    close(model.trunk.norm(states[4])[:, TEXTS], hidden[:, TEXTS])
    assert (states[4] != states[5])[:, IMAGES].any()


def test_recomputation_changes_no_gradient():
    def gradients(checkpoint):
        model = layers().train()
        model.checkpoint = model.trunk.checkpoint = checkpoint
        model(tokens()).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    close(gradients(False), gradients(True))


def test_what_does_not_fit_is_refused():
    for trunk in (TimedTrunk(32, 1, 2), DualTrunk(Trunk(32, 1, 2))):
        with pytest.raises(ValueError, match="no plain layers to add more of"):
            ImageLayers(trunk)
    with pytest.raises(ValueError, match="before and after are 0"):
        ImageLayers(Trunk(32, 1, 2), 0, 0)
    with pytest.raises(ValueError, match="does not say which of its tokens are of images"):
        layers().flops(3, 9)
