"""The outlines of shapes, in the coordinates of a disc of radius 1: x to the right, y down.

Each shape comes twice. SHAPES says which points lie inside. LEVELS gives the signed distance to the
outline in units of the radius, negative inside, exact up to the corners: pixels averaged over it
are continuous in where a thing stands and how large it is, which those averaged over points are
not. Only sums, products, roots and maxima are taken, so pictures are the same on every machine.
"""

from collections.abc import Callable, Sequence
from math import cos, hypot, pi, sin, sqrt

import numpy as np

Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]
Level = Callable[[np.ndarray, np.ndarray], np.ndarray]
Corner = tuple[float, float]

TRIANGLE: list[Corner] = [(0.0, -0.98), (1.02, 0.82), (-1.02, 0.82)]
STAR, NOTCH = 1.08, 0.46  # distance of a star's points, and of its inner corners as a share of it


def _polygon(corners: Sequence[Corner]) -> Inside:
    """The test whether points lie in a polygon, by the even-odd rule."""

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        odd = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return odd

    return inside


def _star(points: int, inner: float) -> Inside:
    angles = np.pi * np.arange(2 * points) / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2, inner, 1.0) * STAR
    return _polygon([(r * np.cos(a), r * np.sin(a)) for r, a in zip(radii, angles, strict=True)])


SHAPES: dict[str, Inside] = {
    "circle": lambda x, y: x**2 + y**2 <= 0.98,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.88,
    "triangle": _polygon(TRIANGLE),
    "cross": lambda x, y: (
        (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 0.98)
    ),
    "diamond": lambda x, y: abs(x) + abs(y) <= 1.06,
    "ring": lambda x, y: (x**2 + y**2 <= 1.0) & (x**2 + y**2 >= 0.3),
    "star": _star(5, NOTCH),
}


def _half_plane(start: Corner, end: Corner) -> tuple[float, float, float]:
    """(a, b, c) with a x + b y - c the distance from a line, positive away from the origin."""
    (x0, y0), (x1, y1) = start, end
    a, b = y1 - y0, x0 - x1
    c, length = a * x0 + b * y0, hypot(a, b)
    sign = 1.0 if c > 0 else -1.0
    return sign * a / length, sign * b / length, sign * c / length


def _triangle_level(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    level = np.full(np.broadcast(x, y).shape, -np.inf, np.result_type(x, y))
    for start, end in zip(TRIANGLE, [*TRIANGLE[1:], TRIANGLE[0]], strict=True):
        a, b, c = _half_plane(start, end)
        np.maximum(level, a * x + b * y - c, out=level)
    return level


def _cross_level(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = abs(x), abs(y)
    return np.maximum(np.minimum(x, y) - 0.3, np.maximum(x, y) - 0.98)


def _ring_level(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    distance = np.sqrt(x**2 + y**2)
    return np.maximum(distance - 1.0, sqrt(0.3) - distance)


def _star_level(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A star has ten edges; mirrors through its middle fold all of them onto one.

    Angles are taken clockwise from the tip at the top: each mirror maps what lies behind it onto
    the tip's side of it, which leaves the angles up to 180, 108, 72 and at last 36 degrees.
    """
    x, y = np.broadcast_arrays(abs(x), y)
    for angle in (0.6 * pi, 0.4 * pi, 0.2 * pi):
        a, b = cos(angle), sin(angle)  # the mirror's normal, away from the tip
        behind = np.maximum(a * x + b * y, 0)
        x, y = x - 2 * a * behind, y - 2 * b * behind
    notch = (NOTCH * STAR * sin(pi / 5), -NOTCH * STAR * cos(pi / 5))
    a, b, c = _half_plane((0.0, -STAR), notch)
    return a * x + b * y - c


LEVELS: dict[str, Level] = {
    "circle": lambda x, y: np.sqrt(x**2 + y**2) - sqrt(0.98),
    "square": lambda x, y: np.maximum(abs(x), abs(y)) - 0.88,
    "triangle": _triangle_level,
    "cross": _cross_level,
    "diamond": lambda x, y: (abs(x) + abs(y) - 1.06) / sqrt(2),
    "ring": _ring_level,
    "star": _star_level,
}

# How far a shape reaches along an axis, in units of the radius
REACH: dict[str, float] = {
    "circle": sqrt(0.98),
    "square": 0.88,
    "triangle": 1.02,
    "cross": 0.98,
    "diamond": 1.06,
    "ring": 1.0,
    "star": STAR,
}
