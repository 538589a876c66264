"""Semantic codes: K codes that say what an encoder's features say, in an order of their own, and a
flow that draws what they say (SEED, arXiv:2307.08041).

    c_i = quantizer(reader(f, q_1 .. q_i)), of vector e_i       i = 1 .. K
    f' = teller(e_1 .. e_K), each at length C^.5

    features    mean of 1 - cos(f'_p, f_p) over the places p
    codebook    what the quantizer asks for (unify/tokenizers/vq.py)
    flow        mean of (v(y_t, t, sg[f']) - (y_1 - y_0))^2, where y_1 is the image in `latents`

f are the features of a frozen encoder. Learned queries q come after them, and each reads them and
the queries before it: a code depends on no later one, the order in which a model predicts them, and
stands for no place. What codes say is decided by features alone: the flow teaches only what draws.
It is given f', as SEED's decoder is given the one vector that its codes are turned back into.

Other than SEED: no contrast with captions; all features instead of that vector; a small flow over
`latents`, trained along, instead of unCLIP; f and queries are read by one trunk, so that features
read each other again (docs/definitions.md).
B rows, K codes of E numbers, N features of C numbers on a grid h x w, D width of reader and teller.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unify.batch import Batch
from unify.flow import TimeLaw, integrate, interpolate
from unify.nn.conv import row_mean
from unify.nn.denoiser import Denoiser
from unify.nn.flops import causal, counted
from unify.nn.frozen import freeze
from unify.nn.layers import Embedding, Linear, sincos_2d
from unify.nn.masks import Mask
from unify.nn.trunk import Tokens, Trunk
from unify.nn.vision import VisionEncoder
from unify.noise import Noise
from unify.paradigm import Term, Terms, Trainable
from unify.support.ranges import Count
from unify.tokenizer import ContinuousTokenizer, DiscreteTokenizer, inference
from unify.tokenizers.vq import Quantizer

Grid = tuple[int, int]


class Reader(nn.Module):
    """Features [B N C] of a grid -> what K codes are made of, [B K E]."""

    def __init__(self, inputs: int, outputs: int, trunk: Trunk, codes: int):
        super().__init__()
        self.trunk, self.queries = trunk, Embedding(codes, trunk.dim)
        self.inward = Linear(inputs, trunk.dim)
        self.outward = Linear(trunk.dim, outputs, bias=True)

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        cells, queries = self.inward(features), self.queries.weight
        line = queries.expand(len(features), -1, -1)
        hidden = grid_then_line(self.trunk, cells, line, grid, ordered=True)
        return self.outward(hidden[:, -len(queries) :])

    def training_flops(self, grid: Grid) -> float:
        """FLOPs of forward and backward for one row; the features do not learn."""
        n, k = grid[0] * grid[1], self.queries.num_embeddings
        maps = 2 * n * self.inward.weight.numel() + 3 * k * self.outward.weight.numel()
        return 3.0 * self.trunk.flops(n + k, causal(n + k, blocks=[n])) + 2.0 * maps


class Teller(nn.Module):
    """Vectors [B K E] of codes -> features [B N C] of a grid: every place reads all codes."""

    def __init__(self, inputs: int, outputs: int, trunk: Trunk, codes: int):
        super().__init__()
        self.trunk, self.order = trunk, Embedding(codes, trunk.dim)
        self.place = Embedding(1, trunk.dim)  # at every cell, before it is told what is there
        self.inward = Linear(inputs, trunk.dim)
        self.outward = Linear(trunk.dim, outputs, bias=True)

    def forward(self, vectors: Tensor, grid: Grid) -> Tensor:
        line, n = self.inward(vectors) + self.order.weight, grid[0] * grid[1]
        cells = self.place.weight.expand(len(line), n, -1)
        hidden = grid_then_line(self.trunk, cells, line, grid, ordered=False)
        return self.outward(hidden[:, :n])

    def training_flops(self, grid: Grid) -> float:
        """FLOPs of forward and backward for one row; the vectors learn, too."""
        n, k = grid[0] * grid[1], self.order.num_embeddings
        maps = k * self.inward.weight.numel() + n * self.outward.weight.numel()
        return 3.0 * (self.trunk.flops(n + k, (n + k) ** 2) + 2 * maps)


def grid_then_line(trunk: Trunk, cells: Tensor, line: Tensor, grid: Grid, ordered: bool) -> Tensor:
    """N cells [B N D] and, at places after theirs, K tokens [B K D] -> hidden states [B N+K D].

    `ordered`: none reads what comes later in the line, and so no cell any of it; else all read all.
    """
    (h, w), (rows, count, _) = grid, line.shape
    x = torch.cat([cells + sincos_2d(h, w, trunk.dim).to(cells.device), line], 1)
    place = torch.arange(h * w, device=x.device)
    cell = torch.stack([place // w, place % w], 1)  # [N 2]
    after = max(grid) + torch.arange(count, device=x.device)[:, None].expand(-1, 2)
    positions = torch.cat([cell, after]).expand(rows, -1, -1)  # [B N+K 2]
    first, last = torch.ones_like(x[..., 0], dtype=torch.bool).split([h * w, count], 1)
    mask = Mask.cat([Mask.full(first), Mask.causal(last) if ordered else Mask.full(last)])
    hidden = trunk(Tokens(x, mask, positions))
    assert isinstance(hidden, Tensor)
    return hidden


class SemanticCodes(DiscreteTokenizer, Trainable):
    """K codes of a square image, a grid of one row. The same codes are always the same image.

    Args:
        encoder, latents: what is said, and what is drawn and decoded; frozen, their weights come
            from runs of their own.
        quantizer: of the codes, which have its vectors.
        denoiser, time: of the flow; its N conditions have the denoiser's width.
        codes: how many, K.
        size: side in pixels of all images.
        dim, depth, heads: of reader and teller.
        steps: Euler steps of a drawing.
    """

    tasks = frozenset({"image"})
    terms = frozenset({"features", "codebook", "flow"})

    def __init__(
        self,
        encoder: VisionEncoder,
        quantizer: Quantizer,
        latents: ContinuousTokenizer,
        denoiser: Denoiser,
        time: TimeLaw,
        codes: Count = 16,
        size: Count = 32,
        dim: Count = 128,
        depth: Count = 2,
        heads: Count = 4,
        steps: Count = 10,
    ):
        super().__init__()
        _check(latents, denoiser)
        self.encoder, self.latents = freeze(encoder), freeze(latents)
        self.quantizer, self.denoiser, self.time = quantizer, denoiser, time
        self.side = self.stride = size  # every code is of the whole image
        self.count, self.steps = codes, steps
        self.places, self.cells = encoder.grid(size, size), latents.grid(size, size)
        self.vocab_size, self.dim = quantizer.vocab_size, quantizer.dim
        trunks = (Trunk(dim, depth, heads, sections=[1, 1]) for _ in range(2))
        self.reader = Reader(encoder.dim, quantizer.dim, next(trunks), codes)
        self.teller = Teller(quantizer.dim, encoder.dim, next(trunks), codes)
        self.condition = Linear(encoder.dim, denoiser.condition_dim, bias=True)

    def requires_grad_(self, requires_grad: bool = True) -> "SemanticCodes":
        super().requires_grad_(requires_grad)
        for part in (self.encoder, self.latents):  # whatever is asked of the whole
            freeze(part)
        return self

    def grid(self, height: int, width: int) -> Grid:
        super().grid(height, width)  # a checked image size
        return 1, self.count

    def settings(self) -> dict[str, Any]:
        inside = {"latents": self.latents.content_hash()}  # its own settings, too
        drawn = {"side": self.side, "steps": self.steps}
        return {**drawn, **inside, **self.quantizer.settings()}

    def share_updates(self, add_up: Callable[[Tensor], object]) -> None:
        self.quantizer.share_updates(add_up)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch.segments[0].images
        features = self.features(images)  # [B N C]
        quantised, _, codebook = self.quantizer(self.read(features))  # [B E 1 K]
        told = self.tell(quantised)  # [B N C]
        missed = 1 - F.cosine_similarity(told, features, dim=-1)  # [B N]
        flow = self._flow_term(images, told.detach(), batch.target_place, noise)
        return {"features": Term(missed.mean(1)), "codebook": Term(codebook), "flow": flow}

    def _flow_term(self, images: Tensor, told: Tensor, place: int, noise: Noise) -> Term:
        y1 = self.latents.encode(images)  # [B C' h' w']
        t = self.time.quantile(noise.t(place))  # [B]
        yt, velocity = interpolate(noise.x0(place, y1.shape[1:]), y1, t)
        v = self.denoiser.velocity(yt, t, self.conditions(told)).float()
        return Term(row_mean((v - velocity).square()), t=t)

    def features(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> f [B N C] in raster order, each of length C^.5."""
        self.grid(*images.shape[-2:])
        with torch.no_grad():
            return _of_full_length(self.encoder(images))

    def read(self, features: Tensor) -> Tensor:
        """f [B N C] -> what is quantised, [B E 1 K] for a quantizer of E numbers."""
        return self.reader(features, self.places).transpose(1, 2)[:, :, None]

    def tell(self, vectors: Tensor) -> Tensor:
        """Vectors [B E 1 K] of codes -> f' [B N C], of length C^.5."""
        return _of_full_length(self.teller(vectors.squeeze(2).transpose(1, 2), self.places))

    def conditions(self, told: Tensor) -> Tensor:
        """f' [B N C] -> conditions of the flow, which has no other way to know their places."""
        conditions = self.condition(told)  # [B N width]
        return conditions + sincos_2d(*self.places, conditions.shape[-1]).to(told.device)

    def flops(self, batch: Batch) -> float:
        """Forward and backward of what learns, forward alone of what is frozen or compared."""
        image = batch.segments[0].images[:1]
        n = self.places[0] * self.places[1]
        frozen = self.encoder.flops(self.side, self.side)
        frozen += counted(lambda: self.latents.encode(image))
        frozen += counted(lambda: self.quantizer(image.new_zeros(1, self.dim, 1, self.count)))
        learned = self.reader.training_flops(self.places) + self.teller.training_flops(self.places)
        # no gradient goes on from the conditions to what was told
        learned += 4.0 * n * self.condition.weight.numel()
        return len(batch) * (frozen + learned + 3 * self.denoiser.flops(self.cells, n))

    @inference
    def encode(self, images: Tensor) -> Tensor:
        _, codes, _ = self.quantizer(self.read(self.features(images)))  # [B 1 K]
        return codes.flatten(1)

    @inference
    def decode(self, codes: Tensor, grid: Grid) -> Tensor:
        """What the codes say, drawn from noise of their own: keyed by the codes of a row.

        One noise for all would leave its mark in every image, and scores of many images would be
        those of that one draw.
        """
        conditions = self.conditions(self.tell(self.quantizer.lookup(codes.unflatten(1, grid))))
        noise = Noise([("semantic codes", *row) for row in codes.tolist()], self.device)

        def velocity(y: Tensor, t: Tensor) -> Tensor:
            return self.denoiser.velocity(y, t, conditions).float()

        y0 = noise.normal("y0", (self.latents.channels, *self.cells))
        return self.latents.decode(integrate(velocity, y0, self.steps))

    @inference
    def vectors(self, codes: Tensor) -> Tensor:
        return self.quantizer.lookup(codes[:, None]).squeeze(2).transpose(1, 2)  # from [B E 1 K]


def _of_full_length(features: Tensor) -> Tensor:
    """[... C], fp32, each vector of length C^.5: numbers of unit size."""
    return F.normalize(features.float(), dim=-1) * features.shape[-1] ** 0.5


def _check(latents: ContinuousTokenizer, denoiser: Denoiser) -> None:
    """ValueError for a denoiser that does not draw these latents."""
    if denoiser.channels != latents.channels:
        raise ValueError(
            f"denoiser.channels is {denoiser.channels}, but latents have {latents.channels}; set "
            f"it to {latents.channels}"
        )
    if denoiser.has_times:
        raise ValueError(
            f"denoiser: a {type(denoiser).__name__} learns at times of its own, and here a law "
            "says them; use a SanaDenoiser"
        )
