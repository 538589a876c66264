"""Memory that a training step takes beside the model, counted on tensors without memory.

The real loss of a batch of the real shapes runs forward and backward on fake tensors (torch's
FakeTensorMode: shape and type, no values), and every storage is counted from its making to its end.
torch's own MemTracker does as much, but hangs a hook on every parameter, which frozen ones refuse.

A step may not depend on values: what a loss reads from a tensor (`item`, `tolist`) is 0 or False.
Kernels are those of a CPU, but for attention where a GPU's is meant (`_fused`).

B rows, H heads, G key-value heads, S keys, Sq queries, d numbers of a head.
"""

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from unify.batch import Batch, Segment
from unify.nn.attention import FLEX_FROM, set_backend
from unify.nn.masks import Mask
from unify.noise import Noise
from unify.paradigm import Paradigm, Term, Trainable
from unify.schema.experiment import Recipe
from unify.tokenizer import TextTokenizer

READ = torch.ops.aten._local_scalar_dense.default
CAST = torch.ops.aten._to_copy.default
MODEL, GRADIENTS, COPIES, ACTIVATIONS = range(4)  # kinds of storages

Now = Counter[int]  # bytes by kind


class Moment(NamedTuple):
    """Bytes alive beside the model at one moment of a micro-step."""

    gradients: int  # of parameters, summed over all their uses
    copies: int  # weights in the precision of autocast
    others: int  # the batch, activations, and gradients on their way


@dataclass(frozen=True)
class Peak:
    """The moments of a micro-step in which most is there, by what is in shards and what is not."""

    reached: frozenset[str]  # names of the parameters that get a gradient
    moments: tuple[Moment, ...]  # the first: in the forward pass, beside all gradients

    def beside(self, share: float = 1.0) -> tuple[int, int]:
        """(activations, copies) in bytes at the worst moment, beside model and all gradients, where
        a rank has a `share` of the gradients in its shards."""

        def extra(moment: Moment) -> float:
            missing = self.moments[0].gradients - moment.gradients
            return moment.copies + moment.others - share * missing

        worst = max(self.moments, key=extra)
        copies = min(worst.copies, int(extra(worst)))
        return int(extra(worst)) - copies, copies


def peak(
    recipe: Recipe, rows: Mapping[str, int], accumulates: bool = False, gpu: bool = False
) -> Peak:
    """Peak memory of a micro-step.

    Args:
        recipe: a built run; its model has no memory afterwards.
        rows: rows of each task in the micro-step.
        accumulates: whether gradients of earlier micro-steps are kept.
        gpu: count attention as GPU kernels do it.

    The gradients of the step before are there in the forward pass, since Lightning drops them only
    after it; where a step `accumulates` over micro-steps, in the backward pass as well.
    ValueError for a loss that cannot be followed without values.
    """
    model, live = recipe.model, Live()
    assert isinstance(model, Trainable)
    with FakeTensorMode(allow_non_fake_inputs=True), _fused(recipe) if gpu else nullcontext():
        _hollow(model, live)
        try:
            forward = _forward(recipe, rows, live)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ValueError(
                f"the shapes in {type(model).__name__}'s loss depend on values ({error}): what it "
                "holds cannot be known without computing it"
            ) from error
    gradients = live.now[GRADIENTS]
    moments = [
        Moment(before or now[GRADIENTS], now[COPIES], now[ACTIVATIONS])
        for now, before in (
            (forward, gradients),
            (live.most, accumulates * gradients),
            (live.beside, accumulates * gradients),
        )
    ]
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    return Peak(frozenset(reached), tuple(moments))


def _beside(now: Now) -> int:
    """Bytes that are neither model nor gradients."""
    return now[ACTIVATIONS] + now[COPIES]


class Live(TorchDispatchMode):
    """Counts the bytes of storages that are alive.

    `most` and `beside` are the counts at the peak since `restart`: the peak of everything, and that
    of what is neither model nor gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = WeakIdKeyDictionary()  # storage -> [kind, bytes]
        self.now: Now = Counter()
        self.restart()

    def restart(self) -> None:
        """Forget the peak: the next one counts from what is alive now."""
        self.most, self.beside = Counter(self.now), Counter(self.now)

    def count(self, tensor: Tensor, kind: int) -> None:
        """Count the tensor's storage as `kind` from now on."""
        storage = tensor.untyped_storage()
        entry = self.held.get(storage)
        if entry is None:
            entry = self.held[storage] = [kind, storage.nbytes()]
            weakref.finalize(storage, self._gone, entry).atexit = False
        else:
            self._gone(entry)
            entry[0] = kind
        self.now[kind] += entry[1]

    def _gone(self, entry: list[int]) -> None:
        self.now[entry[0]] -= entry[1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is READ:
            dtype = args[0].dtype
            return False if dtype is torch.bool else 0.0 if dtype.is_floating_point else 0
        out = func(*args, **(kwargs or {}))
        kind = COPIES if func is CAST and isinstance(args[0], nn.Parameter) else ACTIVATIONS
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage() not in self.held:
                self.count(leaf, kind)
        if self.now.total() > self.most.total():
            self.most = Counter(self.now)
        if _beside(self.now) > _beside(self.beside):
            self.beside = Counter(self.now)
        return out


def _forward(recipe: Recipe, rows: Mapping[str, int], live: Live) -> Now:
    """Run one micro-step as `TrainingModule` does; the counts at the peak of its forward pass."""
    model = recipe.model
    assert isinstance(model, Trainable)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda p: live.count(p.grad, GRADIENTS)  # type: ignore[arg-type]
            )
    model.train()
    with live:
        with _precision(recipe.machine.precision):
            total = _loss(recipe, {task: _batch(recipe, task, n) for task, n in rows.items()})
        forward = live.most
        live.restart()
        total.backward()
    return forward


def _precision(name: str) -> AbstractContextManager[None]:
    """The trainer's autocast: each use of a weight casts it anew and keeps the copy."""
    mixed = MixedPrecision("bf16-mixed", "cpu")
    return mixed.forward_context() if name == mixed.precision else nullcontext()


def _loss(recipe: Recipe, batches: Mapping[str, Batch]) -> Tensor:
    """The weighted loss of all tasks, without the metrics that are only recorded."""
    terms: dict[str, list[Term]] = {}
    for batch in batches.values():
        for name, term in recipe.model.loss(batch, _Empty([()] * len(batch))).items():  # type: ignore[union-attr]
            terms.setdefault(name, []).append(term)
    parts = [
        recipe.loss_weights[name] * torch.cat([term.value for term in rows]).mean()
        for name, rows in terms.items()
    ]
    return torch.stack(parts).sum()


class _Empty(Noise):
    """Noise of the right shapes and no values."""

    def _draw(self, function: Any, name: str, shape: Any) -> Tensor:
        return torch.empty(len(self.rows), *shape)


def _batch(recipe: Recipe, task: str, n: int) -> Batch:
    """n rows, all like the first of the training split."""
    first = recipe.data.batch(task, "train", [0])
    columns = [
        replace(c, data=c.texts * n, present=torch.ones(n, dtype=torch.bool))
        if c.kind == "text"
        else Segment.image(torch.empty(n, *c.images.shape[1:]), c.role)
        for c in first.segments
    ]
    return Batch(task, columns, first.keys * n)


def _hollow(model: nn.Module, live: Live) -> None:
    """Replace parameters and buffers by tensors without memory, tied by tied; encode no text."""
    fake: dict[int, tuple[Tensor, Tensor]] = {}  # by id, which its first half keeps from reuse
    tokenizers = model.tokenizers().values() if isinstance(model, Paradigm) else ()
    for tokenizer in tokenizers:
        if isinstance(tokenizer, TextTokenizer):
            object.__setattr__(tokenizer, "encode", _encoded)
    for whole in (model, *(part for part in tokenizers if isinstance(part, nn.Module))):
        for part in whole.modules():
            tables: list[dict[str, Any]] = [part._parameters, part._buffers]
            for named in tables:
                for name, tensor in named.items():
                    if tensor is not None:
                        named[name] = fake.setdefault(id(tensor), (tensor, _fake(tensor)))[1]
    for _, tensor in fake.values():
        live.count(tensor, MODEL)


def _fake(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _encoded(texts: list[Any], length: int) -> tuple[Tensor, Tensor]:
    """`encode` of a text tokenizer for any texts: zeros and trues [B length]."""
    shape = (len(texts), length)
    return torch.zeros(shape, dtype=torch.long), torch.ones(shape, dtype=torch.bool)


@contextmanager
def _fused(recipe: Recipe) -> Iterator[None]:
    """Attention as GPUs have it: FlexAttention, or below its size and where `machine.attention`
    says so, kernels that read a dense mask; none keeps scores."""
    named = recipe.machine.attention
    dense = named in ("sdpa", "xformers")

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
        if dense or (named == "auto" and mask.keys < FLEX_FROM):
            mask.dense()
        return _Kernel.apply(q.to(v.dtype), k.to(v.dtype), v)

    before = set_backend(attend)
    try:
        yield
    finally:
        set_backend(before)


class _Kernel(torch.autograd.Function):
    """Attention that keeps what FlashAttention does: inputs, output, a number for each query
    (arXiv:2307.08691)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, normaliser = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, normaliser)  # q [B H Sq d], k and v [B G S d]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *_ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
