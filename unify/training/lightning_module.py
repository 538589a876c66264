"""The one LightningModule: terms -> weighted loss -> optimizer, for every paradigm and tokenizer.

    total = sum over terms of weight * (mean over the rows that carry the term)

B rows of a task's micro-batch. Builds nothing and logs nothing: callbacks read `record`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from unify.assembly.sharding import gather_again
from unify.batch import Batch
from unify.distributed.ranks import all_gather, any_rank, full_tensor, ranks, sum_over_ranks
from unify.nn.frozen import kept_state, load_kept, sources
from unify.nn.losses import Mean, weighted
from unify.noise import Noise, seed_torch, stable_seed
from unify.paradigm import Paradigm, Term, Trainable
from unify.runs.cut_texts import not_counted
from unify.schema.experiment import CoolDown, Optimizer, Seeds
from unify.tokenizer import ImageTokenizer
from unify.training.optimizer import parameter_groups, rate_factor, swap_ema, update_ema
from unify.training.step_record import NonFiniteError, StepRecord, check_gradient, check_terms


class TrainingModule(L.LightningModule):
    """Steps a `Trainable`; `record` holds what the last optimizer step did.

    Args:
        model: has the loss.
        loss_weights: weight of each term by name; a term of weight 0 is not trained on.
        optimizer: settings of AdamW and its schedule.
        steps: optimizer steps of the whole run, which the schedule needs.
        ema: decay of the average of the weights; 0 keeps none.
        seeds: key the noise.
        place: `place(model, mesh)` cuts the model into shards; None leaves it whole.
        cooldown: of the learning rate, after a constant one.
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
        cooldown: CoolDown | None = None,
    ):
        super().__init__()
        self.cooldown = cooldown
        self.model, self.loss_weights, self.settings = model, loss_weights, optimizer
        self.steps, self.ema, self.seeds = steps, ema, seeds or Seeds()
        self.record = StepRecord()
        self._micro: list[dict[str, Mean]] = []  # metrics of the micro-steps of this step
        self._ids: dict[str, list[str]] = {}
        self._noise: dict[str, dict[str, str]] = {}  # streams drawn, by task
        self._norm: Tensor | None = None
        self._left_out: dict[str, str] = {}  # frozen part of a checkpoint -> its source
        self._place, self._refused = place, ""  # why this rank refuses the step, if it does

    def configure_model(self) -> None:
        if self._place is not None:
            assert self.device_mesh is not None
            place, self._place = self._place, None
            place(self.model, self.device_mesh["data_parallel"])

    def setup(self, stage: str) -> None:
        if isinstance(self.model, ImageTokenizer) and ranks() > 1:
            self.model.share_updates(sum_over_ranks)  # e.g. of a codebook of running means
        if isinstance(self.model, Paradigm):
            for tokenizer in self.model.tokenizers().values():
                if isinstance(tokenizer, nn.Module):
                    tokenizer.to(self.device)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """State of the model, without frozen parts that can be read again from their source."""
        return {f"model.{key}": value for key, value in kept_state(self.model).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        state = {key.removeprefix("model."): value for key, value in state_dict.items()}
        load_kept(self.model, state, self._left_out)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["left_out"] = sources(self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._left_out = checkpoint.get("left_out", {})

    def training_step(self, batch: dict[str, Batch], index: int) -> Tensor:
        accumulation = self.trainer.accumulate_grad_batches
        micro = len(self._micro)
        self._reseed(micro)
        if self.record.rows == 0:
            self.record = self._sizes(batch, accumulation)
        total, metrics = weighted(self._terms(batch), self.loss_weights)
        self._micro.append(metrics)
        for task in sorted(batch):
            self._ids.setdefault(task, []).extend(batch[task].keys)
        return total

    def losses(self, batch: dict[str, Batch]) -> dict[str, Tensor]:
        """Weighted mean of each term with a weight, as training adds them up."""
        return {
            name: self.loss_weights[name] * torch.cat([term.value for term in terms]).mean()
            for name, terms in self._terms(batch).items()
            if self.loss_weights.get(name)
        }

    def _terms(self, batch: dict[str, Batch]) -> dict[str, list[Term]]:
        """Terms by name, one for each task that has it. Noise is keyed by seed, step and sample."""
        rows: dict[str, list[Term]] = {}
        for task in sorted(batch):
            noise = Noise.for_batch(self.seeds.noise, self.global_step, batch[task], self.device)
            terms = self.model.loss(batch[task], noise)
            self._noise.setdefault(task, {}).update(noise.drawn)
            with self._refusing():
                check_terms(terms, batch[task].keys)
            for name, term in terms.items():
                rows.setdefault(name, []).append(term)
        return rows

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Stop a single process by a NonFiniteError at once; let a rank only note it.

        A rank that left now would leave the others waiting in the backward pass; all stop before
        the update, in `configure_gradient_clipping`.
        """
        try:
            yield
        except NonFiniteError as error:
            if ranks() == 1:
                raise
            self._refused = self._refused or str(error)

    def _reseed(self, micro: int) -> None:
        """Seed the global generator for what takes no key: a library's dropout, a k-means."""
        seed_torch(stable_seed(self.seeds.noise, self.global_step, micro, self.global_rank))

    def _sizes(self, batch: dict[str, Batch], accumulation: int) -> StepRecord:
        """Rows, tokens and FLOPs of one optimizer step, all of whose micro-steps are alike."""
        micro_steps = accumulation * self.trainer.world_size
        return StepRecord(
            rows=micro_steps * sum(len(part) for part in batch.values()),
            tokens=micro_steps * sum(self.model.tokens(part) for part in batch.values()),
            flops=micro_steps * sum(self.model.flops(part) for part in batch.values()),
        )

    def configure_gradient_clipping(self, optimizer, *_args, **_kwargs) -> None:
        """Clip the norm of the whole gradient; stop all ranks if one refuses the step."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip or math.inf)
        self._norm = full_tensor(norm)
        with self._refusing():
            check_gradient(self._norm, [key for keys in self._ids.values() for key in keys])
        if any_rank(bool(self._refused)):
            reasons = [f"rank {r}: {why}" for r, why in enumerate(all_gather(self._refused)) if why]
            raise NonFiniteError("; ".join(reasons))

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        self._record_step()

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def _record_step(self) -> None:
        """Join the metrics of the micro-steps of the optimizer step just made."""
        means: dict[str, Mean] = {}
        for metrics in self._micro:
            for name, mean in metrics.items():
                means[name] = means[name] + mean if name in means else mean
        assert self._norm is not None
        rate = max(group["lr"] for group in self._optimizer.param_groups)
        own = {"lr": Mean(rate, 1), "grad_norm": Mean(self._norm.detach(), 1)}
        means = dict(sorted(means.items())) | own
        self.record = replace(self.record, means=means, sample_ids=self._ids, noise=self._noise)
        self._micro, self._ids, self._norm = [], {}, None

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
            optimizer, lambda step: rate_factor(step, self.steps, settings, self.cooldown)
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
        """The model in eval mode with the averaged weights swapped in; swapped back after.

        Texts that are encoded meanwhile are none of those that the run counts as trained on.
        """
        training, model = self.model.training, self.model
        model.eval()
        self._swap()
        try:
            with not_counted(model.tokenizers().values() if isinstance(model, Paradigm) else ()):
                yield model
        finally:
            self._swap()
            model.train(training)

    def _swap(self) -> None:
        swap_ema(self._optimizer)
        gather_again(self.model)
