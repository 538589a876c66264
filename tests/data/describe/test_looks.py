"""Looks: what stays the same when a picture is stored in another way, and what does not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from unify.data.describe.looks import SIDE, alike, look


def drawn(colour="red", at=(8, 8), back="white", size=96):
    image = Image.new("RGB", (size, size), back)
    box = [size * at[0] // 32, size * at[1] // 32, size * (at[0] + 16) // 32]
    ImageDraw.Draw(image).ellipse([*box[:2], box[2], size * (at[1] + 16) // 32], fill=colour)
    return image


def stored(image, quality):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out)


def pairs(*images):
    looks = [look(np.asarray(im.convert("RGB").resize((SIDE, SIDE)))) for im in images]
    return [
        (int(a), int(b))
        for left, right, _ in alike(looks)
        for a, b in zip(left, right, strict=True)
    ]


@pytest.mark.parametrize(
    "other", [stored(drawn(), 60), drawn(size=64), drawn(colour=(240, 10, 10))]
)
def test_a_picture_stored_in_another_way_looks_the_same(other):
    assert pairs(drawn(), other) == [(0, 1)]


@pytest.mark.parametrize(
    "other",
    [drawn("blue"), drawn(at=(2, 2)), drawn(back="black"), Image.new("RGB", (96, 96), "white")],
)
def test_another_colour_or_place_does_not(other):
    assert pairs(drawn(), other) == []


def test_flat_pictures_are_told_apart_by_their_colour():
    flat = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "gray", (250, 0, 0))]
    assert pairs(*flat) == [(0, 3)]


def test_all_pairs_are_compared_whatever_block_they_are_in():
    base = [drawn(at=(n % 16, n // 16 % 16)) for n in range(0, 250, 50)]
    many = [look(np.asarray(im.resize((SIDE, SIDE)))) for im in base] * 120
    found = [
        (int(a), int(b)) for left, right, _ in alike(many) for a, b in zip(left, right, strict=True)
    ]
    assert len(found) == len(set(found))
    assert {pair for pair in found if (pair[1] - pair[0]) % 5 == 0} == {
        (i, j) for i in range(600) for j in range(i + 5, 600, 5)
    }
    assert all(a < b for a, b in found)
