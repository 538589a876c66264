"""Alignment of a network's hidden states with the features of a frozen encoder (REPA,
arXiv:2410.06940): a network that draws learns early what a picture shows.

    L = mean over tokens of 1 - cos(f(x_1), h(hidden_l))        f frozen, h an MLP of three layers

hidden_l are the tokens of a noised image after l blocks, f(x_1) the features of the clean one,
brought to the grid of the tokens by averages. Blocks after the l-th learn nothing by it.
B rows, h x w tokens of a noised image, D width, F features.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unify.batch import Segment
from unify.nn.denoiser import Denoiser
from unify.nn.frozen import freeze
from unify.nn.layers import Linear
from unify.nn.losses import over_images
from unify.nn.trunk import Backbone
from unify.nn.vision import VisionEncoder
from unify.paradigm import Term
from unify.support.ranges import Count

TERM = "alignment"  # its name among the terms of a paradigm
OPTIONAL = {TERM: "align"}  # `Trainable.optional` of a paradigm that takes it


@dataclass(frozen=True)
class Drawn:
    """The tokens of noised images [B h*w D], their grid, and the clean images [B 3 H W]."""

    hidden: Tensor
    grid: tuple[int, int]
    images: Tensor
    present: Tensor  # [B] bool


class Alignment(nn.Module):
    """What hidden states are aligned with, and where.

    Args:
        encoder: f; it stays as it is.
        dim: D, of the network.
        layer: l, counted from 1.
        width: of h between its layers; default: D.
    """

    def __init__(
        self, encoder: VisionEncoder, dim: Count, layer: Count, width: Count | None = None
    ):
        super().__init__()
        self.encoder, self.dim, self.layer = freeze(encoder), dim, layer
        width = width or dim
        self.project = nn.Sequential(
            *(Linear(dim, width, bias=True), nn.SiLU(), Linear(width, width, bias=True)),
            *(nn.SiLU(), Linear(width, encoder.dim, bias=True)),
        )

    def term(self, drawn: Iterable[Drawn]) -> Term:
        """Mean over the images that a row has."""
        pairs = [(self._error(each), each.present) for each in drawn]
        return Term(over_images(*zip(*pairs, strict=True)))

    def _error(self, drawn: Drawn) -> Tensor:
        """[B]"""
        with torch.no_grad():
            features = self.encoder(drawn.images)  # [B n F]
        grid = self.encoder.grid(*drawn.images.shape[-2:])
        if grid != drawn.grid:
            features = features.transpose(1, 2).unflatten(2, grid)  # [B F h' w']
            features = F.adaptive_avg_pool2d(features, drawn.grid).flatten(2).transpose(1, 2)
        said = self.project(drawn.hidden)  # [B h*w F]
        return (1 - F.cosine_similarity(said.float(), features.float(), dim=-1)).mean(1)

    def flops(self, images: Segment, grid: tuple[int, int]) -> float:
        """FLOPs of forward and backward for one image of a column with a grid of tokens."""
        weights = sum(p.numel() for p in self.project.parameters() if p.ndim == 2)
        return self.encoder.flops(*images.images.shape[-2:]) + 6.0 * weights * grid[0] * grid[1]


def terms_with(
    align: Alignment | None, terms: frozenset[str], network: Backbone | Denoiser
) -> frozenset[str]:
    """The terms of a paradigm that draws by this network.

    ValueError for an alignment that does not fit the network.
    """
    if align is None:
        return terms
    dim, depth = _size(network)
    if align.dim != dim:
        raise ValueError(f"align.dim is {align.dim}, but the network has {dim}; set it to {dim}")
    if not 1 <= align.layer <= depth:
        raise ValueError(
            f"align.layer is {align.layer}; the network has {depth} blocks: choose 1 to {depth}"
        )
    return terms | {TERM}


def _size(network: Backbone | Denoiser) -> tuple[int, int]:
    """Width and number of blocks."""
    if isinstance(network, Backbone):
        return network.dim, network.depth
    blocks, config = _blocks(network), network.model.config
    return config.num_attention_heads * config.attention_head_dim, len(blocks)


def _blocks(denoiser: Denoiser) -> nn.ModuleList:
    blocks = getattr(denoiser.model, "transformer_blocks", None)
    if blocks is None:
        raise ValueError(
            f"align: a {type(denoiser).__name__} has no blocks of tokens, whose states could be "
            "aligned; use a SanaDenoiser, or leave align out"
        )
    return blocks


@contextmanager
def states_of(network: Backbone | Denoiser, align: Alignment | None) -> Iterator[list[Tensor]]:
    """Collects the hidden states [B S D] after `align.layer` blocks, for each call of the network.

    Nothing is collected, nor anything changed, without an alignment.
    """
    states: list[Tensor] = []
    if align is None:
        hooks = []
    elif isinstance(network, Backbone):
        hooks = _hooks(network, align.layer, states)
    else:
        block = _blocks(network)[align.layer - 1]

        def keep(_: nn.Module, args: Any, out: Any) -> None:
            # a block of joint attention gives its conditions first
            states.append(out[-1] if isinstance(out, tuple) else out)

        hooks = [block.register_forward_hook(keep)]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def _hooks(trunk: Backbone, layer: int, states: list[Tensor]) -> list[RemovableHandle]:
    """Let each call of a trunk give the states of a layer, too, and take them off its result."""

    def ask(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "layers": (layer,)}

    def keep(_: nn.Module, args: Any, result: Any) -> Tensor:
        hidden, chosen = result
        states.append(chosen[layer])
        return hidden

    return [
        trunk.register_forward_pre_hook(ask, with_kwargs=True),
        trunk.register_forward_hook(keep, prepend=True),  # others see what a call gives
    ]
