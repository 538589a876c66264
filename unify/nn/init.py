"""Initialisation by name: each module draws from a generator keyed by (seed, qualified name).

So the same part under the same name starts with the same weights in every arm of a study, whatever
else the arm is made of and in whatever order it was built. Children that their parent lists in
`drawn_alike` are drawn under the parent's own name: they start with equal weights.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from unify.nn.provenance import provenance
from unify.noise import seed_torch, stable_seed


def initialise(module: nn.Module, seed: int) -> None:
    """Call `reset_parameters` of every sub-module that owns parameters, in place, on the CPU.

    A sub-tree whose root has a true attribute `pretrained` keeps its weights. ValueError names a
    module that owns parameters and cannot reset them, or that is frozen and starts at zero.
    """
    for name, part in parts_of(module):
        draw(part, name, seed)


def draw(part: nn.Module, name: str, seed: int) -> None:
    """First values of the parameters that a part itself owns, in place, on the CPU."""
    if not any(True for _ in part.parameters(recurse=False)):
        return
    # nn.MultiheadAttention has it under another name
    reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
    if reset is None:
        raise ValueError(
            f"{name or 'the model'} ({type(part).__name__}) owns parameters and has no "
            "reset_parameters(): give it one, or mark it `pretrained = True`"
        )
    # keyed by name: adding or reordering parts changes the first weights of no other part
    with torch.random.fork_rng(devices=[]):
        seed_torch(stable_seed(seed, name))
        reset()
    _check_alive(name, part)


def _check_alive(name: str, part: nn.Module) -> None:
    """Raise ValueError for a frozen matrix of zeros: no gradient would ever pass through it."""
    for parameter in part.parameters(recurse=False):
        if parameter.ndim > 1 and not parameter.requires_grad and not parameter.any():
            whole, _, inside = name.partition(".")
            raise ValueError(
                f"{whole} is frozen and has no weights: its {inside or 'matrix'} starts at zero "
                f"and stays there, and nothing before it would learn; give {whole} weights (of a "
                "run, a folder, a pretrained class) or train it"
            )


def parts_of(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Sub-modules that are drawn, by the names they are drawn under.

    Children first: a parent may overwrite what its children have drawn.
    """
    if provenance(module).pretrained:
        return
    alike = getattr(module, "drawn_alike", ())
    for child_name, child in module.named_children():
        own = [] if child_name in alike else [child_name]
        yield from parts_of(child, ".".join([name, *own] if name else own))
    yield name, module


def kept_parameters(model: Any) -> Iterator[torch.nn.Parameter]:
    """Parameters that a pretrained part brought, which `initialise` does not draw."""
    for part in model.modules():
        if provenance(part).pretrained:
            yield from part.parameters()
