"""A picture whose data are not all there is refused, though its decoder reads it; no other is."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unify.data.adapters.images import BadImage, decode

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
EOI = b"\xff\xd9"


def jpeg(pixels=NOISE, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **{"quality": 90} | options)
    return file.getvalue()


def png(height, width, rows, colour=2, depth=8, interlaced=0, palette=None):
    """A PNG whose header says so, and whose pixels are the bytes `rows`."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *([(b"PLTE", palette)] if palette else [])]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        out += struct.pack(">I", len(data)) + name + data
        out += struct.pack(">I", zlib.crc32(name + data))
    return out


def refused(data):
    """The reason's details; an AssertionError if the picture is read."""
    with pytest.raises(BadImage) as caught:
        decode(data)
    assert caught.value.reason == "corrupt_image"
    return caught.value.detail


KINDS = [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}]
KINDS += [{"subsampling": 0}, {"restart_marker_blocks": 3, "quality": 40}]


@pytest.mark.fault(18, times=6)
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_was_cut_and_closed_is_refused(kind):
    data = jpeg(**kind)
    coded = data.rindex(b"\xff\xda") + 14 if "progressive" in kind else data.index(b"\xff\xda") + 14
    for share in (0.1, 0.3, 0.5, 0.8, 0.98):
        cut = data[: coded + int((len(data) - coded) * share)].rstrip(b"\xff")
        refused(cut + EOI)
    refused(data[: (coded + len(data)) // 2].rstrip(b"\xff") + b"<html>502</html>" + EOI)


@pytest.mark.fault(18)
def test_a_jpeg_of_another_height_or_with_another_file_in_it_is_refused():
    data, size = jpeg(), struct.pack(">HH", 64, 64)
    assert "coded data" in refused(data.replace(size, struct.pack(">HH", 1000, 64), 1))
    refused(data[: len(data) // 2] + data)


@pytest.mark.fault(18, times=3)
@pytest.mark.parametrize("kind", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_hole_in_a_jpeg_is_refused(kind):
    data = jpeg(**kind)
    half = len(data) // 2
    refused(data[:half] + bytes(len(data) - half))
    assert "zeros" in refused(data[:half] + bytes(400) + data[half + 400 :])
    assert "zeros" in refused(data[:half] + bytes(400) + data[half + 400 :] + b"behind its end")


@pytest.mark.fault(18)
def test_restart_markers_follow_each_other():
    data = jpeg(restart_marker_blocks=1)
    first, second, last = (data.index(b"\xff" + n) for n in (b"\xd1", b"\xd2", b"\xd6"))
    assert "restart" in refused(data[:first] + data[second:])
    assert "9 of its 15 restart markers" in refused(data[:last] + EOI)
    assert decode(data[:-2] + b"\xff\xd7" + EOI).shape == (64, 64, 3)  # one more than it needs


def pictures(height, width, seed):
    """Noise, flat, a gradient, and a page that is white but for a corner."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    page = np.full_like(noise, 255)
    page[height // 2 :, width // 2 :] = noise[height // 2 :, width // 2 :]
    slope = np.arange(height)[:, None, None] + np.arange(width)[None, :, None] + np.zeros(3)
    return [noise, noise * 0 + noise[0, 0], slope.astype(np.uint8), page]


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    seed=st.integers(0, 99),
    kind=st.sampled_from(KINDS),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.sampled_from([5, 60, 100]),
    behind=st.sampled_from([b"", bytes(700), b"\xff\xd8\xff", b"text"]),
)
def test_no_whole_jpeg_is_refused(height, width, seed, kind, mode, quality, behind):
    for pixels in pictures(height, width, seed):
        file = io.BytesIO()
        image = Image.fromarray(pixels).convert(mode)
        image.save(file, "JPEG", **kind | {"quality": quality})
        assert decode(file.getvalue() + behind).shape == pixels.shape


def test_a_large_flat_jpeg_whose_coded_data_are_zeros_is_read():
    data = jpeg(np.full((800, 800, 3), 77, np.uint8), optimize=True, quality=50)
    assert bytes(128) in data
    assert (decode(data) == decode(data)[0, 0]).all()


BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PNGS = [(colour, depth) for colour, depths in BITS.items() for depth in depths]


@pytest.mark.parametrize(("colour", "depth"), PNGS)
def test_a_png_has_all_pixels_that_its_header_asks_for(colour, depth):
    channels, palette = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour], bytes(3) if colour == 3 else None
    for height, width in itertools.product((8, 11), (9, 16)):
        row = bytes(1 + -(-width * channels * depth // 8))
        assert decode(png(height, width, row * height, colour, depth, 0, palette)).any() in (0, 1)
        for rows in (1, height // 2, height - 1):
            refused(png(height, width, row * rows, colour, depth, 0, palette))


def test_a_png_in_passes_has_all_pixels_too():
    """8 x 8 in Adam7: passes of 1x1, 1x1, 1x2, 2x2, 2x4, 4x4 and 4x8 (rows x columns)."""
    passes = [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8)]
    rows = b"".join(bytes(1 + 3 * columns) * count for count, columns in passes)
    assert decode(png(8, 8, rows, interlaced=1)).shape == (8, 8, 3)
    for lost in (1, 25, 100, len(rows) // 2):
        refused(png(8, 8, rows[:-lost], interlaced=1))


@pytest.mark.fault(18)
def test_a_palette_png_without_its_palette_is_refused():
    assert "palette" in refused(png(8, 8, bytes(9 * 8), 3))


def test_a_png_that_inflates_to_gigabytes_costs_what_its_header_says():
    rows = bytes(1 + 8 * 3) * 8
    assert decode(png(8, 8, rows + bytes(50_000_000))).shape == (8, 8, 3)
