"""How pictures look, in few bytes, and which of them look the same.

The code is a difference hash: one bit for each of 8 x 8 cells, set where the cell to its right is
brighter. It stays nearly the same when a picture is scaled, or compressed again. Alone it would
take a red disc for a blue one, and all flat pictures for one: colours of cells must agree, too.

N pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 32  # pixels of the square that is looked at: the central one, as training crops it
CELLS = 8
STEP = 3  # levels of 255 by which a cell must be brighter: below is noise of compression
MOST_BITS = 8  # of 64 that may differ
MOST_LEVELS = 40  # of 255 by which any cell's colour may differ, mean of the channels
ROWS, CANDIDATES = 256, 1 << 15  # compared at once


@dataclass(frozen=True)
class Look:
    """A picture in 8 x 8 cells."""

    code: int  # 64 bits
    cells: bytes  # uint8 [8 8 3]


def look(square: np.ndarray) -> Look:
    """Of uint8 [S S 3]."""
    image = Image.fromarray(square)
    box = Image.Resampling.BOX
    gray = np.asarray(image.convert("L").resize((CELLS + 1, CELLS), box)).astype(np.int16)
    bits = gray[:, 1:] - gray[:, :-1] >= STEP  # [8 8]
    code = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return Look(code, np.asarray(image.resize((CELLS, CELLS), box)).tobytes())


def alike(looks: Sequence[Look]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs that look the same: places [K], later places [K], and how far they differ [K]."""
    codes = np.array([look.code for look in looks], np.uint64)  # [N]
    cells = np.frombuffer(b"".join(look.cells for look in looks), np.uint8)
    cells = cells.reshape(len(looks), CELLS * CELLS, 3)
    for begin in range(0, len(looks), ROWS):
        some = codes[begin : begin + ROWS, None] ^ codes[None, begin:]
        left, right = np.nonzero(np.bitwise_count(some) <= MOST_BITS)
        left, right = left[left < right] + begin, right[left < right] + begin
        for at in range(0, len(left), CANDIDATES):
            a, b = left[at : at + CANDIDATES], right[at : at + CANDIDATES]
            levels = np.abs(cells[a].astype(np.int16) - cells[b]).sum(-1).max(-1) / 3  # [K]
            same = levels <= MOST_LEVELS
            yield a[same], b[same], levels[same]
