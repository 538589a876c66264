"""External diffusion backbones, conditioned by cross-attention, in our convention.

    v(x_t, t, c) with x_t = (1 - t) eps + t x_1 and v = x_1 - eps       t = 1 is the data

    Sana (arXiv:2410.10629), flow matching    sigma = 1 - t, timestep 1000 sigma, v = -output
    Stable Diffusion's U-Net (arXiv:2112.10752), variance preserving:
        z = a x_1 + s eps, a^2 + s^2 = 1      is our x_t (a + s) at t = a / (a + s)
        output eps                            v = (x_t - eps) / t
        output a eps - s x_1                  v = (a - s) z - (a + s) output

B rows, C channels, h x w latent grid, N condition tokens of D numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from unify.flow import expand
from unify.nn.adopt import WiderConv, ZeroConv, prepared, start_by_xavier
from unify.nn.flops import counted
from unify.nn.frozen import content_hash
from unify.nn.layers import ZeroLinear
from unify.support.ranges import Count, CountOrZero, Positive, ShareBelow1


class Denoiser(nn.Module, ABC):
    """A velocity given conditions. Source latents, if it takes any, come in on further channels."""

    model: Any  # of the library
    channels: int
    condition_dim: int
    source_channels: int = 0  # 0: takes no source latents
    patch: int = 1  # cells of the grid along one side of a token
    has_times: bool = False  # true if it trains at times of its own, and not at those of a law

    @abstractmethod
    def velocity(
        self,
        xt: Tensor,
        t: Tensor,
        condition: Tensor,
        valid: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """xt [B C h w] at t [B], condition [B N D] where `valid` [B N] -> dx/dt [B C h w].

        `source` [B source_channels h w]; without one the further channels are zero.
        """

    def own_times(self, u: Tensor) -> Tensor:
        """Training times [B] from uniform numbers [B], for a denoiser that `has_times`."""
        raise NotImplementedError

    def weight(self, t: Tensor) -> Tensor:
        """[B] weight of the squared error of the velocity in training."""
        return torch.ones_like(t)

    def tokens(self, grid: tuple[int, int]) -> int:
        return grid[0] * grid[1] // self.patch**2

    def flops(self, grid: tuple[int, int], tokens: int) -> float:
        """FLOPs of a forward pass over one row with `tokens` conditions, counted in a pass."""
        xt = next(self.parameters()).new_zeros(1, self.channels, *grid)
        condition = xt.new_zeros(1, tokens, self.condition_dim)
        return counted(lambda: self.velocity(xt, xt.new_full((1,), 0.5), condition))

    def _input(self, xt: Tensor, source: Tensor | None) -> Tensor:
        if not self.source_channels:
            return xt
        if source is None:
            source = xt.new_zeros(len(xt), self.source_channels, *xt.shape[-2:])
        return torch.cat([xt, source], dim=1)


class SanaDenoiser(Denoiser):
    """diffusers' `SanaTransformer2DModel`: linear attention, cross-attention, convolutional MLP.

    `size` is the side of the latent grid that positions refer to; other sizes are scaled to it.
    They are spread as if it had 32 tokens: the library's sines hardly tell 0 from 3.
    `qk_norm`: norms of queries and keys, as Sana 1.5 (arXiv:2501.18427) has. `xavier`: linear
    layers start as in Sana's own code, 3^.5 times what the library leaves them at. With both,
    attention to the conditions is sharper from the start.
    """

    def __init__(
        self,
        channels: Count = 4,
        condition_dim: Count = 128,
        width: Count = 128,
        depth: Count = 3,
        heads: Count = 4,
        patch: Count = 1,
        size: Count = 8,
        mlp_ratio: Positive = 2.5,
        source_channels: CountOrZero = 0,
        qk_norm: bool = False,
        xavier: bool = False,
        checkpoint: bool = False,
    ):
        from diffusers import SanaTransformer2DModel

        if width % heads:
            raise ValueError(f"denoiser: width {width} does not divide into {heads} heads")
        model: Any = SanaTransformer2DModel(
            in_channels=channels,
            out_channels=channels,
            num_attention_heads=heads,
            attention_head_dim=width // heads,
            num_layers=depth,
            num_cross_attention_heads=heads,
            cross_attention_head_dim=width // heads,
            cross_attention_dim=width,
            caption_channels=condition_dim,
            mlp_ratio=mlp_ratio,
            sample_size=size,
            patch_size=patch,
            interpolation_scale=min(1.0, size / patch / 32),
            qk_norm="rms_norm_across_heads" if qk_norm else None,
        )
        if xavier:
            start_by_xavier(model)
        model.proj_out = ZeroLinear(width, patch**2 * channels)
        self._adopt(model, source_channels, checkpoint)

    def _adopt(self, model: Any, source_channels: int, checkpoint: bool) -> None:
        super().__init__()
        self.model = prepared(model, checkpoint)
        self.channels, self.patch = model.config.out_channels, model.config.patch_size
        self.condition_dim, self.source_channels = model.config.caption_channels, source_channels
        self.timestep_scale: float = model.config.timestep_scale
        if source_channels:
            model.patch_embed.proj = WiderConv(model.patch_embed.proj, source_channels)

    def velocity(
        self,
        xt: Tensor,
        t: Tensor,
        condition: Tensor,
        valid: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        (output,) = self.model(
            self._input(xt, source),
            encoder_hidden_states=condition,
            timestep=1000.0 * (1 - t) * self.timestep_scale,
            encoder_attention_mask=valid,
            return_dict=False,
        )
        return -output  # its velocity points to the noise, ours to the data


class PretrainedSana(SanaDenoiser):
    """The `transformer` of a Sana pipeline, from a local folder or a repository id."""

    pretrained = True

    def __init__(self, name: str, source_channels: CountOrZero = 0, checkpoint: bool = True):
        from diffusers import SanaTransformer2DModel

        model = SanaTransformer2DModel.from_pretrained(
            name, subfolder="transformer", torch_dtype=torch.float32
        )
        if model.config.guidance_embeds:
            raise ValueError(
                f"{name} embeds a scale of guidance (Sana-Sprint), which no flow here gives it; "
                "use a Sana without"
            )
        self._adopt(model, source_channels, checkpoint)
        self.source_hash = content_hash(self.model, str(Path(name) / "transformer"))


class UNetDenoiser(Denoiser):
    """diffusers' `UNet2DConditionModel` on the grid of a DDPM (arXiv:2006.11239).

    Trained on times of that grid, with the error that its own objective has. Between the grid's
    times the timestep is interpolated; beyond its ends (the noisiest is not pure noise) the
    nearest is taken. An Euler step of our flow is then a step of DDIM (arXiv:2010.02502).
    """

    grid: Tensor  # [timesteps] our times, rising; timestep k is the k-th from the end

    has_times = True

    def __init__(
        self,
        channels: Count = 4,
        condition_dim: Count = 128,
        widths: Annotated[Sequence[Count], MinLen(1)] = (32, 64),
        layers: Count = 1,
        heads: Count = 4,
        norm_groups: Count = 8,
        prediction: Literal["epsilon", "v_prediction"] = "epsilon",
        betas: tuple[ShareBelow1, ShareBelow1] = (0.00085, 0.012),
        timesteps: Count = 1000,
        source_channels: CountOrZero = 0,
        checkpoint: bool = False,
    ):
        from diffusers import UNet2DConditionModel

        model: Any = UNet2DConditionModel(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("CrossAttnDownBlock2D",) * len(widths),
            up_block_types=("CrossAttnUpBlock2D",) * len(widths),
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            norm_num_groups=norm_groups,
            cross_attention_dim=condition_dim,
            attention_head_dim=heads,  # so named in the library
        )
        model.conv_out = ZeroConv(widths[0], channels)
        beta = torch.linspace(betas[0] ** 0.5, betas[1] ** 0.5, timesteps, dtype=torch.float64) ** 2
        self._adopt(model, (1 - beta).cumprod(0), prediction, source_channels, checkpoint)

    def _adopt(
        self,
        model: Any,
        alphas_bar: Tensor,
        prediction: str,
        source_channels: int,
        checkpoint: bool,
    ) -> None:
        super().__init__()
        self.model = prepared(model, checkpoint)
        self.channels, self.condition_dim = (
            model.config.out_channels,
            model.config.cross_attention_dim,
        )
        self.prediction, self.source_channels = prediction, source_channels
        if source_channels:
            model.conv_in = WiderConv(model.conv_in, source_channels)
        a, s = alphas_bar.double().sqrt(), (1 - alphas_bar.double()).sqrt()
        self.register_buffer("grid", (a / (a + s)).flip(0).float(), persistent=False)

    def own_times(self, u: Tensor) -> Tensor:
        """Every timestep equally often, as a DDPM is trained."""
        return self.grid[(u * len(self.grid)).long()]

    def weight(self, t: Tensor) -> Tensor:
        """|output - target|^2 = weight |v - v*|^2."""
        return t.square() if self.prediction == "epsilon" else t.square() + (1 - t).square()

    def timestep(self, t: Tensor) -> Tensor:
        """Our times [B] within the grid -> DDPM timesteps [B], fractional between its times."""
        above = torch.searchsorted(self.grid, t).clamp(1, len(self.grid) - 1)
        low, high = self.grid[above - 1], self.grid[above]
        return len(self.grid) - 1 - (above - 1 + (t - low) / (high - low))

    def velocity(
        self,
        xt: Tensor,
        t: Tensor,
        condition: Tensor,
        valid: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        t = t.clamp(self.grid[0], self.grid[-1])
        both = (t.square() + (1 - t).square()).rsqrt()  # a + s
        a, s = (expand(part * both, xt) for part in (t, 1 - t))
        z = xt * expand(both, xt)
        (output,) = self.model(
            self._input(z, source),
            self.timestep(t),
            encoder_hidden_states=condition,
            encoder_attention_mask=valid,
            return_dict=False,
        )
        if self.prediction == "epsilon":
            return (xt - output.float()) / expand(t, xt)
        return (a - s) * z - (a + s) * output.float()


class PretrainedUNet(UNetDenoiser):
    """The `unet` of a Stable Diffusion pipeline and the noise of its `scheduler`."""

    pretrained = True

    def __init__(self, name: str, source_channels: CountOrZero = 0, checkpoint: bool = True):
        from diffusers import DDPMScheduler, UNet2DConditionModel

        model = UNet2DConditionModel.from_pretrained(
            name, subfolder="unet", torch_dtype=torch.float32
        )
        scheduler = DDPMScheduler.from_pretrained(name, subfolder="scheduler")
        prediction = scheduler.config.prediction_type
        if prediction not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"{name} predicts {prediction!r}; UNetDenoiser knows epsilon and v_prediction"
            )
        self._adopt(model, scheduler.alphas_cumprod, prediction, source_channels, checkpoint)
        self.source_hash = content_hash(self.model, str(Path(name) / "unet"))
