"""Bytes -> pixels by explicit decoders: JPEG, PNG and WebP, recognised by content, not by name.

What is read: EXIF orientation is applied, 16-bit PNGs are scaled to 8 bits, gray, palette and CMYK
become RGB, transparency is laid over white. What cannot be read as the picture it was meant to be
(cut, corrupt, animated, huge, a single line of pixels) is refused with a reason, never guessed.

H x W pixels, S the side of a square.
"""

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from unify.data.adapters.whole_images import lacking

FORMATS = ("JPEG", "PNG", "WEBP")
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # its values -> what makes the picture upright; any other value says nothing
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_PIXELS = 64_000_000  # 192 MB in RGB
MAX_BYTES = 8 * MAX_PIXELS + (
    1 << 20
)  # of a file: 16-bit RGBA that nothing compresses, and metadata
MIN_SIDE = 8
MAX_ASPECT = 20  # longer side over shorter side


class BadImage(Exception):
    """An image that is refused; `reason` is a code such as `corrupt_image`."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason + (f": {detail}" if detail else ""))
        self.reason, self.detail = reason, detail


def decode(data: bytes, size: int | None = None) -> np.ndarray:
    """Bytes of one image -> uint8 [H W 3], or its central square scaled to [S S 3]; or BadImage.

    Without `size`, as an image is judged by, its data are also looked through for what a decoder
    passes over (see whole_images.py); a loader reads what was judged before.
    """
    image = _open(data)
    try:
        if image.format == "PNG":  # load() does not compare the checksums of chunks, verify() does
            Image.open(io.BytesIO(data), formats=FORMATS).verify()
        image.load()
        if size is None and (what := lacking(data, image)):
            raise ValueError(f"it lacks {what}")
        turn = TURNS.get(_orientation(image))
        if turn is not None:
            image = image.transpose(turn)
        rgb = _rgb(image)
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        raise BadImage("corrupt_image", str(error) or type(error).__name__) from error
    return np.array(rgb if size is None else _square(rgb, size))  # [H W 3] or [S S 3], writable


def dimensions(data: bytes) -> tuple[int, int]:
    """(H, W) that `decode` would give, from the header alone; BadImage as far as it shows there."""
    image = _open(data)
    width, height = image.size
    # EXIF orientations 5 to 8 turn by 90 or 270 degrees: height and width change places.
    return (width, height) if _orientation(image) >= 5 else (height, width)


def _orientation(image: Image.Image) -> int:
    """1 to 8 by EXIF; 1, which turns nothing, where it says something odd or cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about EXIF that is cut
            value = image.getexif().get(ORIENTATION, 1)
        return int(value) if value in TURNS else 1
    except Exception:  # EXIF is bytes from anywhere, and its parser may raise anything
        return 1


def starts_like_an_image(data: bytes) -> bool:
    """True if the first bytes of a file are those of a format that is read."""
    return any(matches(data) for matches in MAGIC)


def _square(image: Image.Image, size: int) -> Image.Image:
    """The central square, scaled (antialiased, bicubic)."""
    width, height = image.size
    if width == height == size:
        return image
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=square)


def _open(data: bytes) -> Image.Image:
    """Open and check the header; pixels are not read yet."""
    if not data:
        raise BadImage("empty_image")
    if len(data) > MAX_BYTES:
        raise BadImage("too_large", f"{len(data):,} bytes are over {MAX_BYTES:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit on pixels is stricter than Pillow's
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadImage(_unidentified(data), f"starts with {data[:8]!r}") from error
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from error
    except Exception as error:
        raise BadImage("corrupt_image", str(error)) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage("too_large", f"{width}x{height} is over {MAX_PIXELS:,} pixels")
    if min(image.size) < MIN_SIDE or max(image.size) > MAX_ASPECT * min(image.size):
        raise BadImage("degenerate_image", f"{width}x{height}")
    frames = getattr(image, "n_frames", 1)
    if (
        frames > 1 and image.format != "MPO"
    ):  # MPO: a JPEG with previews, the first frame is the picture
        raise BadImage("animated_image", f"{frames} frames")
    return image


MAGIC: tuple[Callable[[bytes], bool], ...] = (
    lambda data: data.startswith(b"\xff\xd8\xff"),
    lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP",
)


def _unidentified(data: bytes) -> str:
    """A broken file of a known format, or another format altogether."""
    return "corrupt_image" if starts_like_an_image(data) else "unsupported_format"


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode that the three formats decode to -> RGB."""
    if image.mode.startswith("I"):  # 16-bit gray, which convert() would clip and not scale
        pixels = np.asarray(image).astype(np.uint32)
        clear = image.info.get("transparency")
        gray = Image.fromarray(((pixels * 255 + 32767) // 65535).astype(np.uint8))
        if isinstance(clear, int):
            gray.paste(255, mask=Image.fromarray(pixels == clear))
        return gray.convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
