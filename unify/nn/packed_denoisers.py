"""FLUX.1's and Qwen-Image's denoisers, of packed cells, in our convention (joint_denoiser.py).

p x p cells of a latent are one token of C p p numbers, packed outside of the library's models.

B rows, C channels, h x w latent grid, p cells along one side of a token, N condition tokens.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unify.nn.adopt import WiderLinear
from unify.nn.frozen import content_hash
from unify.nn.joint_denoiser import (
    JointDenoiser,
    check_channels,
    head_size,
    load_transformer,
    unread,
)
from unify.nn.layers import ZeroLinear, patchify, unpatchify
from unify.support.ranges import Count, CountOrZero


class FluxDenoiser(JointDenoiser):
    """diffusers' `FluxTransformer2DModel`: `depth` blocks with weights of their own for conditions,
    then `single` blocks that share one set; rotary positions by row and column."""

    def __init__(
        self,
        channels: Count = 4,
        condition_dim: Count = 128,
        width: Count = 128,
        depth: Count = 1,
        single: Count = 2,
        heads: Count = 4,
        patch: Count = 2,
        source_channels: CountOrZero = 0,
        checkpoint: bool = False,
    ):
        from diffusers import FluxTransformer2DModel

        model: Any = FluxTransformer2DModel(
            in_channels=patch**2 * channels,
            num_layers=depth,
            num_single_layers=single,
            attention_head_dim=head_size(width, heads),
            num_attention_heads=heads,
            joint_attention_dim=condition_dim,
            pooled_projection_dim=condition_dim,
            axes_dims_rope=_axes(width // heads),
        )
        model.proj_out = ZeroLinear(width, patch**2 * channels)
        self._adopt_flux(model, patch, source_channels, checkpoint)

    def _adopt_flux(self, model: Any, patch: int, source_channels: int, checkpoint: bool) -> None:
        channels = model.config.in_channels // patch**2  # packed outside of the library's model
        self._adopt(model, channels, patch, source_channels, checkpoint)
        if source_channels:
            model.x_embedder = WiderLinear(model.x_embedder, patch**2 * source_channels)
        model.x_embedder.register_forward_hook(_at_least_single)

    def _output(self, x: Tensor, sigma: Tensor, condition: Tensor, valid: Tensor | None) -> Tensor:
        h, w = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        index = torch.arange(h * w, device=x.device)
        kwargs = None
        if valid is not None:  # conditions come first; the library hands a mask on to attention
            cells = valid.new_ones(len(valid), h * w)
            kwargs = {"attention_mask": torch.cat([valid, cells], 1)[:, None, None]}
        (output,) = self.model(
            patchify(x, self.patch),
            encoder_hidden_states=condition,
            pooled_projections=self._pooled(condition, valid),
            timestep=sigma,
            img_ids=torch.stack([0 * index, index // w, index % w], -1).to(x.dtype),  # [h*w 3]
            txt_ids=x.new_zeros(condition.shape[1], 3),
            # of a model that was distilled from guided velocities, the one without guidance
            guidance=torch.ones_like(sigma) if self.model.config.guidance_embeds else None,
            joint_attention_kwargs=kwargs,
            return_dict=False,
        )
        return unpatchify(output, (x.shape[-2], x.shape[-1]), self.patch)


class PretrainedFlux(FluxDenoiser):
    """The `transformer` of a FLUX.1 pipeline, from a local folder or a repository id.

    FLUX.1-dev, which embeds a scale of guidance, is given the scale 1: the plain velocity.
    """

    pretrained = True
    mean_is_pooled = False

    def __init__(self, name: str, source_channels: CountOrZero = 0, checkpoint: bool = True):
        from diffusers import FluxTransformer2DModel

        model = load_transformer(FluxTransformer2DModel, name)
        check_channels(name, model.config.in_channels, model.out_channels)
        self._adopt_flux(model, 2, source_channels, checkpoint)  # its pipeline packs 2 x 2 cells
        self.source_hash = content_hash(self.model, str(Path(name) / "transformer"))


class QwenImageDenoiser(JointDenoiser):
    """diffusers' `QwenImageTransformer2DModel`: rotary positions centred on the image, conditions
    on the diagonal after it."""

    def __init__(
        self,
        channels: Count = 4,
        condition_dim: Count = 128,
        width: Count = 128,
        depth: Count = 3,
        heads: Count = 4,
        patch: Count = 2,
        source_channels: CountOrZero = 0,
        checkpoint: bool = False,
    ):
        from diffusers import QwenImageTransformer2DModel

        model: Any = QwenImageTransformer2DModel(
            patch_size=patch,
            in_channels=patch**2 * channels,
            out_channels=channels,
            num_layers=depth,
            attention_head_dim=head_size(width, heads),
            num_attention_heads=heads,
            joint_attention_dim=condition_dim,
            axes_dims_rope=_axes(width // heads),
        )
        model.proj_out = ZeroLinear(width, patch**2 * channels)
        self._adopt_qwen(model, source_channels, checkpoint)

    def _adopt_qwen(self, model: Any, source_channels: int, checkpoint: bool) -> None:
        patch = model.config.patch_size
        self._adopt(model, model.config.out_channels, patch, source_channels, checkpoint)
        if source_channels:
            model.img_in = WiderLinear(model.img_in, patch**2 * source_channels)
        model.img_in.register_forward_hook(_at_least_single)
        last = model.transformer_blocks[-1]
        attention = last.attn
        unread(attention.add_q_proj, attention.norm_added_q, attention.to_add_out, last.txt_mlp)

    def _output(self, x: Tensor, sigma: Tensor, condition: Tensor, valid: Tensor | None) -> Tensor:
        if valid is not None:  # it counts positions of conditions by their place
            order = valid.int().argsort(dim=1, descending=True, stable=True)  # those that count
            condition = condition.gather(1, order[..., None].expand_as(condition))
            valid = valid.gather(1, order)
        shape = (1, x.shape[-2] // self.patch, x.shape[-1] // self.patch)
        # The library keeps its tables for later calls. Made in a validation, where tensors are for
        # inference alone, they could not be trained with.
        with torch.inference_mode(False):
            self.model.pos_embed(shape, device=x.device, max_txt_seq_len=condition.shape[1])
        (output,) = self.model(
            patchify(x, self.patch),
            encoder_hidden_states=condition,
            encoder_hidden_states_mask=valid,
            timestep=sigma,
            img_shapes=[[shape]] * len(x),
            return_dict=False,
        )
        return unpatchify(output, (x.shape[-2], x.shape[-1]), self.patch)


class PretrainedQwenImage(QwenImageDenoiser):
    """The `transformer` of a Qwen-Image pipeline, from a local folder or a repository id."""

    pretrained = True

    def __init__(self, name: str, source_channels: CountOrZero = 0, checkpoint: bool = True):
        from diffusers import QwenImageTransformer2DModel

        model = load_transformer(QwenImageTransformer2DModel, name)
        config = model.config
        for key in ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope"):
            if getattr(config, key, False):
                raise ValueError(
                    f"{name} has {key}, which no flow here gives it what it needs for; use a "
                    "Qwen-Image without, as Qwen/Qwen-Image"
                )
        check_channels(name, config.in_channels, config.patch_size**2 * config.out_channels)
        self._adopt_qwen(model, source_channels, checkpoint)
        self.source_hash = content_hash(self.model, str(Path(name) / "transformer"))


def _at_least_single(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """Cells in single precision: the library casts times to their type, and bf16 would leave a
    noise level three digits."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _axes(head_dim: int) -> tuple[int, int, int]:
    """Numbers of a head that turn with image, row and column, in the shares of 16, 56 and 56."""
    side = 2 * (7 * head_dim // 32)
    if head_dim % 2 or not side:
        raise ValueError(
            f"denoiser: positions by row and column need an even number of at least 6 for each "
            f"head, not {head_dim}; change width or heads"
        )
    return head_dim - 2 * side, side, side
