"""A codebook trained by one of two ranks: importable by the process that a test spawns."""

import torch

from unify.distributed.ranks import sum_over_ranks
from unify.tokenizers.vq import EMACodebook


def train_codebook(rank: int, folder: str) -> None:
    """Five updates from `folder`/start.pt; the state is saved to `folder`/RANK.pt."""
    quantizer = EMACodebook(size=32, dim=4)
    quantizer.load_state_dict(torch.load(f"{folder}/start.pt"))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    quantizer.share_updates(sum_over_ranks)
    torch.manual_seed(rank + 1)  # ranks see other vectors and revive codes at other moments
    for _ in range(5):
        quantizer(torch.randn(3, quantizer.dim, 4, 5, requires_grad=True))  # [B C h w]
    torch.save(quantizer.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
