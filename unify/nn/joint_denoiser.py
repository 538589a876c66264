"""External diffusion backbones of joint attention: conditions and cells are tokens of one sequence.

    Stable Diffusion 3 (arXiv:2403.03206), FLUX.1 (github.com/black-forest-labs/flux) and
    Qwen-Image (arXiv:2508.02324), flow matching: sigma = 1 - t, v = -output

                 timestep     place of a condition       pooled text   what does not count is hidden
    SD3          1000 sigma   none                       needed        by an attention of ours
    FLUX         sigma        (0, 0, 0)                  needed        by a mask that it hands on
    Qwen-Image   sigma        counts on after the grid   none          by a mask that it takes

Conditions here have no pooled text. A model that is built here gets their mean for it; a pretrained
one gets zeros, which SD3 has seen wherever its text encoders were dropped.

B rows, C channels, h x w latent grid, N condition tokens of D numbers.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from unify.nn.adopt import prepared
from unify.nn.denoiser import Denoiser


class JointDenoiser(Denoiser):
    """What the three have in common; `model` is the library's."""

    mean_is_pooled = True  # false: zeros stand for the pooled text

    def _adopt(
        self, model: Any, channels: int, patch: int, source_channels: int, checkpoint: bool
    ) -> None:
        super().__init__()
        self.model = prepared(model, checkpoint)
        self.channels, self.patch, self.source_channels = channels, patch, source_channels
        self.condition_dim = model.config.joint_attention_dim

    def velocity(
        self,
        xt: Tensor,
        t: Tensor,
        condition: Tensor,
        valid: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        if xt.shape[-2] % self.patch or xt.shape[-1] % self.patch:
            raise ValueError(
                f"denoiser: latents of {xt.shape[-2]}x{xt.shape[-1]} cells do not divide into "
                f"patches of {self.patch}; change the size of the image or the patch"
            )
        # its velocity points to the noise, ours to the data
        return -self._output(self._input(xt, source), 1 - t, condition, valid)

    @abstractmethod
    def _output(self, x: Tensor, sigma: Tensor, condition: Tensor, valid: Tensor | None) -> Tensor:
        """The library's output [B C h w] for [B C+source h w] at noise levels [B]."""

    def _pooled(self, condition: Tensor, valid: Tensor | None) -> Tensor:
        """[B D] the mean of the conditions that count, or zeros [B P] for a pretrained model."""
        if not self.mean_is_pooled:
            return condition.new_zeros(len(condition), self.model.config.pooled_projection_dim)
        if valid is None:
            return condition.mean(1)
        total = condition.masked_fill(~valid[..., None], 0).sum(1)
        return total / valid.sum(1, keepdim=True).clamp(min=1)


def unread(*parts: nn.Module | None) -> None:
    """What the last block makes of the conditions is read by nobody, so it is not trained."""
    for part in parts:
        if part is not None:
            part.requires_grad_(False)


def head_size(width: int, heads: int) -> int:
    if width % heads:
        raise ValueError(f"denoiser: width {width} does not divide into {heads} heads")
    return width // heads


def load_transformer(cls: Any, name: str) -> Any:
    return cls.from_pretrained(name, subfolder="transformer", torch_dtype=torch.float32)


def check_channels(name: str, read: int, made: int) -> None:
    if read != made:
        raise ValueError(
            f"{name} reads {read} numbers of a patch and makes {made}: what else it reads (a mask, "
            "a source) is not known here; use a text-to-image model and source_channels"
        )
