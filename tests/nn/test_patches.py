"""Latents to tokens and back: every patch at its own place, and nothing said at first."""

import pytest
import torch

from unify.nn.init import initialise
from unify.nn.layers import patchify
from unify.nn.patches import ConvPatches, LinearPatches

each_kind = pytest.mark.parametrize("kind", [LinearPatches, ConvPatches])
T = torch.tensor([0.3])


def latents():
    return torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))  # 2 x 3 patches


def make(kind):
    patches = kind(3, 32, 4)
    initialise(patches, 0)
    return patches


@each_kind
@torch.no_grad()
def test_a_patch_becomes_the_token_of_its_place_and_comes_back_to_it(kind):
    """Exactly with one linear map; most of it where convolutions look around."""
    patches, x = make(kind), latents()
    head = patches.outward if kind is LinearPatches else patches.head
    torch.nn.init.normal_(head.weight)
    tokens, _, skip = patches.tokens(x, T)
    assert tokens.shape == (1, 6, 32)
    hidden = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(1))
    drawn = patches.latents(hidden, skip, (8, 12))
    assert drawn.shape == x.shape
    for place in range(6):
        row, column = divmod(place, 3)
        touched, asked = x.clone(), hidden.clone()
        touched[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
        asked[:, place] += 1
        moved = (patches.tokens(touched, T)[0] - tokens)[0].norm(dim=-1)  # [P]
        painted = patchify(patches.latents(asked, skip, (8, 12)) - drawn, 4)[0].norm(dim=-1)
        for change in (moved, painted):
            assert change.argmax() == place
            if kind is LinearPatches:
                assert (change > 0).sum() == 1


@each_kind
def test_at_first_whatever_the_trunk_says_comes_out_as_zero(kind):
    patches = make(kind)
    skip = patches.tokens(latents(), T)[2]
    assert not patches.latents(torch.randn(1, 6, 32), skip, (8, 12)).any()
