"""Cut a model into shards: every rank holds its part of each parameter (FSDP2, arXiv:2304.11277).

    construct(class, args)    a part without memory for what is to be drawn
    shard(model, mesh)        unit by unit: memory, draw, cut; no rank ever holds the whole model

A unit is gathered whole while it computes. Units are what a module lists in `units` (what it calls
through `forward`), else the elements of every list of modules; all else is gathered with the root.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from unify.distributed.ranks import any_rank_in_step
from unify.nn.init import draw, parts_of
from unify.nn.provenance import provenance
from unify.paradigm import Trainable
from unify.sampling import decode_while
from unify.tokenizer import Tokenizer


def shard(model: Trainable, mesh: DeviceMesh, seed: int = 0) -> None:
    """Initialise (nn/init.py) and cut, in place; what has weights keeps them."""
    left = list(parts_of(model))  # children first
    for unit in units_of(model):
        inside = {id(part) for part in unit.modules()}
        _start([pair for pair in left if id(pair[1]) in inside], unit, seed)
        left = [pair for pair in left if id(pair[1]) not in inside]
        fully_shard(unit, mesh=mesh)
    _start(left, model, seed)
    fully_shard(model, mesh=mesh)
    for entry in model.entries:
        register_fsdp_forward_method(model, entry)
    # every rank holds a part of each token's computation, so none may stop decoding alone
    decode_while(any_rank_in_step)


def _start(parts: list[tuple[str, nn.Module]], unit: nn.Module, seed: int) -> None:
    """Memory for what has none, and the first values of `parts`."""
    fill(unit)
    for name, part in parts:
        draw(part, name, seed)


def fill(module: nn.Module) -> None:
    """Give parameters on the meta device memory on the CPU, in place; tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_meta:
                if id(parameter) not in made:
                    empty = torch.empty_like(parameter, device="cpu")
                    made[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
                    made[id(made[id(parameter)])] = parameter  # keeps its id from being reused
                part._parameters[name] = made[id(parameter)]


def units_of(model: nn.Module) -> Iterator[nn.Module]:
    """Modules that are gathered whole, in the order of the model; none is within another."""
    for child in model.children():
        if hasattr(child, "units"):
            units: Any = child.units
            yield from units
        elif isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from units_of(child)


def recompute(model: nn.Module) -> None:
    """Blocks are computed again in the backward pass: ours, and those of diffusers."""
    parts: list[Any] = list(model.modules())
    for part in parts:
        if hasattr(part, "enable_gradient_checkpointing"):
            part.enable_gradient_checkpointing()
        elif isinstance(getattr(part, "checkpoint", None), bool):
            part.checkpoint = True


def gather_again(model: nn.Module) -> None:
    """Give up what is gathered: the shards have changed since."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def construct(cls: type, arguments: dict[str, Any]) -> Any:
    """A part; its parameters have no memory yet. Tokenizers, and what brings weights, are whole."""
    drawn = issubclass(cls, nn.Module) and not issubclass(cls, Tokenizer)
    with _on_meta() if drawn and not provenance(cls).pretrained else nullcontext():
        part = cls(**arguments)
    if issubclass(cls, Tokenizer) and isinstance(part, nn.Module):
        _make_whole(part)
    return part


def _make_whole(tokenizer: nn.Module) -> None:
    """Memory and first values for the parts of a tokenizer, which were made before it."""
    bare: list[Any] = [
        part
        for part in tokenizer.modules()
        if any(p.is_meta for p in part.parameters(recurse=False))
    ]
    fill(tokenizer)
    for part in bare:
        part.reset_parameters()


@contextmanager
def _on_meta() -> Iterator[None]:
    """Parameters that are registered in here have shape and type, and no memory; buffers have."""
    register = nn.Module.register_parameter

    def registered(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(torch.empty_like(param, device="meta"), param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = registered  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
