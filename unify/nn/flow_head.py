"""A flow of one token, given a vector: MAR's diffusion head (arXiv:2406.11838) with a velocity.

    y = time(t) + W c
    h <- h + (1 + g) mlp((1 + s) norm(h) + b)        (b, s, g) = W' silu(y), zero at first

Tokens do not see each other in here: whatever they know of the others is in c.

C channels and p x p cells of a token, D width of the trunk, W width of the head.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unify.nn.layers import Linear, RMSNorm, TimeEmbedding, ZeroLinear, modulate
from unify.nn.patches import token_grid
from unify.nn.trunk import Backbone
from unify.support.ranges import Count, CountOrZero
from unify.tokenizer import ContinuousTokenizer


class FlowHead(nn.Module):
    """Velocity of noised tokens of C p p numbers, each given its own vector of D numbers.

    `dim` is D, `width` W; `depth` blocks.
    """

    def __init__(
        self,
        channels: Count,
        dim: Count,
        patch: Count = 1,
        width: Count = 128,
        depth: CountOrZero = 3,
    ):
        super().__init__()
        self.channels, self.dim, self.patch = channels, dim, patch
        self.numbers = channels * patch**2
        self.inward = Linear(self.numbers, width)
        self.given = Linear(dim, width, bias=True)
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(_HeadBlock(width) for _ in range(depth))
        self.norm = RMSNorm(width)
        self.adaln = ZeroLinear(width, 2 * width)
        self.outward = ZeroLinear(width, self.numbers)  # velocity 0 is the best first guess

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """x [... C*p*p] at times t [...], given c [... D] -> [... C*p*p].

        Leading axes broadcast: one c may be given to several x.
        """
        y = F.silu(self.time(t) + self.given(c))  # [... W]
        h = self.inward(x)
        for block in self.blocks:
            h = block(h, y)
        shift, scale = self.adaln(y).chunk(2, -1)
        return self.outward(modulate(self.norm(h), shift, scale))

    def grid(self, h: int, w: int) -> tuple[int, int]:
        """Tokens along height and width of a latent."""
        return token_grid(h, w, self.patch, "flow_head.patch")

    def training_flops(self, tokens: int, times: int) -> float:
        """FLOPs of forward and backward over tokens, each at so many times."""
        given = self.given.weight.numel()
        each = sum(p.numel() for p in self.parameters() if p.ndim == 2) - given
        # forward, and backward twice as much, but for what noised tokens and times go through first
        first = (self.numbers + self.time.frequencies) * self.inward.out_features
        return 2.0 * tokens * (3 * given + times * (3 * each - first))


class _HeadBlock(nn.Module):
    """One residual MLP, moved, scaled and gated by y; the plain one at first."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = RMSNorm(width)
        self.adaln = ZeroLinear(width, 3 * width)
        self.mlp = nn.Sequential(
            Linear(width, width, bias=True), nn.SiLU(), Linear(width, width, bias=True)
        )

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        shift, scale, gate = self.adaln(y).chunk(3, -1)
        return h + (1 + gate) * self.mlp(modulate(self.norm(h), shift, scale))


def check_head(
    trunk: Backbone, image: ContinuousTokenizer, head: FlowHead, encoder: Backbone | None
) -> None:
    """ValueError for parts of `MAR` that do not fit each other."""
    if head.channels != image.channels:
        raise ValueError(
            f"flow_head.channels is {head.channels}, but the image tokenizer has "
            f"{image.channels}; set it to {image.channels}"
        )
    if head.dim != trunk.dim:
        raise ValueError(f"flow_head.dim is {head.dim}, but the trunk has {trunk.dim}")
    if encoder is not None and encoder.dim != trunk.dim:
        raise ValueError(f"encoder.dim is {encoder.dim}, but the trunk has {trunk.dim}")
    for name, part in (("trunk", trunk), ("encoder", encoder)):
        if part is not None and part.time_conditioned:
            raise ValueError(
                f"{name}: no token here has a flow time before the head, so a "
                f"{type(part).__name__} would never learn what it does with one; use Trunk"
            )
