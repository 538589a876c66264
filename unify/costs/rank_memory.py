"""Memory of a rank by part, and the size of its checkpoint: bytes, from shapes alone.

Of P parameters, T of them trained, on N ranks (AdamW, fp32 master weights):

    fsdp        P/N + (gradient 1 + moments 2 + average 1) T/N, and the units that are gathered
    else        P   + (gradient 1 + moments 2 + average 1) T, and DDP's buckets for the gradients

Tokenizers are whole on every rank. Activations are counted by activation_memory.py, in a step
without values.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from torch import Tensor, nn

from unify.assembly.sharding import units_of
from unify.costs.activation_memory import Peak
from unify.nn.frozen import left_out, names_of_one
from unify.nn.init import kept_parameters
from unify.paradigm import Paradigm

# Units that FSDP2 has whole at a time, beside the root: what computes, what is gathered next with
# its flat buffer, and a gradient on its way.
WHOLE = 4

# Measured on a CPU (2 cores of an AMD EPYC, 2026-11-23): a process that trains, with all that it
# imports, without CUDA; and what a worker of a loader has of its own where there are several ranks.
PROCESS = 950 * 2**20
WORKER = 300 * 2**20

# What a CPU's kernels of half precision (oneDNN) keep, nearly whatever the model; fitted: 32 to 76
# MB were missing on that machine, 47 to 97 on 2 cores of an Intel Xeon (docs/clusters.md).
KERNELS = 52_000_000


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank at the worst moment of a step; the parts add up to it."""

    parameters: int  # that are trained
    gradients: int
    moments: int  # of AdamW
    average: int  # of the weights (EMA)
    frozen: int  # parameters that are not trained, buffers, tokenizers
    exchange: int  # units gathered (fsdp), buckets (ddp)
    copies: int  # of weights in half precision, one for each use in a micro-step
    activations: int  # of a micro-step, with what it makes and drops. Where several tasks use a
    # weight, its gradient is there whole, on every rank, until the last of them is through
    kernels: int = 0  # what those of a CPU keep

    @property
    def total(self) -> int:
        return sum(vars(self).values())


PARTS = [field.name for field in fields(Memory)]


def memory_of(
    model: nn.Module,
    peak: Peak,
    ranks: int,
    sharded: bool,
    average: bool = True,
    kernels: int = 0,
) -> Memory:
    """Memory of the rank that holds most.

    Args:
        peak: of a micro-step of this model.
        ranks: number of ranks.
        sharded: whether model and optimizer are cut over the ranks (fsdp), or whole on each.
        average: whether an average of the weights is kept.
        kernels: bytes that the kernels of a CPU keep.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    reached = [p for name, p in model.named_parameters() if name in peak.reached]
    cut = ranks if sharded else 1
    gradients = _bytes(reached, cut)
    activations, copies = peak.beside(gradients / max(1, _bytes(reached)))
    return Memory(
        parameters=_bytes(trained, cut),
        gradients=gradients,
        moments=2 * gradients,
        average=average * gradients,
        frozen=_bytes((p for p in model.parameters() if not p.requires_grad), cut)
        + _bytes(model.buffers())
        + tokenizers(model),
        exchange=_gathered(model) if cut > 1 else _bytes(trained) if ranks > 1 else 0,
        copies=copies,
        activations=activations,
        kernels=kernels,
    )


def _bytes(tensors: Iterable[Tensor], ranks: int = 1) -> int:
    """Bytes on the fullest rank: FSDP2 cuts along the first axis, some ranks hold a row more."""
    return sum(math.prod([-(-_rows(t) // ranks), *t.shape[1:]]) * t.itemsize for t in tensors)


def _rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.ndim else 1


def _gathered(model: nn.Module) -> int:
    """Bytes of weights that FSDP2 has whole at the worst moment: the root and `WHOLE` units."""
    units = [_bytes(unit.parameters()) for unit in units_of(model)]
    return _bytes(model.parameters()) - sum(units) + WHOLE * max(units, default=0)


def tokenizers(model: nn.Module) -> int:
    """Bytes of the tokenizers that a paradigm holds."""
    parts = model.tokenizers().values() if isinstance(model, Paradigm) else ()
    each = [part for part in parts if isinstance(part, nn.Module)]
    return sum(_bytes([*part.parameters(), *part.buffers()]) for part in each)


def travels(model: nn.Module, peak: Peak, ranks: int, sharded: bool, micro_steps: int) -> float:
    """Bytes into and out of a rank in a step, a lower bound.

    fsdp gathers weights forward and backward and scatters gradients, in every micro-step; ddp
    reduces gradients once, which is as much as a scatter and a gather.
    """
    reached = _bytes(p for name, p in model.named_parameters() if name in peak.reached)
    once = 2 * _bytes(model.parameters()) + reached if sharded else 2 * reached
    return (micro_steps if sharded else 1) * once * (ranks - 1) / ranks


def checkpoint_bytes(model: nn.Module, peak: Peak, average: bool) -> int:
    """Weights without frozen parts that have a source, moments and average (unify/training)."""
    state, first = model.state_dict(), names_of_one(model)
    kept = {first.get(name, name) for name in state.keys() - left_out(model)}
    reached = _bytes(p for name, p in model.named_parameters() if name in peak.reached)
    return _bytes(state[name] for name in kept) + (2 + average) * reached


def host_bytes(model: nn.Module, checkpoint: int, ranks: int, sharded: bool, workers: int) -> int:
    """Host memory of one rank: process, workers, and the larger of loading and saving the model.

    What brings weights counts whole on every rank, though files of fp32 are mapped, and shared; all
    else under fsdp unit by unit. A save is a copy of what the rank holds, and the bytes of the file
    that it writes its share of them to.
    """
    brought = _bytes(kept_parameters(model))
    units = [_bytes(unit.parameters()) for unit in units_of(model)]
    loading = brought + max(units, default=0) if sharded else _bytes(model.parameters())
    saving = checkpoint // (ranks if sharded else 1) + checkpoint // ranks
    return PROCESS + workers * WORKER + max(loading + tokenizers(model), saving)
