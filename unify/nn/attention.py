"""Attention over our masks, rotary positions and the key-value cache.

    attend(q, k, v, mask) = softmax(q k^T / sqrt(d) + mask) v     k and v shared by groups of heads
    rope: a pair (x_i, x_{i + d/2}) is turned by position * theta^(-2i/d)       (arXiv:2104.09864)

`attend` alone chooses the backend, so that no model knows of kernels. SDPA with a dense mask is the
reference and runs everywhere; FlexAttention skips the blocks that nobody reads, on GPUs (it has no
backward on CPUs); xformers takes the dense mask as a bias.

B rows, S keys, Sq queries, H heads, G key-value heads, d numbers of a head, A position axes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unify.nn.masks import Mask

Backend = Literal["auto", "sdpa", "flex", "xformers"]
Kernel = Callable[[Tensor, Tensor, Tensor, Mask], Tensor]  # as `attend`

FEW_QUERIES = 2  # of a decoding step: a token, and the end of a row before it
FLEX_FROM = 256  # keys: below, and for the few queries of a decoding step, a dense mask is cheap

_backend: Backend | Kernel = "auto"


def set_backend(backend: Backend | Kernel) -> Backend | Kernel:
    """Choose a backend by name, or a kernel, for the whole process; returns the one before.

    ValueError for a name that is not a backend's.
    """
    global _backend
    if isinstance(backend, str) and backend not in get_args(Backend):
        raise ValueError(f"attention: {backend!r} is not one of {', '.join(get_args(Backend))}")
    before, _backend = _backend, backend
    return before


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Attention of queries q [B H Sq d] to k and v [B G S d] -> [B H Sq d] in v's precision.

    q and k may be in fp32 beside a v in half precision: rotations leave them so.
    """
    if callable(_backend):
        return _backend(q, k, v, mask)
    if _backend == "xformers":
        return _xformers(q.to(v.dtype), k.to(v.dtype), v, mask)
    if _backend == "flex" or (_backend == "auto" and _flex_pays(q, mask)):
        return _flex(q.to(v.dtype), k.to(v.dtype), v, mask)
    return _sdpa(q, k, v, mask)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    # On CPUs the backward in half precision takes three times as long as in full precision.
    # Autocast is off, since it would cast the inputs back.
    on_cpu = q.device.type == "cpu"
    dtype = torch.promote_types(v.dtype, torch.float32) if on_cpu else v.dtype
    full, few = (q.to(dtype), k.to(dtype), v.to(dtype)), q.shape[2] <= FEW_QUERIES
    with torch.autocast(q.device.type, enabled=False):
        if on_cpu and few and not torch.is_grad_enabled():
            return _plain(*full, mask).to(v.dtype)
        # the kernel of CPUs makes a bias of a dense mask, once a layer
        allowed = mask.bias(dtype) if on_cpu else mask.dense()
        grouped = k.shape[1] < q.shape[1]
        return F.scaled_dot_product_attention(*full, allowed, enable_gqa=grouped).to(v.dtype)


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """The sum as it is written, for the decoding steps of a CPU."""
    (rows, heads, asked, width), groups = q.shape, k.shape[1]
    # the heads of a group ask the same keys: one product for them, [B*G H/G*Sq S]
    q3 = q.reshape(rows * groups, heads // groups * asked, width)
    bias = mask.bias_of_groups(q.dtype, groups, heads // groups)
    # scale, product and bias in one call: in a step this small, calls are what takes the time
    scores = torch.baddbmm(bias, q3, k.flatten(0, 1).transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view_as(q)


def _flex_pays(q: Tensor, mask: Mask) -> bool:
    # with a cache (start > 0) the mask changes at every step, and so would the block mask
    return q.is_cuda and mask.start == 0 and mask.keys >= FLEX_FROM


@functools.cache
def _compiled_flex():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _flex(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    if not q.is_cuda and torch.is_grad_enabled() and (q.requires_grad or v.requires_grad):
        raise ValueError(
            "attention: FlexAttention has no backward on CPUs; set machine.attention to sdpa"
        )
    function = _compiled_flex() if q.is_cuda else flex_attention
    return function(q, k, v, block_mask=mask.block(), enable_gqa=k.shape[1] < q.shape[1])


def _xformers(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    try:
        from xformers.ops import memory_efficient_attention
    except ImportError as error:
        raise ValueError(
            "attention: xformers is not installed; `pip install unify-multimodal[gpu]`, "
            "or set machine.attention to sdpa"
        ) from error
    heads = q.shape[1]
    # its kernels know no grouped heads
    k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))  # [B H S d]
    bias = mask.bias(q.dtype).expand(-1, heads, -1, -1)
    try:
        out = memory_efficient_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_bias=bias)
    except NotImplementedError as error:
        raise ValueError(
            f"attention: xformers has no kernel for {q.dtype} on {q.device.type} here; "
            "set machine.attention to sdpa"
        ) from error
    return out.transpose(1, 2)


def axis_of_pairs(pairs: int, sections: Sequence[int]) -> list[int]:
    """The position axis that turns each of a head's `pairs`, in shares as `sections`.

    Every axis gets frequencies from the whole range, fast and slow alternating, so that text, whose
    positions agree on all axes, is turned as by 1-D rotary positions.
    """
    if pairs % sum(sections):
        raise ValueError(f"{pairs} rotary pairs of a head do not divide into shares of {sections}")
    counts = [pairs * share // sum(sections) for share in sections]
    places = [((i + 0.5) / n, axis) for axis, n in enumerate(counts) for i in range(n)]
    return [axis for _, axis in sorted(places)]


def rope_tables(
    positions: Tensor, head_dim: int, theta: float, sections: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines 2 x [B 1 S d] of positions [B S A], once for all layers of a trunk.

    In fp32: in bfloat16 the positions above 256 would not all be different numbers.
    """
    pairs = head_dim // 2
    steps = torch.arange(pairs, dtype=torch.float32, device=positions.device)
    axes = torch.tensor(axis_of_pairs(pairs, sections), device=positions.device)
    angles = positions.float()[:, None, :, axes] * theta ** (-steps / pairs)  # [B 1 S d/2]
    cos, sin = angles.cos(), angles.sin()
    # both halves of d at once: x cos + roll(x, d/2) (-sin, sin) turns every pair (x_i, x_{i+d/2})
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x [B H S d] by the two tables, in their precision; a pair is (x_i, x_{i + d/2})."""
    if not x.is_cuda and torch.is_grad_enabled():
        return _FewPassRotation.apply(x, cos, sin)
    # compilers fuse it, and in a decoding step fewer calls count for more than passes over memory
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


class _FewPassRotation(torch.autograd.Function):
    """Half the passes over memory of the plain form, which cost 5% of a step on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, -sin), None, None  # a rotation's transpose turns back


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half])
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def rope(x: Tensor, positions: Tensor, theta: float, sections: Sequence[int]) -> Tensor:
    """Rotate x [B H S d] to positions [B S A]; `sections` are the shares of the A axes."""
    return rotate(x, *rope_tables(positions, x.shape[-1], theta, sections)).to(x.dtype)


class Cache:
    """Keys and values of the tokens read so far, [B G length d] for each layer.

    Text decoding appends. A frozen view (`view()`) lets the same prefix be read any number of times
    and keeps nothing, e.g. by the steps that denoise an image. For inference: appending writes into
    buffers in place, `capacity` tokens long, which grow when they are full.
    """

    def __init__(self, layers: int, capacity: int = 0):
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.lengths = [0] * layers
        self.capacity, self.frozen = capacity, False

    @property
    def length(self) -> int:
        """Number of tokens that every layer holds (within a pass, layers differ)."""
        return min(self.lengths)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k and v [B G Sq d] of new tokens -> those of all tokens [B G S d]."""
        past, end = self.lengths[layer], self.lengths[layer] + k.shape[2]
        if self.frozen:
            return self._read(self.keys, layer, k), self._read(self.values, layer, v)
        for buffers, new in ((self.keys, k), (self.values, v)):
            buffer = self._room(buffers[layer], new, past, end)
            buffer[:, :, past:end] = new
            buffers[layer] = buffer
        self.lengths[layer] = end
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]  # type: ignore[index]

    def _read(self, buffers: list[Tensor | None], layer: int, new: Tensor) -> Tensor:
        buffer = buffers[layer]
        return new if buffer is None else torch.cat([buffer[:, :, : self.lengths[layer]], new], 2)

    def _room(self, buffer: Tensor | None, new: Tensor, past: int, end: int) -> Tensor:
        if buffer is not None and buffer.shape[2] >= end:
            return buffer
        rows, groups, _, width = new.shape
        # twice as long: to decode n tokens copies O(n) numbers, and not O(n^2)
        wider = new.new_empty(rows, groups, max(self.capacity, end, 2 * past), width)
        if buffer is not None:
            wider[:, :, :past] = buffer[:, :, :past]
        return wider

    def view(self) -> Cache:
        """The same tokens, frozen: what is read over it is not kept."""
        return self._like(self.keys, self.values, frozen=True)

    def rows(self, index: Tensor) -> Cache:
        """A copy with the rows `index` [n] (long), in any order and any number of times."""
        keys = [None if x is None else x[index] for x in self.keys]
        values = [None if x is None else x[index] for x in self.values]
        return self._like(keys, values, self.frozen)

    def repeat(self, n: int) -> Cache:
        """A copy with every row n times in a row."""
        device = next((k.device for k in self.keys if k is not None), None)
        rows = next((len(k) for k in self.keys if k is not None), 0)
        return self.rows(torch.arange(rows, device=device).repeat_interleave(n))

    def _like(self, keys: list[Tensor | None], values: list[Tensor | None], frozen: bool) -> Cache:
        cache = Cache(len(keys), self.capacity)
        cache.keys, cache.values, cache.lengths = list(keys), list(values), list(self.lengths)
        cache.frozen = frozen
        return cache
