"""Stable Diffusion 3's denoiser (arXiv:2403.03206) in our convention (joint_denoiser.py).

B rows, S tokens, H heads of d numbers, h x w latent grid, N condition tokens.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unify.nn.adopt import WiderConv
from unify.nn.frozen import content_hash
from unify.nn.joint_denoiser import (
    JointDenoiser,
    check_channels,
    head_size,
    load_transformer,
    unread,
)
from unify.nn.layers import ZeroLinear
from unify.support.ranges import Count, CountOrZero


class SD3Denoiser(JointDenoiser):
    """diffusers' `SD3Transformer2DModel`, Stable Diffusion 3's MMDiT.

    Positions are spread over a grid of any size as if it had 32 patches along a side: the library's
    sines hardly tell 0 from 3. `qk_norm`: norms of queries and keys; `dual`: so many first blocks
    have a second attention among the cells alone; Stable Diffusion 3.5 medium has both.
    """

    def __init__(
        self,
        channels: Count = 4,
        condition_dim: Count = 128,
        width: Count = 128,
        depth: Count = 3,
        heads: Count = 4,
        patch: Count = 2,
        qk_norm: bool = True,
        dual: CountOrZero = 0,
        source_channels: CountOrZero = 0,
        checkpoint: bool = False,
    ):
        from diffusers import SD3Transformer2DModel

        model: Any = SD3Transformer2DModel(
            sample_size=32 * patch,
            patch_size=patch,
            in_channels=channels,
            out_channels=channels,
            num_layers=depth,
            attention_head_dim=head_size(width, heads),
            num_attention_heads=heads,
            joint_attention_dim=condition_dim,
            caption_projection_dim=width,
            pooled_projection_dim=condition_dim,
            pos_embed_max_size=None,  # no table of a largest grid
            dual_attention_layers=tuple(range(dual)),
            qk_norm="rms_norm" if qk_norm else None,
        )
        model.proj_out = ZeroLinear(width, patch**2 * channels)
        self._adopt_sd3(model, source_channels, checkpoint)

    def _adopt_sd3(self, model: Any, source_channels: int, checkpoint: bool) -> None:
        config = model.config
        self._adopt(model, config.out_channels, config.patch_size, source_channels, checkpoint)
        if source_channels:
            model.pos_embed.proj = WiderConv(model.pos_embed.proj, source_channels)
        model.set_attn_processor(_Joint())
        last = model.transformer_blocks[-1].attn
        unread(last.add_q_proj, last.norm_added_q)

    def _output(self, x: Tensor, sigma: Tensor, condition: Tensor, valid: Tensor | None) -> Tensor:
        (output,) = self.model(
            x,
            encoder_hidden_states=condition,
            pooled_projections=self._pooled(condition, valid),
            timestep=1000.0 * sigma,
            joint_attention_kwargs=None if valid is None else {"valid": valid},
            return_dict=False,
        )
        return output


class PretrainedSD3(SD3Denoiser):
    """The `transformer` of a Stable Diffusion 3 pipeline, from a local folder or a repository id.

    Grids may be as large as the table of positions that it was trained with.
    """

    pretrained = True
    mean_is_pooled = False

    def __init__(self, name: str, source_channels: CountOrZero = 0, checkpoint: bool = True):
        from diffusers import SD3Transformer2DModel

        model = load_transformer(SD3Transformer2DModel, name)
        check_channels(name, model.config.in_channels, model.config.out_channels)
        self._adopt_sd3(model, source_channels, checkpoint)
        self.source_hash = content_hash(self.model, str(Path(name) / "transformer"))


class _Joint:
    """SD3's attention among cells and conditions, of which the `valid` [B N] are read: the
    library's own has no mask. Without conditions, attention among the cells."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        valid: Tensor | None = None,
    ) -> Any:
        heads = _heads(attn, hidden_states, "to_{}", "norm_{}")  # q, k, v [B H h*w d]
        if encoder_hidden_states is None:
            return _plain(attn, _mixed(*heads))
        conditions = _heads(attn, encoder_hidden_states, "add_{}_proj", "norm_added_{}")
        q, k, v = (torch.cat(both, 2) for both in zip(heads, conditions, strict=True))
        mask = None
        if valid is not None:
            cells = valid.new_ones(len(valid), hidden_states.shape[1])
            mask = torch.cat([cells, valid], 1)[:, None, None]  # [B 1 1 h*w+N]
        sizes = [hidden_states.shape[1], encoder_hidden_states.shape[1]]
        of_cells, of_conditions = _mixed(q, k, v, mask).split(sizes, 1)
        if not attn.context_pre_only:
            of_conditions = attn.to_add_out(of_conditions)
        return _plain(attn, of_cells), of_conditions


def _heads(attn: Any, x: Tensor, projection: str, norm: str) -> list[Tensor]:
    """Queries, keys and values [B H S d] of tokens [B S H*d]."""
    parts = []
    for part in "qkv":
        heads = getattr(attn, projection.format(part))(x).unflatten(-1, (attn.heads, -1))
        normed = getattr(attn, norm.format(part), None)
        parts.append((heads if normed is None else normed(heads)).transpose(1, 2))
    return parts


def _mixed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)  # [B S H*d]


def _plain(attn: Any, x: Tensor) -> Tensor:
    """The output projection, and its dropout."""
    return attn.to_out[1](attn.to_out[0](x))
