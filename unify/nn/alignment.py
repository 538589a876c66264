"""Alignment of a network's hidden states with features: what draws learns early what is shown.

    L = mean over tokens of 1 - cos(f, h(hidden_l))        h an MLP of three layers

hidden_l are the tokens of a noised image after l blocks. In REPA (arXiv:2410.06940) f are features
of the clean image by a frozen encoder, brought to the grid of the tokens by averages. In Self-Flow
(arXiv:2603.06507) the tokens of an image have two noise levels, and f are the network's own states
after further blocks, in a pass over the image at the cleaner one. Blocks after the l-th learn
nothing by it, nor does whatever gives f.
B rows, h x w tokens of a noised image, D width, F features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from unify.noise import Noise
from unify.paradigm import Term
from unify.support.ranges import Count, ShareAbove0

Law = Callable[[Tensor], Tensor]
TERM = "alignment"  # its name among the terms of a paradigm
OPTIONAL = {TERM: "align"}  # `Trainable.optional` of a paradigm that takes it


@dataclass(frozen=True)
class Drawn:
    """The tokens of noised images [B h*w D], their grid, and the clean images [B 3 H W]."""

    hidden: Tensor
    grid: tuple[int, int]
    images: Tensor
    present: Tensor  # [B] bool
    cleaner: Tensor | None = None  # [B h*w D], of a further pass over cleaner images, if asked for


class Alignment(nn.Module, ABC):
    """States of D numbers after `layer` blocks, projected to F numbers of features."""

    def __init__(self, dim: int, layer: int, features: int, width: int):
        super().__init__()
        self.dim, self.layer = dim, layer
        self.project = nn.Sequential(
            *(Linear(dim, width, bias=True), nn.SiLU(), Linear(width, width, bias=True)),
            *(nn.SiLU(), Linear(width, features, bias=True)),
        )

    def layers(self) -> dict[str, int]:
        """The blocks whose states are read, by argument."""
        return {"layer": self.layer}

    def times(self, t: Tensor, law: Law, noise: Noise, place: int, tokens: int) -> Tensor:
        """Times of the image at a place of the batch: one a row, t [B], or of each token [B n].

        `law` makes times of uniform numbers.
        """
        return t

    def term(self, drawn: Iterable[Drawn]) -> Term:
        """Mean over the images that a row has."""
        pairs = [(self._error(each), each.present) for each in drawn]
        return Term(over_images(*zip(*pairs, strict=True)))

    def _error(self, drawn: Drawn) -> Tensor:
        """[B]"""
        said = self.project(drawn.hidden).float()  # [B h*w F]
        with torch.no_grad():
            features = self.features(drawn).float()
        return (1 - F.cosine_similarity(said, features, dim=-1)).mean(1)

    @abstractmethod
    def features(self, drawn: Drawn) -> Tensor:
        """f [B h*w F], of each token."""

    def flops(self, images: Segment, grid: tuple[int, int]) -> float:
        """FLOPs of forward and backward for one image of a column with a grid of tokens, without
        further passes of the network."""
        weights = sum(p.numel() for p in self.project.parameters() if p.ndim == 2)
        return 6.0 * weights * grid[0] * grid[1]


class REPA(Alignment):
    """With the features of a frozen encoder.

    Args:
        encoder: f; it stays as it is.
        dim: D, of the network.
        layer: l, counted from 1.
        width: of h between its layers; default: D.
    """

    def __init__(
        self, encoder: VisionEncoder, dim: Count, layer: Count, width: Count | None = None
    ):
        super().__init__(dim, layer, encoder.dim, width or dim)
        self.encoder = freeze(encoder)

    def features(self, drawn: Drawn) -> Tensor:
        features = self.encoder(drawn.images)  # [B n F]
        grid = self.encoder.grid(*drawn.images.shape[-2:])
        if grid == drawn.grid:
            return features
        features = features.transpose(1, 2).unflatten(2, grid)  # [B F h' w']
        return F.adaptive_avg_pool2d(features, drawn.grid).flatten(2).transpose(1, 2)

    def flops(self, images: Segment, grid: tuple[int, int]) -> float:
        return self.encoder.flops(*images.images.shape[-2:]) + super().flops(images, grid)


class SelfFlow(Alignment):
    """With the network's own states after `teacher_layer` blocks, at the cleaner of two levels.

    Both levels follow the law of times and neither is the cleaner one beforehand, so that each
    token's time follows it, too. Pictures are drawn with one level. Other than the paper: the
    further pass is by the present weights, there by their running mean.

    Args:
        dim: D, of the network.
        layer, teacher_layer: l and that of f; about .3 and .7 of the blocks in the paper.
        share: of the tokens that have the second level, each by itself.
        width: of h between its layers; default: D.
    """

    def __init__(
        self,
        dim: Count,
        layer: Count,
        teacher_layer: Count,
        share: ShareAbove0 = 0.25,
        width: Count | None = None,
    ):
        super().__init__(dim, layer, dim, width or dim)
        if teacher_layer <= layer:
            raise ValueError(
                f"align.teacher_layer is {teacher_layer}, and has to be above align.layer, {layer}:"
                " what a block learns from is made by blocks behind it"
            )
        self.teacher_layer, self.share = teacher_layer, share

    def layers(self) -> dict[str, int]:
        return {"layer": self.layer, "teacher_layer": self.teacher_layer}

    def times(self, t: Tensor, law: Law, noise: Noise, place: int, tokens: int) -> Tensor:
        second = law(noise.uniform(f"image{place}/t2"))  # [B]
        chosen = noise.uniform(f"image{place}/level", (tokens,)) < self.share  # [B n]
        return torch.where(chosen, second[:, None], t[:, None])

    def features(self, drawn: Drawn) -> Tensor:
        assert drawn.cleaner is not None, "a paradigm that takes it runs its network once more"
        return drawn.cleaner


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
    for name, layer in align.layers().items():
        if not 1 <= layer <= depth:
            raise ValueError(
                f"align.{name} is {layer}; the network has {depth} blocks: choose 1 to {depth}"
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


def states_of(
    network: Backbone | Denoiser, align: Alignment | None
) -> AbstractContextManager[list[Tensor]]:
    """Collects the hidden states [B S D] after `align.layer` blocks, for each call of the network.

    Nothing is collected, nor anything changed, without an alignment.
    """
    return nullcontext([]) if align is None else states_after(network, align.layer)


@contextmanager
def states_after(network: Backbone | Denoiser, layer: int) -> Iterator[list[Tensor]]:
    """Collects the hidden states [B S D] after so many blocks, for each call of the network."""
    states: list[Tensor] = []
    if isinstance(network, Backbone):
        hooks = _hooks(network, layer, states)
    else:
        block = _blocks(network)[layer - 1]

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
