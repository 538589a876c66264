"""The one LightningModule: terms -> weighted loss -> optimizer, for every paradigm and tokenizer.

    total = sum over terms of weight * (mean over the rows that carry the term)

B rows of a task's micro-batch. Builds nothing and logs nothing: callbacks read `last`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from unify.assembly.sharding import gather_again
from unify.batch import Batch
from unify.distributed.ranks import any_of, gathered, local, ranks, whole
from unify.nn.frozen import kept_state, load_kept, sources
from unify.noise import Noise, stable_seed
from unify.paradigm import Paradigm, Term, Trainable
from unify.schema.experiment import Optimizer, Seeds
from unify.training.callbacks import NonFiniteError, check_gradient, check_terms

TIME_BINS = 4  # loss by flow time: t in [0, 1/4), [1/4, 1/2), ...


class Experiment(L.LightningModule):
    """Steps a `Trainable`. After each optimizer step:

    `last` holds its metrics (detached scalars), `sample_ids` the keys of the rows it consumed by
    task.
    """

    def __init__(
        self,
        model: Trainable,
        loss_weights: dict[str, float],
        optimizer: Optimizer,
        steps: int,
        ema: float = 0.999,
        seeds: Seeds | None = None,
        place: Callable[..., None] | None = None,
    ):
        """`place(model, mesh)` cuts the model into shards, where there are several ranks."""
        super().__init__()
        self.model, self.loss_weights, self.settings = model, loss_weights, optimizer
        self.steps, self.ema, self.seeds = steps, ema, seeds or Seeds()
        self.last: dict[str, Tensor | float] = {}
        self.sample_ids: dict[str, list[str]] = {}
        self.rows_per_step = self.tokens_per_step = 0
        self.flops_per_step = 0.0
        self._micro: list[dict[str, Tensor]] = []  # metrics of the micro-steps of this step
        self._ids: dict[str, list[str]] = {}
        self._norm: Tensor | None = None
        self._gone: dict[str, str] = {}  # what the checkpoint being loaded had left out
        self._place, self._refused = place, ""  # why this rank's losses of a step are refused

    def configure_model(self) -> None:
        if self._place is not None:
            assert self.device_mesh is not None
            place, self._place = self._place, None
            place(self.model, self.device_mesh["data_parallel"])

    def setup(self, stage: str) -> None:
        if isinstance(self.model, Paradigm):
            for tokenizer in self.model.tokenizers().values():
                if isinstance(tokenizer, nn.Module):
                    tokenizer.to(self.device)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The model's, without its frozen parts that have a source of their own."""
        return {f"model.{key}": value for key, value in kept_state(self.model).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        state = {key.removeprefix("model."): value for key, value in state_dict.items()}
        load_kept(self.model, state, self._gone)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["left_out"] = sources(self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._gone = checkpoint.get("left_out", {})

    def training_step(self, batch: dict[str, Batch], index: int) -> Tensor:
        accumulation = self.trainer.accumulate_grad_batches
        micro = len(self._micro)
        self._reseed(micro)
        if self.rows_per_step == 0:
            self._measure(batch, accumulation)
        total, metrics = weighted(self._terms(batch), self.loss_weights)
        self._micro.append(metrics)
        for task in sorted(batch):
            self._ids.setdefault(task, []).extend(batch[task].keys)
        return total

    def losses(self, batch: dict[str, Batch]) -> dict[str, Tensor]:
        """Each term as it is weighted in training; those of weight 0 left out."""
        return {
            name: self.loss_weights[name] * torch.cat([term.value for term in terms]).mean()
            for name, terms in self._terms(batch).items()
            if self.loss_weights.get(name)
        }

    def _terms(self, batch: dict[str, Batch]) -> dict[str, list[Term]]:
        """Of all tasks, by name."""
        rows: dict[str, list[Term]] = {}
        for task in sorted(batch):
            noise = Noise.for_batch(self.seeds.noise, self.global_step, batch[task], self.device)
            terms = self.model.loss(batch[task], noise)
            with self._refusing():
                check_terms(terms, batch[task].keys)
            for name, term in terms.items():
                rows.setdefault(name, []).append(term)
        return rows

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """What is not finite stops one process at once, and several together, before the update."""
        try:
            yield
        except NonFiniteError as error:
            if ranks() == 1:
                raise
            self._refused = self._refused or str(error)

    def _reseed(self, micro: int) -> None:
        """What cannot be keyed (a library's dropout, a codebook's k-means) draws from here."""
        seed = stable_seed(self.seeds.noise, self.global_step, micro, self.global_rank)
        torch.manual_seed(seed % 2**63)

    def _measure(self, batch: dict[str, Batch], accumulation: int) -> None:
        """Rows, tokens and FLOPs of one optimizer step: constants of the configuration."""
        micro_steps = accumulation * self.trainer.world_size
        self.rows_per_step = micro_steps * sum(len(part) for part in batch.values())
        self.tokens_per_step = micro_steps * sum(self.model.tokens(b) for b in batch.values())
        self.flops_per_step = micro_steps * sum(self.model.flops(b) for b in batch.values())

    def configure_gradient_clipping(self, optimizer, *_args, **_kwargs) -> None:
        """Clip the norm of the whole gradient; a non-finite one stops the run before the update."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip or math.inf)
        self._norm = whole(norm)
        with self._refusing():
            check_gradient(self._norm, [key for keys in self._ids.values() for key in keys])
        if any_of(bool(self._refused)):
            told = [f"rank {r}: {why}" for r, why in enumerate(gathered(self._refused)) if why]
            raise NonFiniteError("; ".join(told))

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        self._close_books()

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def _close_books(self) -> None:
        """Average the micro-steps of the optimizer step just made."""
        names = {name for metrics in self._micro for name in metrics}
        self.last = {
            name: torch.stack([m[name] for m in self._micro if name in m]).nanmean()
            for name in sorted(names)
        }
        assert self._norm is not None
        groups = self._optimizer.param_groups
        self.last["lr"] = max(group["lr"] for group in groups)
        self.last["grad_norm"] = self._norm.detach()
        self.sample_ids, self._micro, self._ids, self._norm = self._ids, [], {}, None

    def configure_optimizers(self):
        settings = self.settings
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, settings),
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
        if self.ema:
            optimizer.register_step_post_hook(lambda *_: update_ema(optimizer, self.ema))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, self.steps, settings)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def finish(self) -> None:
        """After training: the averaged weights stay in, the model is in eval mode."""
        self._swap()
        self.model.eval()

    @contextmanager
    def averaged(self) -> Iterator[Trainable]:
        """The model in eval mode with the averaged weights swapped in; swapped back after."""
        training = self.model.training
        self.model.eval()
        self._swap()
        try:
            yield self.model
        finally:
            self._swap()
            self.model.train(training)

    def _swap(self) -> None:
        swap_ema(self._optimizer)
        gather_again(self.model)


def weighted(
    rows: dict[str, list[Term]], weights: dict[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Terms of all tasks -> the weighted loss, and detached metrics with loss by time bin."""
    total, metrics = torch.zeros(()), {}
    for name, terms in rows.items():
        if name not in weights:
            raise ValueError(
                f"loss_weights has no {name!r}, which the model returns; it has "
                f"{', '.join(weights)}"
            )
        value = torch.cat([term.value for term in terms])  # [rows]
        total = total.to(value.device) + weights[name] * value.mean()
        metrics[f"loss/{name}"] = value.detach().mean()
        if all(term.t is not None for term in terms):
            t = torch.cat([term.t for term in terms if term.t is not None])
            bins = (t * TIME_BINS).long().clamp(max=TIME_BINS - 1)
            for one in range(TIME_BINS):
                metrics[f"loss/{name}/t{one}"] = value.detach()[bins == one].mean()
    metrics["loss"] = total.detach()
    return total, metrics


MATRICES = (  # kinds of layers, and the parameter that decay acts on
    ((nn.Linear, nn.modules.conv._ConvNd), "weight"),
    (nn.MultiheadAttention, "in_proj_weight"),
)


def parameter_groups(model: nn.Module, settings: Optimizer) -> list[dict]:
    """Trainable parameters by learning-rate ratio and weight decay.

    Decay acts on the MATRICES of layers only. The longest matching prefix in
    `lr_ratio` decides a parameter's ratio; a prefix that matches nothing is an error, one of frozen
    parameters alone has no effect.
    """
    matrices = {
        id(getattr(part, name))
        for part in model.modules()
        for kinds, name in MATRICES
        if isinstance(part, kinds)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    matched: set[str] = set()
    for name, parameter in model.named_parameters():
        prefixes = [p for p in settings.lr_ratio if name == p or name.startswith(f"{p}.")]
        matched.update(prefixes)
        if not parameter.requires_grad:
            continue
        ratio = settings.lr_ratio[max(prefixes, key=len)] if prefixes else 1.0
        decay = settings.weight_decay if id(parameter) in matrices else 0.0
        groups.setdefault((ratio, decay), []).append(parameter)
    if unknown := settings.lr_ratio.keys() - matched:
        raise ValueError(
            f"optimizer.lr_ratio: no parameter of the model starts with {sorted(unknown)}"
        )
    return [
        {"params": parameters, "lr": settings.lr * ratio, "weight_decay": decay}
        for (ratio, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def warmup_cosine(step: int, steps: int, settings: Optimizer) -> float:
    """Share of the learning rate at optimizer step `step` (0-based) of `steps`."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = min(1.0, (step - settings.warmup) / max(1, steps - settings.warmup))
    return settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * done)) / 2


@torch.no_grad()
def update_ema(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """state[p]["ema"] <- decay * ema + (1 - decay) * p, warmed up as (1 + step) / (10 + step).

    In the optimizer's state the average is sharded, saved and resumed with it.
    """
    parameters = [
        p for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    if not parameters:
        return
    states = [optimizer.state[p] for p in parameters]
    for state, parameter in zip(states, parameters, strict=True):
        if "ema" not in state:
            state["ema"] = parameter.detach().clone()
    step = float(states[0]["step"])
    share = min(decay, (1 + step) / (10 + step))
    averages = [local(state["ema"]) for state in states]
    torch._foreach_lerp_(averages, [local(p) for p in parameters], 1 - share)


@torch.no_grad()
def swap_ema(optimizer: torch.optim.Optimizer) -> None:
    """Exchange parameters and their averages in place."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            average = optimizer.state.get(parameter, {}).get("ema")
            if average is not None:
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)
