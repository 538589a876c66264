"""GPUs by NVIDIA's data sheets (SXM modules), and the time of a step on them.

    seconds = max(FLOPs / (ranks * peak * utilisation), bytes between ranks / link)

Utilisation of the peak by model FLOPs (MFU, arXiv:2204.02311) is assumed unless it was measured;
the bytes are a lower bound: what has to travel, at the link's full rate and beside all computing.
"""

from dataclasses import dataclass

GIB = 2**30
NODE = 8  # GPUs that NVLink joins, and ranks on a node
NETWORK = 50e9  # bytes/s of a GPU to other nodes: 400 Gb/s InfiniBand
AGAIN = 4 / 3  # forward twice and backward against forward and backward, where it recomputes

# Assumed, not measured: the CUDA context, NCCL's buffers and the workspaces of cuBLAS and cuDNN;
# and the share of the rest that the caching allocator can fill before it is in too small pieces.
RESERVED = 2 * GIB
FILLED = 0.95

MFU = 0.4  # of the peak, assumed: published runs of dense transformers reach 0.3 to 0.5
WRITTEN = 1.0  # GB/s to a file system that others use as well, assumed


@dataclass(frozen=True)
class Gpu:
    """Memory and speed of a GPU by its data sheet."""

    memory: float  # bytes that torch finds, below the nominal 80, 80 and 141 GB
    bf16: float  # FLOP/s, dense
    fp32: float  # FLOP/s without TF32, which torch leaves off
    link: float  # bytes/s over NVLink, one way

    @property
    def usable(self) -> float:
        """Bytes that tensors can fill."""
        return FILLED * (self.memory - RESERVED)


GPUS = {
    "a100": Gpu(79.1 * GIB, 312e12, 19.5e12, 300e9),
    "h100": Gpu(79.1 * GIB, 989e12, 67e12, 450e9),
    "h200": Gpu(139.8 * GIB, 989e12, 67e12, 450e9),
}
CPU = "cpu"  # memory alone is forecast: neither its size nor its speed is known


def gpu_of(name: str) -> Gpu | None:
    """The GPU of a name, None for `cpu`. ValueError lists the names for any other."""
    if name != CPU and name not in GPUS:
        raise ValueError(f"--gpu {name}: not known; choose one of {', '.join([*GPUS, CPU])}")
    return GPUS.get(name)


def current_gpu() -> Gpu | None:
    """The GPU of this process, if it is in `GPUS`."""
    import torch  # the command line lists the names without it

    name = torch.cuda.get_device_name().lower() if torch.cuda.is_available() else ""
    return next((gpu for key, gpu in GPUS.items() if key in name), None)


def step_seconds(
    gpu: Gpu, ranks: int, flops: float, travels: float, mfu: float, fp32: bool
) -> float:
    """Seconds of one optimizer step, by compute or by communication, whichever takes longer.

    Args:
        flops: of the step, all ranks together.
        travels: bytes in and out of one rank.
        mfu: share of the peak FLOP/s that is reached.
        fp32: whether matrix products are in fp32.
    """
    link = gpu.link if ranks <= NODE else NETWORK
    return max(flops / (ranks * (gpu.fp32 if fp32 else gpu.bf16) * mfu), travels / link)
