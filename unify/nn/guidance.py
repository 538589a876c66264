"""Guidance by text and by source images: which conditions to compute, and to stack along the batch.

    v(0, 0) + g_I [v(I, 0) - v(0, 0)] + g_T [v(I, T) - v(I, 0)]       `guide` in unify/flow.py sums

B rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unify.batch import Text

Shown = tuple[Tensor, Tensor]  # images [B 3 H W], and which rows have one [B]
Pass = tuple[Sequence[Text] | None, bool]  # its prompts, and whether it sees the sources


def guidance_passes(
    prompts: Sequence[Text] | None,
    shown: bool,
    negative: Sequence[Text] | None,
    guidance: float,
    image_guidance: float,
) -> tuple[list[Pass], list[float]]:
    """Conditions of guidance from least to most, and a scale for each step up.

    One whose weight in `guide`'s sum, s_i - s_{i+1} with s_0 = 1, is zero is left out.
    """
    # a negative prompt takes the place of "no text": guidance then leads away from it
    nothing = None if prompts is None else list(negative or [None] * len(prompts))
    ladder: list[Pass] = [(nothing, False)]
    scales = [1.0]
    if shown:
        ladder.append((nothing, True))
        scales.append(image_guidance)
    if prompts is not None:
        ladder.append((prompts, True))
        scales.append(guidance)
    # equal neighbours cancel in the sum, so that guidance 1 costs one pass of the model and not two
    last = len(ladder) - 1
    kept = [i for i in range(last) if scales[i] != scales[i + 1]] + [last]
    return [ladder[i] for i in kept], [scales[i] for i in kept[1:]]


def stack_passes(
    passes: list[Pass], sources: list[Tensor], present: Sequence[Tensor] | None = None
) -> tuple[list[Text] | None, list[Shown]]:
    """Passes one after another along B: prompts, and sources with the rows that see them.

    `present`: the rows [B] that have each source at all (None: all rows have all).
    """
    prompts = [text for texts, _ in passes for text in texts or []] or None
    columns = []
    for images, have in zip(sources, present or [torch.ones(len(s)) for s in sources], strict=True):
        rows = torch.cat([have.bool() & shown for _, shown in passes]).to(images.device)
        columns.append((images.repeat(len(passes), 1, 1, 1), rows))
    return prompts, columns
