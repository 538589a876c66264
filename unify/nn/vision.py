"""Vision encoders: images to features that a language model reads.

    PatchEncoder    a small ViT (arXiv:2010.11929) of our own blocks
    TimmEncoder     any model of timm by its name, the features of a chosen layer
    PatchDecoder    back: features of a grid to the pixels of its patches

Ordinary sub-modules: they train with what they are part of, at a learning rate of their own if
`optimizer.lr_ratio` says so. B images of H x W pixels, h x w features of D numbers.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unify.nn.adopt import resettable
from unify.nn.flops import counted
from unify.nn.layers import Linear, patchify, sincos_2d, unpatchify
from unify.nn.masks import Mask
from unify.nn.trunk import Tokens, Trunk
from unify.support.ranges import AnyWhole, Count, CountOrZero


class VisionEncoder(nn.Module, ABC):
    """Images in [-1, 1] to a grid of features in raster order."""

    dim: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """[B 3 H W] -> [B h*w D]."""

    @abstractmethod
    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the features of an image of `height` x `width` pixels."""

    @abstractmethod
    def flops(self, height: int, width: int) -> float:
        """FLOPs of the forward pass over one such image."""

    def training_flops(self, height: int, width: int) -> float:
        """FLOPs of forward and backward over one such image, where it learns."""
        return 3.0 * self.flops(height, width)


class PatchEncoder(VisionEncoder):
    """Patches of `patch` x `patch` pixels, all reading all: a token's place is its row and column,
    added as sines and cosines and rotated into the attention, so that any size of image will do."""

    def __init__(self, dim: Count, depth: CountOrZero, heads: Count, patch: Count = 4):
        super().__init__()
        self.dim, self.patch = dim, patch
        self.inward = Linear(3 * patch**2, dim)
        self.trunk = Trunk(dim, depth, heads, sections=[1, 1])

    def grid(self, height: int, width: int) -> tuple[int, int]:
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"an image of {height}x{width} pixels does not divide into patches of "
                f"{self.patch}; change the image size or the encoder's patch"
            )
        return height // self.patch, width // self.patch

    def forward(self, images: Tensor, shown: Tensor | None = None) -> Tensor:
        """[B 3 H W] -> [B h*w D]; nothing is read of patches not `shown` [B h*w] (bool)."""
        grid = self.grid(*images.shape[-2:])
        return read_grid(self.trunk, self.inward(patchify(images, self.patch)), grid, shown)

    def flops(self, height: int, width: int) -> float:
        h, w = self.grid(height, width)
        return self._inward_flops(h * w) + self.trunk.flops(h * w, (h * w) ** 2)

    def training_flops(self, height: int, width: int) -> float:
        h, w = self.grid(height, width)
        return super().training_flops(height, width) - self._inward_flops(h * w)  # none to pixels

    def _inward_flops(self, patches: int) -> float:
        return 2.0 * self.inward.weight.numel() * patches


class PatchDecoder(nn.Module):
    """Features [B h*w inputs] of a grid to pixels [B 3 h*patch w*patch], all reading all."""

    def __init__(self, inputs: Count, dim: Count, depth: CountOrZero, heads: Count, patch: Count):
        super().__init__()
        self.patch, self.trunk = patch, Trunk(dim, depth, heads, sections=[1, 1])
        self.inward, self.outward = Linear(inputs, dim), Linear(dim, 3 * patch**2, bias=True)

    def forward(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        tokens = self.outward(read_grid(self.trunk, self.inward(features), grid))  # [B h*w 3pp]
        return unpatchify(tokens, (grid[0] * self.patch, grid[1] * self.patch), self.patch)

    def training_flops(self, grid: tuple[int, int], inward: bool) -> float:
        """FLOPs of forward and backward for one image; `inward`: the features learn, too."""
        n = grid[0] * grid[1]
        first, last = (2.0 * part.weight.numel() * n for part in (self.inward, self.outward))
        return 3.0 * (self.trunk.flops(n, n * n) + last) + (2.0 + inward) * first


def read_grid(
    trunk: Trunk, x: Tensor, grid: tuple[int, int], shown: Tensor | None = None
) -> Tensor:
    """Tokens x [B h*w D] in raster order, at their places, through a trunk of two position axes.

    Those that are not `shown` [B h*w] are read by themselves alone.
    """
    h, w = grid
    x = x + sincos_2d(h, w, trunk.dim).to(x.device)  # fp32, as every residual stream
    place = torch.arange(h * w, device=x.device)
    positions = torch.stack([place // w, place % w], -1).expand(len(x), -1, -1)  # [B h*w 2]
    if shown is None:
        shown = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    hidden = trunk(Tokens(x, Mask.full(shown), positions))
    assert isinstance(hidden, Tensor)
    return hidden


class TimmEncoder(VisionEncoder):
    """`name` as timm knows it (`vit_small_patch16_224`, `local-dir:folder`, `hf-hub:owner/model`).

    `pretrained`: its own weights, none, or those of a checkpoint file; `layer`: the features after
    this block or stage, from the end if negative (after the last one, with the final norm). An
    image is resized, not cropped, to `size` x `size` pixels (default: the model's own) and
    normalised as the model's data configuration says. Layers beyond `layer` are dropped.
    """

    model: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        pretrained: bool | str = True,
        layer: AnyWhole = -1,
        size: Count | None = None,
    ):
        import timm

        super().__init__()
        weights: dict[str, Any] = {"pretrained": pretrained}
        if isinstance(pretrained, str):
            weights = {"checkpoint_path": pretrained}
        model: Any = timm.create_model(name, **weights)
        if not hasattr(model, "forward_intermediates"):
            raise ValueError(f"{name} gives no features of its layers; choose another timm model")
        layers = len(model.feature_info)
        if not -layers <= layer < layers:
            raise ValueError(f"{name} has {layers} layers, so there is no layer {layer}")
        data = timm.data.resolve_model_data_config(model)
        self.size = size or data["input_size"][-1]
        if size and hasattr(model, "set_input_size"):
            model.set_input_size(img_size=(size, size))
        self.layer, self.last = layer % layers, layer % layers == layers - 1
        described = model.feature_info[layer]
        self.dim, self.stride = described["num_chs"], described["reduction"]
        model.prune_intermediate_layers([self.layer], prune_norm=not self.last, prune_head=True)
        self.model, self.pretrained = resettable(model, _reset_own), bool(pretrained)
        for statistic in ("mean", "std"):
            value = torch.tensor(data[statistic]).view(3, 1, 1)
            self.register_buffer(statistic, value, persistent=False)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return (-(-self.size // self.stride),) * 2

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.size, self.size):
            sides = (self.size, self.size)
            images = F.interpolate(images, sides, mode="bicubic", antialias=True).clamp(-1, 1)
        (features,) = self.model.forward_intermediates(
            ((images + 1) / 2 - self.mean) / self.std,
            indices=[self.layer],
            norm=self.last,
            intermediates_only=True,
        )
        return features.flatten(2).transpose(1, 2)  # [B D h w] -> [B h*w D]

    def flops(self, height: int, width: int) -> float:
        """Counted in a pass; the model is in eval mode meanwhile, so that no statistic moves."""
        training = self.training
        self.eval()
        image = next(self.parameters()).new_zeros(1, 3, height, width)
        total = counted(lambda: self(image))
        self.train(training)
        return total


def _reset_own(part: nn.Module) -> None:
    """Class tokens and tables of positions, as most of the library starts them."""
    for parameter in part.parameters(recurse=False):
        nn.init.trunc_normal_(parameter, std=0.02)
