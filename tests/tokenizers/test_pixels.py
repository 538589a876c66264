"""Pixels as latents."""

import torch

from unify.tokenizers.pixels import Pixels


def test_encode_and_decode_are_the_identity_on_images():
    images = torch.rand(2, 3, 6, 10) * 2 - 1
    pixels = Pixels()
    latents = pixels.encode(images)
    assert torch.equal(latents, images)
    assert torch.equal(pixels.decode(latents), images)


def test_decode_keeps_the_range_of_images():
    assert Pixels().decode(torch.full((1, 3, 2, 2), 3.0)).max() == 1


def test_a_cell_of_the_grid_is_a_pixel_with_three_channels():
    pixels = Pixels()
    assert pixels.grid(6, 10) == (6, 10)
    assert pixels.channels == 3
    assert pixels.content_hash() == Pixels().content_hash()
