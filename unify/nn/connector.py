"""Connectors: hidden states of a language model -> conditions of a diffusion backbone.

    c = norm(project(encoder(inward(h))))        bidirectional: every token reads every other

The encoder's width says what is projected. As wide as the language model it is MetaQuery's Enc-Proj
(arXiv:2504.06256): a projection follows. As wide as the output it is Proj-Enc: a projection comes
before. Of any other width it has one on either side, and a connector costs what it is given instead
of what the language model's width makes of it.

    RotaryEncoder    MetaQuery's block: RMSNorm, rotary positions, then norms of q and k, SwiGLU
    PlainEncoder     OpenUni's block (arXiv:2505.23661): LayerNorm, GELU, biases, no positions

B rows, N tokens, D width of the language model, C width of the output, W width of the encoder.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unify.nn.denoiser import Denoiser
from unify.nn.language import LanguageModel
from unify.nn.layers import Linear, RMSNorm
from unify.nn.masks import Mask
from unify.nn.trunk import Attention, Block, Tables, Tokens, Trunk
from unify.support.ranges import Count, CountOrZero, Positive
from unify.tokenizer import ContinuousTokenizer


class Encoder(nn.Module, ABC):
    """A stack of bidirectional blocks, no norm after the last."""

    dim: int
    depth: int

    @abstractmethod
    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x [B N W], of which `valid` [B N] are read -> [B N W]; invalid places hold anything."""


class HeadNorm(RMSNorm):
    """x / rms(x) * weight over the numbers of a head, with weights of its own for every head."""

    def __init__(self, heads: int, head_dim: int):
        super().__init__(head_dim)
        self.weight = nn.Parameter(torch.ones(heads, 1, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self.eps) * self.weight  # [B H N d]


class NormedAfterRotation(Attention):
    """Attention that norms queries and keys after their rotation, as MetaQuery's release does.

    Rotation keeps a head's length, so the order is Qwen3's too while all weights are equal. A
    weight for every number acts on turned pairs here: no weights before the rotation do the same.
    """

    def __init__(self, trunk: Trunk):
        super().__init__(trunk)
        # other names than Attention's: exports of norms that stood before the rotation do not load
        self.q_rotated_norm = HeadNorm(trunk.heads, trunk.head_dim)
        self.k_rotated_norm = HeadNorm(trunk.kv_heads, trunk.head_dim)

    def rotated(self, qk: Tensor, tables: Tables) -> Sequence[Tensor]:
        q, k = super().rotated(qk, tables)
        return self.q_rotated_norm(q), self.k_rotated_norm(k)


class RotaryEncoder(Encoder):
    """A trunk that reads in both directions; `hidden` defaults to 4 W.

    `positions="none"` puts every token at the same place: a set instead of a sequence.
    """

    definition: ClassVar[int] = 2  # 1: q and k were normed before their rotation

    def __init__(
        self,
        dim: Count,
        depth: CountOrZero = 24,
        heads: Count = 14,
        hidden: Count | None = None,
        positions: Literal["rope", "none"] = "rope",
        checkpoint: bool = False,
    ):
        super().__init__()
        self.dim, self.depth, self.positions = dim, depth, positions
        self.trunk = Trunk(
            dim,
            depth,
            heads,
            hidden=hidden or 4 * dim,
            qkv_bias=True,
            checkpoint=checkpoint,
        )
        self.trunk.norm = nn.Identity()  # type: ignore[assignment]  # a projection follows
        for block in self.trunk.blocks:
            assert isinstance(block, Block)
            block.attention = NormedAfterRotation(self.trunk)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        places = (valid.cumsum(1) - 1).clamp(min=0)  # [B N]
        if self.positions == "none":
            places = torch.zeros_like(places)
        hidden = self.trunk(Tokens(x, Mask.full(valid), places))
        assert isinstance(hidden, Tensor)
        return hidden


class PlainEncoder(Encoder):
    """torch's own pre-norm encoder layers: without positions, so a set of tokens."""

    def __init__(
        self,
        dim: Count,
        depth: CountOrZero = 6,
        heads: Count = 14,
        hidden: Count | None = None,
    ):
        super().__init__()
        self.dim, self.depth = dim, depth
        # a function, not a module: for nn.GELU torch's inference kernel would take the exact GELU
        gelu = functools.partial(F.gelu, approximate="tanh")
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                hidden or 4 * dim,
                dropout=0.0,
                activation=gelu,
                layer_norm_eps=1e-6,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~valid)
        return x


class OutputNorm(RMSNorm):
    """An RMSNorm whose weights start at `scale`: every token then has that root mean square."""

    def __init__(self, dim: int, scale: float):
        self.scale = scale
        super().__init__(dim, eps=1e-5)

    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, self.scale)


class Connector(nn.Module):
    """Hidden states [B N D] -> conditions [B N C].

    `projection`: Linear, GELU, Linear as in MetaQuery, or OpenUni's one Linear. `output_rms`: root
    mean square that every token starts with (MetaQuery: sqrt(5.5) for Sana, 1 for SD1.5), None for
    no norm (OpenUni).
    """

    def __init__(
        self,
        dim: Count,
        out: Count,
        encoder: Encoder,
        projection: Literal["mlp", "linear"] = "mlp",
        output_rms: Positive | None = 1.0,
    ):
        super().__init__()
        self.dim, self.out, self.encoder = dim, out, encoder
        width, make = encoder.dim, _mlp if projection == "mlp" else _linear
        self.inward = nn.Identity() if width == dim else make(dim, width)
        self.outward = nn.Identity() if width == out != dim else make(width, out)
        self.norm = nn.Identity() if output_rms is None else OutputNorm(out, output_rms)

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Hidden states [B N D], of which `valid` [B N] are read (None: all)."""
        if valid is None:
            valid = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return self.norm(self.outward(self.encoder(self.inward(hidden), valid)))

    def flops(self, tokens: int) -> float:
        """FLOPs of a forward pass over one row: products with weights, scores and sums."""
        weights = sum(p.numel() for p in self.parameters() if p.ndim == 2)
        return 2.0 * weights * tokens + 4.0 * tokens**2 * self.encoder.dim * self.encoder.depth


def _linear(inputs: int, outputs: int) -> nn.Module:
    return Linear(inputs, outputs, bias=True)


def _mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        _linear(inputs, outputs), nn.GELU(approximate="tanh"), _linear(outputs, outputs)
    )


def check_chain(
    llm: LanguageModel, connector: Connector, denoiser: Denoiser, image: ContinuousTokenizer
) -> None:
    """Raise ValueError for parts that do not fit each other."""
    for name, given, needed in (
        ("connector.dim", connector.dim, llm.dim),
        ("denoiser.condition_dim", denoiser.condition_dim, connector.out),
        ("denoiser.channels", denoiser.channels, image.channels),
    ):
        if given != needed:
            raise ValueError(f"{name} is {given}, but what it takes has {needed}: set it to that")
    if denoiser.source_channels % image.channels:
        raise ValueError(
            f"denoiser.source_channels is {denoiser.source_channels}; use a multiple of the image "
            f"tokenizer's {image.channels}"
        )
