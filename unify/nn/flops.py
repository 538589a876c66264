"""FLOPs: counted in a pass if no simple formula exists, and the pairs that attention scores."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@torch.no_grad()
def counted(run: Callable[[], object]) -> float:
    """FLOPs of one call; attention by its plain form, which the counter knows on every device."""
    from torch.utils.flop_counter import FlopCounterMode  # brings triton along

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


_dense = ContextVar("dense", default=False)


@contextmanager
def dense() -> Iterator[None]:
    """Let formulas count every pair of query and key, as a dense attention kernel computes them."""
    token = _dense.set(True)
    try:
        yield
    finally:
        _dense.reset(token)


def scored(pairs: int, queries: int, keys: int) -> int:
    """Number of pairs that attention scores: those of the mask, or within `dense` all."""
    return queries * keys if _dense.get() else pairs


def causal(queries: int, context: int = 0, blocks: Sequence[int] = ()) -> int:
    """Number of pairs of queries that read a context, themselves and the queries before them.

    `blocks`: sizes of bidirectional blocks among the queries, which read all of themselves.
    """
    ahead = sum(n * (n - 1) // 2 for n in blocks)
    pairs = queries * context + queries * (queries + 1) // 2 + ahead
    return scored(pairs, queries, context + queries)


def matrices(part: nn.Module, blocks: nn.Module) -> int:
    """Weights of the matrices in `blocks`. ValueError if `part` has others, or of more dimensions.

    A formula that reads the blocks alone would leave those out, and budgets are solved from it.
    """
    inside = {id(p): p.numel() for p in blocks.parameters() if p.ndim == 2}
    tables = {id(m.weight) for m in part.modules() if isinstance(m, nn.Embedding)}  # are looked up
    for name, weight in part.named_parameters():
        if weight.ndim > 1 and id(weight) not in inside.keys() | tables:
            raise ValueError(
                f"{type(part).__name__}: the FLOPs of {name} {[*weight.shape]} are in no formula, "
                "and budgets are solved from them; define `flops` in that class"
            )
    return sum(inside.values())


def after_keys(block: nn.Module, tokens: int, pairs: int, width: int) -> float:
    """FLOPs of a block's forward pass without its projections to keys and values.

    No gradient comes back through them in the last block of a prefix that is only asked.

    Args:
        width: numbers of all query heads together.
    """
    keys = ("qkv.weight", "k_proj.weight", "v_proj.weight")
    weights = sum(
        p.numel() for name, p in block.named_parameters() if p.ndim == 2 and not name.endswith(keys)
    )
    return 2.0 * weights * tokens + 4.0 * pairs * width
