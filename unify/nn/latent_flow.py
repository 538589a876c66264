"""Flows that start at a latent instead of at noise (CrossFlow, arXiv:2412.15213).

    L = |v(z_t, t, i) - dz_t/dt|^2      z_t on a path from the source z0 to the target z1

Source and target have one shape, so the source is the state itself: the trunk reads its patches and
one more token, the indicator i, and nothing else. In a share of the rows i = 0, and the row's
source goes to the target of another row of its group: v(z, t, 0) is what targets are like whatever
the source says, and guidance moves away from it.

B rows, C channels, h x w latent grid, P patches, D width.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from unify.batch import Batch
from unify.flow import FlowSampler, LinearPath, Path, TimeLaw, guide
from unify.nn.alignment import OPTIONAL, REPA, TERM, Drawn, states_of, terms_with
from unify.nn.conv import row_mean
from unify.nn.layers import Embedding
from unify.nn.masks import Mask
from unify.nn.patches import Patches, check_channels, size_of
from unify.nn.trunk import Backbone, Tokens
from unify.noise import Noise
from unify.paradigm import Paradigm, Term, Terms
from unify.support.ranges import Count, Share
from unify.tokenizer import ContinuousTokenizer


class LatentFlow(Paradigm):
    """A flow between two latents of one shape, guided by an indicator.

    Args:
        time, path: the law of training times, and the way from source to target (None: straight).
        group: rows of a step that are never parted, because a null row takes a group mate's target
            (and a contrastive regulariser compares them).
        size: side in pixels of an image if the request names none.
        dropout: probability that a row is null.
        align: hidden states of the flow learn from an encoder's features of the image that the row
            goes to, in a null row another's (nn/alignment.py). For flows to images.
    """

    causal_text = False  # a text is read, or drawn, as a whole
    cached = False
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "none"
    guided_by: ClassVar[Literal["text", "indicator"]] = "indicator"
    later: ClassVar[dict[str, Any]] = {"align": None}  # of a run's identity

    def __init__(
        self,
        trunk: Backbone,
        image: ContinuousTokenizer,
        patches: Patches,
        time: TimeLaw,
        path: Path | None = None,
        group: Annotated[int, Ge(2)] = 2,
        size: Count = 32,
        dropout: Share = 0.1,
        align: REPA | None = None,
    ):
        super().__init__()
        check_channels(patches, image)
        if group < 2:
            raise ValueError(
                f"group is {group}, but a null row takes the target of another row of its group; "
                "set it to at least 2"
            )
        self.trunk, self.image, self.patches = trunk, image, patches
        self.time, self.path = time, path or LinearPath()
        self.group, self.size, self.dropout, self.align = group, size, dropout, align
        self.terms = terms_with(align, self.terms, trunk)
        self.indicator = Embedding(2, trunk.dim)  # 0: null, 1: conditional

    def flow_term(self, z0: Tensor, z1: Tensor, batch: Batch, noise: Noise) -> Term:
        """Mean squared error of the velocity from z0 to z1 [B C h w], per row."""
        rows, indicators = self.targets(batch, noise)
        return self._error(z0, z1[rows], indicators, batch, noise)

    def _error(
        self, z0: Tensor, target: Tensor, indicators: Tensor, batch: Batch, noise: Noise
    ) -> Term:
        t = self.time.quantile(noise.t(batch.target_place))  # [B]
        zt, velocity = self.path.at(z0, target, t)
        return Term(row_mean((self.velocity(zt, t, indicators) - velocity).square()), t=t)

    def targets(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """The rows [B] whose targets the rows' sources go to, and indicators [B].

        The indicator is 0 in a null row, whose target is another row's. A row without a mate is
        never null, and none is in eval mode.
        """
        # Other flows drop the condition for guidance. Here the condition is the state itself and
        # cannot be dropped: a null row keeps its source and loses the target that belongs to it.
        other = mate(self.grouped(batch), noise.uniform("mate"))
        null = noise.uniform("drop") < (self.dropout if self.training else 0.0)
        own = torch.arange(len(batch), device=other.device)
        null = null & (other != own)
        return torch.where(null, other, own), (~null).long()

    def grouped(self, batch: Batch) -> Tensor:
        """[B B] bool: which rows are in one group."""
        return same_group(batch.slots, self.group, self.device)

    def velocity(self, z: Tensor, t: Tensor, indicators: Tensor) -> Tensor:
        """dz/dt [B C h w] of z [B C h w] at t [B] with indicators [B] of 0 or 1."""
        tokens, time, skip = self.patches.tokens(z, t)  # [B P D]
        x = torch.cat([self.indicator(indicators)[:, None], tokens], 1)  # [B 1+P D]
        valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        time = torch.cat([time[:, :1], time], 1)  # [B 1+P D]: the indicator's is that of a patch
        # full attention: nothing here is text, and all patches are predicted at once
        hidden = self.trunk(Tokens(x, Mask.full(valid), positions, time))
        h, w = z.shape[-2:]
        return self.patches.latents(hidden[:, 1:], skip, (h, w)).float()

    @torch.no_grad()
    def carry(self, z: Tensor, sampler: FlowSampler, reverse: bool = False) -> Tensor:
        """z [B C h w] from source to target, or back: both guided passes read the same state;
        guidance s = 1 skips the null one."""
        guidance = sampler.guidance
        indicators = torch.tensor([1] if guidance == 1 else [0, 1], device=z.device)
        passes = len(indicators)
        indicators = indicators.repeat_interleave(len(z))  # [passes*B]

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            parts = self.velocity(x.repeat(passes, 1, 1, 1), t.repeat(passes), indicators)
            return guide(parts.chunk(passes), [guidance] * (passes - 1))

        return sampler.integrate(velocity, z, reverse)

    def flow_tokens(self, grid: tuple[int, int]) -> int:
        h, w = self.patches.grid(*grid)
        return h * w + 1

    def flow_flops(self, grid: tuple[int, int]) -> float:
        """FLOPs of a forward pass of patches and trunk over one row."""
        tokens = self.flow_tokens(grid)
        return self.trunk.flops(tokens, tokens**2) + self.patches.flops(grid)


class FlowToImage(LatentFlow):
    """A flow whose target is the latent of an image, and which can therefore be inverted."""

    entries = LatentFlow.entries | {"invert"}
    optional = OPTIONAL
    image_sampler = FlowSampler

    def flow_terms(self, z0: Tensor, z1: Tensor, batch: Batch, noise: Noise) -> Terms:
        """The flow's error, and the alignment if there is one, from one pass."""
        rows, indicators = self.targets(batch, noise)
        with states_of(self.trunk, self.align) as states:
            terms = {"image_flow": self._error(z0, z1[rows], indicators, batch, noise)}
        if self.align is not None:
            column = batch.segments[-1]
            grid = self.patches.grid(*size_of(z1))
            images, present = column.images[rows], column.present[rows]
            # without the indicator's token
            terms[TERM] = self.align.term([Drawn(states[0][:, 1:], grid, images, present)])
        return terms

    def aligned_flops(self, batch: Batch) -> float:
        """FLOPs of forward and backward of the alignment for one row."""
        if self.align is None:
            return 0.0
        column = batch.segments[-1]
        grid = self.image.grid(*column.images.shape[-2:])
        return self.align.flops(column, self.patches.grid(*grid))

    @torch.no_grad()
    def invert(self, images: Tensor, **settings: Any) -> Tensor:
        """The latent [B C h w] at which the flow to images [B 3 H W] would have begun.

        `settings` are fields of `image_sampler`; `carry` leads back to the images under the same.

        How near it comes to them depends on steps and solver: `heun` and `rk4` are far nearer
        than `euler`.
        """
        latents = self.image.encode(images.to(self.device))
        return self.carry(latents, self.image_sampler(**settings), reverse=True)


def same_group(slots: Sequence[int], size: int, device: torch.device | str = "cpu") -> Tensor:
    """[B B] bool: true for two rows in one group of `size` consecutive draws."""
    group = torch.tensor(slots, device=device) // size
    return group[:, None] == group


def twins(texts: Sequence[str | None]) -> Tensor:
    """[B B] bool: other rows with the same text, from which a row need not be told apart."""
    numbers = {text: number for number, text in enumerate(texts)}
    number = torch.tensor([numbers[text] for text in texts])  # [B], equal for equal texts
    return (number[:, None] == number) & ~torch.eye(len(texts), dtype=torch.bool)


def mate(same: Tensor, u: Tensor) -> Tensor:
    """Index [B] of another row of each row's group, drawn by uniforms u [B]; its own if alone.

    `same` [B B] as `same_group` gives it.
    """
    place = (same & torch.ones_like(same).tril(-1)).sum(1)  # [B] among the rows of its group
    count = same.sum(1)
    # a roll by 1 .. count - 1 places never comes back to the row itself
    roll = 1 + (u.double() * (count - 1)).long()
    chosen = (place + roll) % count
    return (same & (place == chosen[:, None])).int().argmax(1)
