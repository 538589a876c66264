"""The reader of worlds with looks: fits where a thing stands, how large, and in which colours.

B images, M groups of a place (every shape and size), T places and radii that are tried for a group,
P pixels of a place, K colours. Images are on the [-1, 1] scale.

A picture of a thing is linear in its colours: with m the share of each pixel that it covers, g the
background and d the colour's difference from it, a place is g + m d. So nothing needs a template
of every picture. The background is the median of the pixels at the edges of the places, where no
thing stands. For each group the best of T masks is found by one product of matrices, moved and
scaled by a Gauss-Newton step (with d solved for, too), and drawn anew. Then d is solved for each
colour and kept within the shades of its name. Kinds are told apart by their best pictures, as
reading.py says. Each shape and size is a group twice, sharp and softened: what a tokenizer decodes
is blurred. Large places are made smaller first.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from unify.data.world.looks import Looks
from unify.data.world.outlines import REACH
from unify.data.world.reading import SOFT, Fit
from unify.data.world.renderer import RADIUS, Renderer
from unify.data.world.scene import SIZES, Board, Cell, Thing

VERSION = 1  # raise it whenever a verdict could change
ENOUGH = 16  # pixels of a place: larger ones are averaged, as far as they divide
STEP = 0.75  # pixels between tried places, and between tried radii; less in small places
SOFT_STEP = 1.1  # the same of softened shapes
SLIGHT = 0.25  # pixels of the differences that stand for derivatives
RIDGE = 3e-4  # of a Gauss-Newton step: what pictures do not tell apart stays where it was
FAINT = 0.005  # mean square that a thing explains at least of a place that is looked at closely
TINY = 1e-6

Array = np.ndarray


@dataclass(frozen=True)
class Group:
    """The masks of one shape and size that a place is tried with, all sharp or all softened.

    Args:
        at: right, down, radius in pixels, [T 3]. low, high: their limits, [3].
        masks: coverage, [T P], and its squared norm, [T].
        slopes: derivatives of the masks by the three, less their part along the mask, [T 3 P].
        bends: products of the slopes, [T 3 3].
    """

    shape: str
    size: str
    soft: bool
    at: Array
    low: Array
    high: Array
    masks: Array
    squares: Array
    slopes: Array
    bends: Array


class FittingReader:
    """Fits the places of a board's scenes with looks."""

    def __init__(self, board: Board, looks: Looks):
        self.shrunk = _shrunk(board)
        self.board, self.looks = replace(board, pixels=board.pixels // self.shrunk), looks
        self.renderer = Renderer(self.board)
        self._ground = _scaled(looks.ground())  # [2 3]
        self._shades = np.stack([_scaled(looks.shades(color)) for color in board.colors])  # [K 2 3]
        alike: dict[tuple, list[Group]] = {}  # places whose pixels lie alike share their masks
        self._groups: list[list[Group]] = []
        for cell in board.cells:
            key = self._lie(cell)
            if key not in alike:
                kinds = product(board.shapes, board.sizes, (False, True))
                alike[key] = [self._group(cell, *kind) for kind in kinds]
            self._groups.append(alike[key])
        self._edges = self._edge_pixels()

    def columns(self, images: Tensor) -> list[list[Fit]]:
        """[B 3 H W] in [-1, 1] -> B fits for each place."""
        shown = np.nan_to_num(F.avg_pool2d(images, self.shrunk).numpy())
        edges = shown[:, :, self._edges]  # [B 3 E]
        ground = np.clip(np.median(edges, axis=2), *self._ground).astype(np.float32)
        broken = images.isnan().flatten(1).any(1).numpy()
        return [self._column(shown, ground, broken, i) for i in range(len(self.board.cells))]

    def _lie(self, cell: Cell) -> tuple:
        """Size of a place in pixels, and where its middle is from its first pixel."""
        side = self.board.pixels / self.board.grid
        boxes = zip(cell, self.renderer.box(cell), strict=True)
        return tuple((b.stop - b.start, round((c + 0.5) * side - b.start, 6)) for c, b in boxes)

    def _edge_pixels(self) -> Array:
        """The pixels at the edges of the places, [H W] of bool."""
        edges = np.zeros((self.board.pixels, self.board.pixels), bool)
        for cell in self.board.cells:
            rows, columns = self.renderer.box(cell)
            edges[[rows.start, rows.stop - 1], columns] = True
            edges[rows, columns.start] = edges[rows, columns.stop - 1] = True
        return edges

    def _group(self, cell: Cell, shape: str, size: str, soft: bool) -> Group:
        side = self.board.pixels / self.board.grid
        full, most = RADIUS * side / 2 * SIZES[size], self.looks.offset * side
        low = np.array([-most, -most, full * (1 - self.looks.radius)])
        high = np.array([most, most, full])
        step = (SOFT_STEP if soft else STEP) * min(1, side / ENOUGH)
        at = self._kept(shape, self._tried(low, high, step))
        masks = self._draw(cell, shape, soft, at)
        squares = np.square(masks).sum(1)
        slopes = []
        for axis in range(3):
            shift = np.zeros(3, np.float32)
            shift[axis] = SLIGHT
            ahead, behind = (self._draw(cell, shape, soft, at + sign * shift) for sign in (1, -1))
            slope = (ahead - behind) / (2 * SLIGHT)
            slopes.append(slope - masks * ((slope * masks).sum(1) / squares)[:, None])
        stacked = np.stack(slopes, 1)  # [T 3 P]
        bends = np.einsum("tip,tjp->tij", stacked, stacked)
        return Group(shape, size, soft, at, low, high, masks, squares, stacked, bends)

    @staticmethod
    def _tried(low: Array, high: Array, step: float) -> Array:
        """A grid of places and radii between limits, [T 3]."""
        counts = 1 + np.ceil((high - low) / step).astype(int)
        axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]
        return np.array(list(product(*axes)), np.float32)

    def _kept(self, shape: str, at: Array) -> Array:
        """Places and radii [N 3], moved so that a shape stays in its place."""
        room = self.board.pixels / self.board.grid / 2 - REACH[shape] * at[:, 2:]
        return np.concatenate([np.clip(at[:, :2], -room, room), at[:, 2:]], 1).astype(np.float32)

    def _draw(self, cell: Cell, shape: str, soft: bool, at: Array) -> Array:
        """Masks [N P] of a shape at [N 3] places and radii."""
        masks = self.renderer.soft_coverage(cell, shape, *at.astype(np.float32).T)
        if soft:
            (h, _), (w, _) = self._lie(cell)
            masks = _kernel(h) @ masks @ _kernel(w)
        return masks.reshape(len(at), -1)

    def _column(self, shown: Array, ground: Array, broken: Array, i: int) -> list[Fit]:
        """Fits of the i-th place of B images."""
        cell, groups = self.board.cells[i], self._groups[i]
        rows, columns = self.renderer.box(cell)
        crop = shown[:, :, rows, columns] - ground[:, :, None, None]
        z = crop.reshape(len(crop), 3, -1)  # [B 3 P]
        masks = np.stack([self._fitted(cell, group, z) for group in groups], 1)
        return self._told_apart(cell, masks, z, ground, broken, crop.shape[2:])

    def _fitted(self, cell: Cell, group: Group, z: Array) -> Array:
        """The mask of a group that is nearest to each of B places, [B P]."""
        flat = z.reshape(-1, z.shape[2]) @ group.masks.T  # in one product: many are slow
        along = flat.reshape(len(z), 3, -1)  # [B 3 T]
        red, green, blue = np.moveaxis(along, 1, 0)
        gains = (red * red + green * green + blue * blue) / group.squares
        best = gains.argmax(1)  # [B]
        masks = group.masks[best]
        seen = np.flatnonzero(gains.max(1) > FAINT * z[0].size)  # of an empty place, any will do
        if len(seen):
            d = along[seen, :, best[seen]] / group.squares[best[seen], None]  # [N 3]
            at = self._stepped(group, best[seen], z[seen], d)
            masks[seen] = self._draw(cell, group.shape, group.soft, at)
        return masks

    def _stepped(self, group: Group, best: Array, z: Array, d: Array) -> Array:
        """Places and radii [N 3] a Gauss-Newton step from the best tried ones of N places.

        Args:
            best: which they are, [N]. z: the places, [N 3 P]. d: their colours, [N 3].
        """
        slope = group.slopes[best] @ z.transpose(0, 2, 1)  # [N 3 3]
        toward = (slope * d[:, None]).sum(2)  # [N 3]
        bend = group.bends[best] * np.square(d).sum(1)[:, None, None]
        trust = TINY + RIDGE * np.trace(bend, axis1=1, axis2=2)
        bend += trust[:, None, None] * np.eye(3, dtype=bend.dtype)
        step = np.linalg.solve(bend, toward[..., None])[..., 0]
        at = np.clip(group.at[best] + np.clip(step, -STEP, STEP), group.low, group.high)
        return self._kept(group.shape, at)

    def _told_apart(
        self, cell: Cell, masks: Array, z: Array, ground: Array, broken: Array, shape: tuple
    ) -> list[Fit]:
        """Fits from the masks [B M P] of a place's groups."""
        rows, numbers = np.arange(len(z)), z[0].size
        along = masks @ z.transpose(0, 2, 1)  # [B M 3]
        squares = np.square(masks).sum(2)  # [B M]
        low = self._shades[None, :, 0] - ground[:, None]  # [B K 3]
        high = self._shades[None, :, 1] - ground[:, None]
        d = np.clip((along / squares[..., None])[:, :, None], low[:, None], high[:, None])
        gain = 2 * (d * along[:, :, None]).sum(3) - np.square(d).sum(3) * squares[..., None]
        whole = np.square(z).sum((1, 2))  # [B]: the error of an empty place
        errors = np.concatenate([whole[:, None] - gain.reshape(len(z), -1), whole[:, None]], 1)
        kinds, things = self._kinds(cell)
        best = errors.argmin(1)
        d = np.concatenate([d.reshape(len(z), -1, 3), np.zeros((len(z), 1, 3), d.dtype)], 1)
        of = np.append(
            np.arange(d.shape[1] - 1) // len(self.board.colors), 0
        )  # mask of a candidate
        own, own_mask = d[rows, best], masks[rows, of[best]]  # [B 3], [B P]
        overlap = (masks @ own_mask[..., None])[:, of, 0]
        apart = np.square(d).sum(2) * squares[:, of] - 2 * (d * own[:, None]).sum(2) * overlap
        apart += (np.square(own).sum(1) * squares[rows, of[best]])[:, None]
        u = (errors - errors[rows, best, None]) / np.maximum(apart, TINY)
        u[kinds == kinds[best, None]] = np.inf
        rival = u.argmin(1)
        flaw = _flaws((z - own[:, :, None] * own_mask[:, None]).reshape(len(z), 3, *shape))
        distance = np.sqrt(np.maximum(errors[rows, best], 0) / numbers)
        distance[broken] = np.nan
        lead = u[rows, rival]
        columns = (best.tolist(), rival.tolist(), distance.tolist(), lead.tolist(), flaw.tolist())
        return [Fit(things[a], things[b], *rest) for a, b, *rest in zip(*columns, strict=True)]

    def _kinds(self, cell: Cell) -> tuple[Array, list[Thing | None]]:
        """Number of the kind of each candidate of a place, and its thing; the last is emptiness."""
        names = [
            (shape, color, size)
            for shape, size in product(self.board.shapes, self.board.sizes)
            for _ in range(2)  # sharp, softened
            for color in self.board.colors
        ]
        number = {name: k for k, name in enumerate(dict.fromkeys(names))}
        things: list[Thing | None] = [Thing(cell, *name) for name in names]
        return np.array([*(number[name] for name in names), len(number)]), [*things, None]


def _shrunk(board: Board) -> int:
    """By how much images are made smaller, their places staying whole pixels wide."""
    options = range(max(1, board.pixels // (board.grid * ENOUGH)), 0, -1)
    return next((n for n in options if board.pixels % (board.grid * n) == 0), 1)


def _scaled(rgb: Array) -> Array:
    """0 to 255 -> [-1, 1]."""
    return (np.asarray(rgb) / 127.5 - 1).astype(np.float32)


def _kernel(n: int) -> Array:
    """The matrix [n n] that blurs n pixels by SOFT; beyond them there is nothing."""
    apart = np.arange(n)[:, None] - np.arange(n)
    weights = np.exp(-np.square(apart / SOFT) / 2)
    reach = np.arange(-4 * n, 4 * n + 1)
    return (weights / np.exp(-np.square(reach / SOFT) / 2).sum()).astype(np.float32)


def _flaws(residual: Array) -> Array:
    """The largest mean error of a 3 x 3 patch of [B 3 h w], [B]."""
    rows = residual[:, :, :-2] + residual[:, :, 1:-1] + residual[:, :, 2:]
    patches = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    return abs(patches).max((1, 2, 3)) / 9
