"""One rank that adds up a tensor with the others, and ends: what `unify doctor` starts."""

from datetime import timedelta

import torch
import torch.distributed as dist

from unify.distributed.ranks import device_of, end, world
from unify.support.terminal import echo


def main() -> None:
    device = device_of()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")  # gloo knows no other
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=60))
    total = torch.full((2**20,), world().rank + 1.0, device=device)
    dist.all_reduce(total)
    size = world().size
    right = bool((total == size * (size + 1) / 2).all())
    if not right:
        echo(f"the sum over {size} ranks is wrong: {total.unique().tolist()[:4]}")
    end(0 if right else 1)


if __name__ == "__main__":
    main()
