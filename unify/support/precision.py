"""`machine.precision` on a device: bf16 is fast only where the hardware multiplies in it."""

import torch


def precision_on(device: torch.device | str, precision: str) -> str:
    """`32-true` or `bf16-mixed`; `auto` is bf16-mixed on a device that multiplies in bf16 itself.

    Elsewhere bf16 is emulated: on a processor with AVX2 alone a product of [2048, 512] and
    [512, 2048] took 7.7 s in bf16 and 0.067 s in fp32 (one thread of an AMD EPYC, 2026-11-29).
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if _multiplies_bf16(torch.device(device).type) else "32-true"


def _multiplies_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # the CPU's products are oneDNN's, which says so itself; torch has no public function for it
    known = kind == "cpu" and torch.backends.mkldnn.is_available()
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(precision: str, device: torch.device | str) -> torch.autocast:
    """The context of a run's `machine.precision`, for computing outside the trainer."""
    mixed = precision_on(device, precision) == "bf16-mixed"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=mixed)
