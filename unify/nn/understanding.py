"""Images that a text is about, read apart from how images are drawn (Janus arXiv:2410.13848,
JanusFlow arXiv:2411.07975): an encoder and an adaptor of their own, and delimiters of their own.

    row = boi features eoi | bos question eos | bos answer eos        features = W2 gelu(W1 v(x))

So a loss on text never reaches what draws, nor a loss on images what reads; both reach the trunk
and the rows of the words. Other than Janus: features have positions by row and column where the
trunk has the axes, and delimiters are rows of a table of this part.
B rows, P features, D width of the trunk.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unify.batch import Segment
from unify.nn.layers import Embedding, Linear
from unify.nn.vision import VisionEncoder


class SeenImages(nn.Module):
    """A vision encoder, a GELU MLP of two layers to the trunk's width `dim`, boi and eoi."""

    def __init__(self, vision: VisionEncoder, dim: int):
        super().__init__()
        self.vision = vision
        self.inward, self.outward = Linear(vision.dim, dim), Linear(dim, dim)
        self.ends = Embedding(2, dim)

    def forward(self, images: Tensor) -> Tensor:
        """[B 3 H W] in [-1, 1] -> [B P D]."""
        return self.outward(F.gelu(self.inward(self.vision(images))))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """(h, w) of the features, P = h * w."""
        return self.vision.grid(images.shape[-2], images.shape[-1])

    def tokens(self, column: Segment) -> int:
        """Tokens of an image column, delimiters included."""
        h, w = self.grid(column.images)
        return h * w + 2

    def training_flops(self, column: Segment) -> float:
        """FLOPs of forward and backward over one image of a column."""
        height, width = column.images.shape[-2:]
        learns = any(parameter.requires_grad for parameter in self.vision.parameters())
        encoder = self.vision.training_flops if learns else self.vision.flops
        # two products a weight, and a third for the gradient of what comes before, where it learns
        products = self.inward.weight.numel() * (2 + learns) + self.outward.weight.numel() * 3
        return encoder(height, width) + 2.0 * products * (self.tokens(column) - 2)


def seen_apart(understand: VisionEncoder | None, dim: int) -> SeenImages | None:
    """The part of a paradigm whose trunk has width `dim`; None: images are read as drawn."""
    return None if understand is None else SeenImages(understand, dim)
