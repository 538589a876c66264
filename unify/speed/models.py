"""The models that `unify bench` compares: Transfusion, two towers, a plain transformer.

80 tokens (14 of a prompt, 64 latents, boi and eoi), width D = 256, 6 layers, 4 heads.
"""

from collections.abc import Callable

import torch
from torch import nn

from unify.batch import Batch
from unify.flow import LogitNormalTime
from unify.nn.init import initialise
from unify.nn.patches import LinearPatches
from unify.nn.trunk import Trunk
from unify.noise import Noise
from unify.paradigms.dual_tower import DualTower
from unify.paradigms.transfusion import Transfusion
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes

TEXT, LATENTS, WIDTH, DEPTH, HEADS, PATCH = 14, 64, 256, 6, 4, 4
LENGTH = TEXT + LATENTS + 2
SIDE = 8 * PATCH  # 64 patches of PATCH x PATCH pixels


def transfusion_step(
    device: torch.device, rows: int, kind: type[Transfusion] = Transfusion
) -> Callable[[], None]:
    """Forward with its noise, backward, AdamW of `Transfusion`, or a `kind` of it, on pixels."""
    model = kind(
        trunk=Trunk(WIDTH, DEPTH, HEADS),
        text=Bytes(),
        image=Pixels(),
        patches=LinearPatches(3, WIDTH, PATCH),
        time=LogitNormalTime(),
        size=SIDE,
    )
    initialise(model, 0)
    model.to(device)
    images = torch.rand(rows, 3, SIDE, SIDE) * 2 - 1
    prompts, keys = ["a red circle"] * rows, [str(i) for i in range(rows)]
    batch = Batch.text_to_image(prompts, images, keys, TEXT).to(device)

    def loss() -> torch.Tensor:
        noise = Noise.for_batch(0, 0, batch, device)
        return torch.stack([t.value.mean() for t in model.loss(batch, noise).values()]).sum()

    return _step(model, loss)


def towers_step(device: torch.device, rows: int) -> Callable[[], None]:
    """`transfusion_step` of two towers: text tokens and image tokens have weights of their own."""
    return transfusion_step(device, rows, DualTower)


def plain_step(device: torch.device, rows: int) -> Callable[[], None]:
    """Forward, backward and AdamW of torch's pre-norm encoder, causal, on given embeddings."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    model = nn.TransformerEncoder(layer, DEPTH, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
    model.to(device)
    x = torch.randn(rows, LENGTH, WIDTH, device=device)
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, device=device)
    return _step(model, lambda: model(x, mask=mask, is_causal=True).float().square().mean())


def _step(model: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
