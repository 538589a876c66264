"""Small layers that trunks, towers and heads share.

B rows, S tokens, D width, C channels, h x w cells of latents, p cells along one side of a patch.

Linear maps start as normal with variance 1/in (a sum of independent terms keeps unit variance).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """`scale` multiplies the initial standard deviation in^-0.5; a bias starts at zero."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False, scale: float = 1.0):
        self.scale = scale
        super().__init__(inputs, outputs, bias)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.scale * self.in_features**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ZeroLinear(nn.Linear):
    """Starts as the zero function, so that the sum it is a part of is unchanged at first."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__(inputs, outputs, bias)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Embedding(nn.Embedding):
    """Starts with unit variance, as patches of unit-variance latents do: tokens of text and image
    enter the trunk equally large."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in at least fp32 (arXiv:1910.07467)."""

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the plain norm: all weights 1."""
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        # the mean of squares over a wide stream loses its small terms in half precision
        dtype = torch.promote_types(x.dtype, torch.float32)
        full, weight = x.to(dtype), self.weight.to(dtype)
        if x.is_cuda:  # one kernel there
            return F.rms_norm(full, weight.shape, weight, self.eps).to(x.dtype)
        if not torch.is_grad_enabled():  # a function with a gradient costs as much as its sums
            return _rms_norm(full, weight, self.eps)[0].to(x.dtype)
        return _FewPassRMSNorm.apply(full, weight, self.eps).to(x.dtype)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm [... D], and 1 / rms(x) [... 1]."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * inverse).mul_(weight), inverse


class _FewPassRMSNorm(torch.autograd.Function):
    """On CPUs `F.rms_norm` passes over memory about twice as often, a tenth of a training step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _rms_norm(x, weight, eps)
        ctx.save_for_backward(x, inverse, weight)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, inverse, weight = ctx.saved_tensors
        product = gradient * x
        with torch.autocast(x.device.type, enabled=False):
            # y = w x r with r = 1 / rms(x): dL/dw sums over tokens, dL/dx loses its part along x
            of_weight = inverse.flatten() @ product.flatten(0, -2)
            radial = (product @ weight)[..., None] * inverse.pow(3) / x.shape[-1]
        of_x = (gradient * weight).mul_(inverse)
        return of_x.addcmul_(x, radial, value=-1), of_weight, None


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (arXiv:2002.05202), gate and up as one product."""

    def __init__(self, dim: int, hidden: int, scale: float = 1.0):
        super().__init__()
        self.gate_up = Linear(dim, 2 * hidden)
        self.down = Linear(hidden, dim, scale=scale)

    def forward(self, x: Tensor) -> Tensor:
        both = self.gate_up(x)
        if not x.is_cuda and torch.is_grad_enabled():
            return self.down(_FewPassGate.apply(both))
        gate, up = both.chunk(2, -1)
        return self.down(F.silu(gate) * up)


class _FewPassGate(torch.autograd.Function):
    """silu(gate) * up of [... 2H], its gradient written in place: fewer passes on a CPU."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, -1)
        opened = F.silu(gate)
        ctx.save_for_backward(both, opened)
        return opened * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        both, opened = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        out = torch.empty_like(both)
        of_gate, of_up = out.chunk(2, -1)
        torch.mul(gradient, opened, out=of_up)
        torch.mul(gradient, up, out=of_gate)
        torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate)
        return out


class TimeEmbedding(nn.Module):
    """Flow time t in [0, 1], [...] -> [... D]: sines and cosines of 1000 t, then an MLP."""

    def __init__(self, dim: int, frequencies: int = 256):
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(
            Linear(frequencies, dim, bias=True), nn.SiLU(), Linear(dim, dim, bias=True)
        )

    def forward(self, t: Tensor) -> Tensor:
        # 1000 t, the range of a DDPM's timesteps, for which these wavelengths were chosen
        angles = 1000.0 * t.float()[..., None] * self._wave_numbers(t.device)  # [... F/2]
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))

    def _wave_numbers(self, device: torch.device) -> Tensor:
        half = self.frequencies // 2
        return torch.exp(-math.log(10000.0) * torch.arange(half, device=device) / half)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift; the identity at zero, bit for bit."""
    return x * (1 + scale) + shift


def sincos_2d(h: int, w: int, dim: int) -> Tensor:
    """Fixed position embedding [h*w dim] in raster order: one half is the row, one the column.

    Wavelengths go from 4 to 128 tokens. With those of a text (up to 60,000, arXiv:1706.03762) the
    places of a small grid are nearly one place: of a 4 x 4 grid, 7% of the variance instead of 27%.
    """
    if dim % 4:
        raise ValueError(f"a 2-D sine-cosine embedding needs a multiple of 4 numbers, not {dim}")
    waves = torch.logspace(math.log10(math.pi / 2), math.log10(math.pi / 64), dim // 4)
    row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    angles = [axis.reshape(-1, 1) * waves for axis in (row, column)]  # [h*w dim/4] each
    return torch.cat([wave for a in angles for wave in (a.sin(), a.cos())], -1)


def patchify(latents: Tensor, p: int) -> Tensor:
    """[B C h w] -> [B (h/p * w/p) (C p p)], patches in raster order."""
    return F.pixel_unshuffle(latents, p).flatten(2).transpose(1, 2)


def unpatchify(tokens: Tensor, grid: tuple[int, int], p: int) -> Tensor:
    """[B (h/p * w/p) (C p p)] on a grid of (h, w) cells -> [B C h w]."""
    h, w = grid
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (h // p, w // p)), p)
