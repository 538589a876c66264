"""`machine.precision` on a device: bf16 is fast only where the hardware multiplies in it."""

import torch


def precision_on(device: torch.device | str, precision: str) -> str:
    """`32-true` or `bf16-mixed`; `auto` is bf16-mixed where the hardware multiplies tiles of bf16.

    Elsewhere bf16 is slower than fp32, or emulated. A product of [2048, 512] and [512, 2048] took
    7.7 s in bf16 and 0.067 s in fp32 on a processor with AVX2 alone (one thread of an AMD EPYC,
    2026-11-29); of [2048, 512] and [512, 512] 10.9 and 5.9 ms on one with AVX-512 BF16 and no AMX
    (one thread of an Intel Xeon, 2026-12-01), where a training step took 1.24 of its fp32 time.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if _multiplies_bf16(torch.device(device).type) else "32-true"


def _multiplies_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def autocast(precision: str, device: torch.device | str) -> torch.autocast:
    """The context of a run's `machine.precision`, for computing outside the trainer."""
    mixed = precision_on(device, precision) == "bf16-mixed"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=mixed)
