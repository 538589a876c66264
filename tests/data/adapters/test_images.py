"""Every odd image is read as it was meant, or refused under a reason; none comes back wrong."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unify.data.adapters import images
from unify.data.adapters.images import BadImage, decode, dimensions


def scene(height=24, width=32):
    """Four flat quadrants: red, green / blue, white. uint8 [H W 3]."""
    out = np.zeros((height, width, 3), np.uint8)
    out[: height // 2, : width // 2] = (200, 0, 0)
    out[: height // 2, width // 2 :] = (0, 200, 0)
    out[height // 2 :, : width // 2] = (0, 0, 200)
    out[height // 2 :, width // 2 :] = 255
    return out


def encode(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(color, channels, alpha=None):
    """A 16-bit PNG [8 8] whose columns are 0, 1/4, 1/2, 1 of white; `alpha` of the lower half."""
    levels = [0, 65535 // 4, 65535 // 2, 65535]
    rows = b""
    for y in range(8):
        rows += b"\0"
        for x in range(8):
            values = [levels[x % 4]] * channels
            if alpha is not None:
                values.append(65535 if y < 4 else alpha)
            rows += struct.pack(f">{len(values)}H", *values)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 8, 8, 16, color, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def rgba(alpha):
    return np.dstack([scene(), np.full((24, 32), alpha, np.uint8)])


def exif(orientation):
    out = Image.Exif()
    out[0x0112] = orientation
    return out


def jpeg_with_orientation(kind, count, value):
    """A JPEG whose EXIF has one entry: Orientation, of any type, count and four bytes."""
    entry = struct.pack(">HHI", 0x0112, kind, count) + value
    block = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + entry + bytes(4)
    data = encode(scene(), "JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


QUANTIZED = Image.fromarray(scene()).quantize(8)
GRAY = np.asarray(Image.fromarray(scene()).convert("L"))
CLEAR = {"transparency": QUANTIZED.getpixel((0, 0))}  # the red quadrant
WHITE_RED = scene()
WHITE_RED[:12, :16] = 255

READ = {
    "png": (encode(scene()), scene()),
    "webp, lossless": (encode(scene(), "WEBP", lossless=True), scene()),
    "jpeg": (encode(scene(), "JPEG", quality=100, subsampling=0), scene()),
    "jpeg, progressive": (encode(scene(), "JPEG", quality=100, progressive=True), scene()),
    "jpeg, cmyk": (encode(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=100), scene()),
    "jpeg, gray": (encode(GRAY, "JPEG", quality=100), np.dstack([GRAY] * 3)),
    "png, gray": (encode(GRAY), np.dstack([GRAY] * 3)),
    "png, one bit": (
        encode(Image.fromarray(GRAY > 60)),
        np.dstack([(GRAY > 60) * np.uint8(255)] * 3),
    ),
    "png, palette": (encode(QUANTIZED), scene()),
    "png, palette with a clear colour": (encode(QUANTIZED, **CLEAR), WHITE_RED),
    "png, opaque alpha": (encode(rgba(255)), scene()),
    "png, all clear": (encode(rgba(0)), np.full((24, 32, 3), 255, np.uint8)),
    "png, half clear": (encode(rgba(128)), (scene() * (128 / 255) + 127).astype(np.uint8)),
    "webp, all clear": (
        encode(rgba(0), "WEBP", lossless=True, exact=True),
        np.full((24, 32, 3), 255, np.uint8),
    ),
    "jpeg, more behind its end": (encode(scene(), "JPEG", quality=100) + b"\0" * 99, scene()),
    "jpeg with a preview (MPO)": (
        encode(
            scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 24))], quality=100
        ),
        scene(),
    ),
}

USUAL = ("png", "webp, lossless", "jpeg")


@pytest.mark.parametrize(
    "name", [n if n in USUAL else pytest.param(n, marks=pytest.mark.fault(18)) for n in READ]
)
def test_is_read_as_meant(name):
    data, expected = READ[name]
    pixels = decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    difference = np.abs(pixels.astype(int) - expected)
    assert np.median(difference) <= 2  # JPEG blurs the seams between the quadrants
    assert difference.mean() < 6
    assert dimensions(data) == pixels.shape[:2]


@pytest.mark.fault(18)
@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3)])
def test_sixteen_bits_are_scaled_and_not_clipped(color, channels):
    assert decode(png16(color, channels))[0, :4, 0].tolist() == pytest.approx(
        [0, 64, 127, 255], abs=1
    )


@pytest.mark.fault(18)
@pytest.mark.parametrize(("color", "channels"), [(4, 1), (6, 3)])
def test_sixteen_bits_with_alpha_are_laid_over_white(color, channels):
    pixels = decode(png16(color, channels, alpha=0))
    assert pixels[0, :4, 0].tolist() == pytest.approx([0, 64, 127, 255], abs=1)
    assert (pixels[4:] == 255).all()


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize(
    "orientation", [1, *(pytest.param(n, marks=pytest.mark.fault(18)) for n in TURNS if n > 1)]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_applied(kind, orientation):
    data = encode(scene(), kind, exif=exif(orientation), **({} if kind == "PNG" else QUALITY[kind]))
    expected = TURNS[orientation](scene())
    assert decode(data).shape == expected.shape
    assert dimensions(data) == expected.shape[:2]
    assert np.abs(decode(data).astype(int) - expected).mean() < 6


QUALITY = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}


def frames(kind, **options):
    more = [Image.fromarray(scene()[::-1])]
    return encode(scene(), kind, save_all=True, append_images=more, **options)


def broken(data, at, value):
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


REFUSED = {
    "nothing": (b"", "empty_image"),
    "a text": (b"<html><body>404 not found</body></html>", "unsupported_format"),
    "zeros": (bytes(4096), "unsupported_format"),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00", "unsupported_format"),
    "gif": (encode(scene(), "GIF"), "unsupported_format"),
    "bmp": (encode(scene(), "BMP"), "unsupported_format"),
    "tiff": (encode(scene(), "TIFF"), "unsupported_format"),
    "tiff of floats": (encode(np.ones((9, 9), np.float32), "TIFF"), "unsupported_format"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format"),
    "animated png": (frames("PNG"), "animated_image"),
    "animated webp": (frames("WEBP", lossless=True), "animated_image"),
    "one pixel": (encode(scene()[:1, :1]), "degenerate_image"),
    "a line": (encode(np.zeros((1, 5000, 3), np.uint8)), "degenerate_image"),
    "a ribbon": (encode(np.zeros((9, 500, 3), np.uint8)), "degenerate_image"),
    "a bomb": (encode(Image.new("1", (20_000, 20_000))), "too_large"),
    "over our limit": (encode(Image.new("1", (10_000, 10_000))), "too_large"),
    "png, pixels damaged": (broken(encode(scene()), 60, 0x10), "corrupt_image"),
    "png, header damaged": (broken(encode(scene()), 20, 0x10), "corrupt_image"),
    "png, no end": (encode(scene())[:-12], "corrupt_image"),
    "png, only its signature": (encode(scene())[:8], "corrupt_image"),
    "jpeg, half": (encode(scene(), "JPEG")[:600], "corrupt_image"),
    "jpeg, no end": (encode(scene(), "JPEG")[:-40], "corrupt_image"),
    "webp, half": (encode(scene(), "WEBP", lossless=True)[:60], "corrupt_image"),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_under_its_reason(name):
    data, reason = REFUSED[name]
    with pytest.raises(BadImage) as caught:
        decode(data)
    assert caught.value.reason == reason


@pytest.mark.fault(18)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File", "ignore:Tag data")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_cut_image_is_never_read(kind, record_property):
    data = encode(scene(), kind)
    lengths = range(0, len(data) - 4, 3)
    record_property("times", len(lengths))
    for length in lengths:
        with pytest.raises(BadImage):
            decode(data[:length])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Tag data")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_random_damage_raises_nothing_but_bad_image(kind):
    data = encode(scene(), kind, exif=exif(6))
    rng = np.random.default_rng(0)
    for _ in range(400):
        place, value = int(rng.integers(len(data))), int(rng.integers(1, 256))
        try:
            pixels = decode(broken(data, place, value))
        except BadImage:
            continue
        assert pixels.ndim == 3
        if kind == "PNG":  # its checksums leave no other way
            assert np.array_equal(pixels, TURNS[6](scene())) or place < 16


def test_names_do_not_matter_and_pillow_settings_are_safe():
    from PIL import ImageFile

    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert set(images.FORMATS) == {"JPEG", "PNG", "WEBP"}


def test_the_central_square_is_taken():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 255
    assert (decode(encode(image), 20) == 255).all()
    assert (decode(encode(image.transpose(1, 0, 2)), 20) == 255).all()


def test_what_has_the_size_already_keeps_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert np.array_equal(decode(encode(image), 16), image)


def test_shrinking_is_antialiased():
    """A checkerboard of single pixels becomes gray, not stripes."""
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * np.full(3, 255)
    small = decode(encode(board.astype(np.uint8)), 16)
    assert np.abs(small.astype(int) - 127).max() < 8


@pytest.mark.fault(18)
@pytest.mark.parametrize("kind", range(14))
@pytest.mark.parametrize("count", [0, 1, 2, 60_000])
def test_an_orientation_of_any_type_ends_nothing_and_both_readers_agree(recwarn, kind, count):
    for value in (b"\0\x06\0\0", b"6\0\0\0", b"\0\x09\0\0", b"\xff" * 4):
        data = jpeg_with_orientation(kind, count, value)
        assert decode(data).shape[:2] == dimensions(data)
    assert not recwarn.list


@settings(max_examples=200, deadline=None)
@given(block=st.binary(max_size=60), kind=st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_whatever_stands_in_exif_the_picture_is_read(block, kind):
    data = encode(scene(), kind, exif=b"Exif\0\0" + block)
    assert decode(data).shape[:2] == dimensions(data)
    assert decode(data).shape in ((24, 32, 3), (32, 24, 3))
