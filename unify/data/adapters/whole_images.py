"""What a decoder does not say: whether a picture's data are all there.

Pillow reads a JPEG or a PNG whose data end early as if the rest were gray or black: libjpeg takes
this for a warning, and Pillow's PNG reader for the end. Here

    PNG   the pixels that IDAT inflates to are counted, and compared with those that IHDR asks for
    JPEG  the picture is decoded again with bytes put in wherever coded data end. A decoder that had
          all it needed skips them; one that lacked data takes them for the lacking ones, and its
          picture changes. What is lacking at a marker shows so: a cut, a height that was raised,
          another file that begins inside. Restart markers must all be there, in order, and zeros
          that would be no blocks of a picture are a hole.

Nothing shows of a JPEG whose coded data were replaced by others that are as many or more, of a hole
where zeros may be blocks (progressive, or with tables made for the picture), of a progressive one
that ends between two scans, nor of a WebP whose data are there and wrong.

ITU-T T.81 (JPEG), W3C PNG (Third Edition) sections 7 and 8.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

PIECE = 1 << 16  # bytes that are inflated at once


def lacking(data: bytes, image: Image.Image) -> str:
    """What a JPEG or a PNG that was decoded to `image` lacks; "" if nothing shows."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_lacks(data, image)
    return _png_lacks(data) if data.startswith(b"\x89PNG") else ""


# PNG

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]  # Adam7: x, y, their steps
PASSES += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def _png_lacks(data: bytes) -> str:
    chunks = list(_chunks(data))
    _, header = chunks[0]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    if colour == 3 and not any(name == b"PLTE" for name, _ in chunks):
        return "its palette"
    bits, expected = CHANNELS[colour] * depth, 0
    for x, y, over, down in PASSES if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // over), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * bits // 8))  # a byte says how a row is filtered
    found = _inflated(b"".join(body for name, body in chunks if name == b"IDAT"), expected)
    return f"{expected - found:,} of {expected:,} bytes of its pixels" if found < expected else ""


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of a PNG's chunks, whose checksums were compared before."""
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        yield name, data[at + 8 : at + 8 + size]
        if name == b"IEND":
            return
        at += 12 + size


def _inflated(data: bytes, most: int) -> int:
    """The bytes that a zlib stream inflates to, counted up to `most`; never more are held."""
    stream, found = zlib.decompressobj(), 0
    while data and not stream.eof and found < most:
        found += len(stream.decompress(data, PIECE))
        data = stream.unconsumed_tail
    while not data and not stream.eof and found < most and (more := stream.flush()):
        found += len(more)
    return found


# JPEG

RESTARTS = range(0xD0, 0xD8)
SOI, EOI, SOS, DHT, DRI, TEM = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0x01
HOLE = bytes(128)
HUFFMAN = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
PROGRESSIVE = 0xC2
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Bytes of no code in particular, and none of them FF, which would begin a marker.
PUT_IN = bytes((n * 151 + 37) % 255 for n in range(32))


@dataclass
class Jpeg:
    """The first picture of a JPEG: where its coded data end, and what it is."""

    frame: int = 0  # its marker: how it is coded
    size: tuple[int, int] = (0, 0)  # rows and columns
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)  # by component: down, over
    interval: int = 0  # blocks (MCU) from one restart marker to the next
    ends: list[int] = field(default_factory=list)  # offsets of the markers that end coded data
    end: int = 0  # of the picture: of its EOI, or of the data
    ac: dict[int, int] = field(default_factory=dict)  # tables of AC: the symbol of their code 00...
    fault: str = ""  # of its restart markers, or of its coded data


def _jpeg_lacks(data: bytes, image: Image.Image) -> str:
    jpeg = _walked(data)
    if jpeg.frame not in HUFFMAN:  # an arithmetic coder may leave zeros out at the end
        return ""
    if jpeg.fault:
        return jpeg.fault
    pieces, at = [], 0
    for end in jpeg.ends:
        pieces += [data[at:end], PUT_IN]
        at = end
    changed = b"".join([*pieces, data[at : jpeg.end], b"\xff\xd9"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about EXIF that is cut
        again = JpegImageFile(io.BytesIO(changed))
    same = ImageChops.difference(image, again).getbbox() is None
    return "" if same else "some of its coded data"


def _walked(data: bytes) -> Jpeg:
    """The segments of a JPEG up to its EOI, and the markers in its coded data."""
    jpeg, at = Jpeg(), 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == EOI:
            jpeg.end = at
            return jpeg
        if marker in (0x00, 0xFF, TEM, SOI) or marker in RESTARTS:
            at += 1 if marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        at += 4 + len(segment)
        if marker in FRAMES and not jpeg.frame:
            _read_frame(jpeg, marker, segment)
        elif marker == DRI:
            jpeg.interval = int.from_bytes(segment[:2], "big")
        elif marker == DHT:
            jpeg.ac |= _ac_tables(segment)
        elif marker == SOS:
            begin, at = at, _scanned(data, at, jpeg, _restarts(jpeg, segment))
            if not _zeros_are_flat(jpeg, segment) and HOLE in data[begin:at]:
                jpeg.fault = f"what was where {len(HOLE)} zeros are, or more"
    jpeg.end = len(data)
    return jpeg


def _read_frame(jpeg: Jpeg, marker: int, segment: bytes) -> None:
    jpeg.frame = marker
    jpeg.size = (int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big"))
    for at in range(6, len(segment) - 2, 3):
        jpeg.sampling[segment[at]] = (segment[at + 1] & 15 or 1, segment[at + 1] >> 4 or 1)


def _restarts(jpeg: Jpeg, scan: bytes) -> int:
    """The restart markers that a scan needs, by its SOS segment; some encoders write one more."""
    names = scan[1 : 1 + 2 * scan[0] : 2] if scan else b""
    if not jpeg.interval or not names or not jpeg.sampling.keys() >= set(names):
        return 0
    blocks = 1
    for axis, pixels in enumerate(jpeg.size):
        most = max(factors[axis] for factors in jpeg.sampling.values())
        if len(names) == 1:  # blocks of 8 x 8 of this component
            own = -(-pixels * jpeg.sampling[names[0]][axis] // most)
            blocks *= -(-own // 8)
        else:
            blocks *= -(-pixels // (8 * most))
    return max(-(-blocks // jpeg.interval) - 1, 0)


def _ac_tables(segment: bytes) -> dict[int, int]:
    """Of each AC table of a DHT segment, by its number, the symbol whose code is all zeros."""
    out, at = {}, 0
    while at + 17 < len(segment):
        if segment[at] >> 4:  # its first symbol has the first code of the shortest length
            out[segment[at] & 15] = segment[at + 17]
        at += 17 + sum(segment[at + 1 : at + 17])
    return out


def _zeros_are_flat(jpeg: Jpeg, scan: bytes) -> bool:
    """True unless zeros as coded data would be blocks whose every coefficient is -1.

    They are flat blocks, and may be long, where the code 00... ends a block, as in tables made for
    a picture.
    """
    tables = [selector & 15 for selector in scan[2 : 1 + 2 * scan[0] : 2]] if scan else []
    return jpeg.frame == PROGRESSIVE or all(jpeg.ac.get(table, 0) == 0 for table in tables)


def _scanned(data: bytes, at: int, jpeg: Jpeg, restarts: int) -> int:
    """Note where the coded data that begin at `at` end; the offset of the marker behind them.

    `restarts`: the restart markers that are needed.
    """
    number = 0
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        begin = at
        while data[at + 1 : at + 2] == b"\xff":  # any number of them begin a marker
            at += 1
        marker, at = int.from_bytes(data[at + 1 : at + 2], "big"), at + 2
        if marker == 0:  # FF 00 is a byte of coded data
            continue
        jpeg.ends.append(begin)
        if marker not in RESTARTS:
            if number < restarts:
                jpeg.fault = f"{restarts - number:,} of its {restarts:,} restart markers"
            return begin
        if marker != RESTARTS[number % 8]:
            jpeg.fault = "what is between its restart markers, which do not follow each other"
        number += 1
    jpeg.ends.append(len(data))
    return len(data)
