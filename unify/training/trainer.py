"""Gradient training of one run: model and devices, Lightning's loop, and the callbacks in it."""

import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import Strategy
from torch.utils.data import DataLoader

from unify.assembly.sharding import recompute, shard, units_of
from unify.data.module import Data
from unify.distributed.ranks import broadcast_first, device_of, is_first, world
from unify.evaluation.score_run import check_preview, preview, subject_of
from unify.metrics.metric import available_records
from unify.nn.attention import set_backend
from unify.nn.init import initialise
from unify.paradigm import Paradigm, Trainable
from unify.runs.checkpoint_folder import STATE, latest_valid, step_of
from unify.runs.cut_texts import count_cut, cut_sentence
from unify.runs.folder import Run
from unify.runs.journal import Journal
from unify.schema.experiment import Machine, Recipe
from unify.schema.micro_steps import accumulation
from unify.support.precision import precision_on
from unify.tokenizer import ImageTokenizer
from unify.training.callbacks import Health, Recorder, SampleGrids
from unify.training.checkpointing import Checkpoints
from unify.training.gradient_cosines import Gradients
from unify.training.lightning_module import TrainingModule
from unify.training.lightning_patches import recount_micro_steps, silence_lightning
from unify.training.strategies import Sharded, environment_of, strategy_of
from unify.training.validation import Validation, best_step

Say = Callable[[str], None]

CALIBRATION_IMAGES = 256  # validation images that a tokenizer's latent scale is measured on


def fit(
    run: Run, recipe: Recipe, say: Say, watchers: Sequence[L.Callback]
) -> tuple[int, signal.Signals | None]:
    """Train by gradient, from the newest valid checkpoint if there is one.

    Args:
        run: its folder holds checkpoints, journal and samples.
        recipe: what is trained, on what, for how many steps; its model ends with averaged weights.
        say: takes lines for the user.
        watchers: callbacks that are called before those of the run.

    Returns:
        the steps that are done, of `recipe.steps`, and the signal that asked to stop, if one did,
        perhaps during the last step. Both are the same on all ranks.
    """
    assert isinstance(recipe.model, Trainable)
    machine = recipe.machine
    if machine.threads:
        torch.set_num_threads(machine.threads)
    set_backend(machine.attention)
    strategy, cut = _placed(recipe)
    module = TrainingModule(
        recipe.model,
        recipe.loss_weights,
        recipe.optimizer,
        recipe.steps,
        recipe.ema,
        recipe.seeds,
        cut,
        recipe.cooldown,
    )
    recipe.data.prepare(recipe.seeds.data, machine.workers, machine.timeout)
    callbacks = [*watchers, *_callbacks(run, recipe, module, say)]
    trainer = _trainer(machine, recipe, strategy, callbacks, run.folder)
    newest = broadcast_first(latest_valid(run.folder / "checkpoints") if is_first() else None)
    if newest is not None:
        say(f"resuming from {newest}")
    path = newest / STATE if newest else None
    trainer.fit(module, TrainingData(recipe.data), ckpt_path=path, weights_only=True)
    step = module.record
    if step.rows:  # 0 where all steps had been made before
        sizes = {"rows_per_step": step.rows, "tokens_per_step": step.tokens}
        run.update(**sizes, flops_per_step=step.flops, noise=step.noise)
    _count_cuts(run, recipe, step_of(newest) if newest else 0, say)
    if trainer.global_step == recipe.steps:
        module.finish()
        calibrate(recipe)
    return trainer.global_step, _checkpoints_of(callbacks).stopped_by


def _checkpoints_of(callbacks: Sequence[L.Callback]) -> Checkpoints:
    return next(each for each in callbacks if isinstance(each, Checkpoints))


def _placed(recipe: Recipe) -> tuple[Strategy, Callable[..., None] | None]:
    """Prepare the model for its devices: the strategy, and what cuts it into shards, if it is cut.

    recompute -> compile -> strategy -> shard, as in torchtitan's parallelize.py. Recomputation is a
    flag that a block's forward reads, so the compiler must see it set. Blocks are compiled before
    they are cut, so that FSDP gathers a block outside of its graph. Shards come last: they need the
    strategy's mesh of devices, and draw their first values themselves.
    """
    machine, model = recipe.machine, recipe.model
    assert isinstance(model, Trainable)
    if machine.recompute:
        recompute(model)
    if machine.compile:
        for unit in units_of(model):
            unit.compile()
    strategy = strategy_of(machine, world(), isinstance(model, Paradigm))
    if isinstance(strategy, Sharded):
        return strategy, partial(shard, seed=recipe.seeds.init)
    initialise(model, recipe.seeds.init)
    return strategy, None


def calibrate(recipe: Recipe) -> None:
    """Let a trained tokenizer measure the scale of its latents, on validation images."""
    if isinstance(recipe.model, ImageTokenizer):
        available = available_records(recipe.data.source, "image", "validation")
        count = min(available, CALIBRATION_IMAGES)
        batch = recipe.data.batch("image", "validation", range(count))
        recipe.model.calibrate(batch.segments[0].images)


def _callbacks(run: Run, recipe: Recipe, module: TrainingModule, say: Say) -> list[L.Callback]:
    """The callbacks that report, record, sample, validate and save, in the order that they need."""
    journal, every = Journal(run.folder), recipe.logging
    subject = subject_of(recipe, recipe.seeds.init)
    if every.samples_every:
        check_preview(subject)
    if isinstance(recipe.model, ImageTokenizer):  # which is calibrated at the end
        available_records(recipe.data.source, "image", "validation")
    return [
        Health(journal, every.metrics_every, say),
        Recorder(journal, every.metrics_every),
        Gradients(journal, every.gradients_every),
        SampleGrids(
            run.folder / "samples",
            every.samples_every,
            lambda step: preview(subject, recipe.machine.precision),
            module.averaged,
        ),
        Validation(
            journal,
            every.checkpoint_every,
            every.validation_rows,
            recipe.data,
            recipe.seeds.noise,
            module.averaged,
        ),
        Checkpoints(
            run.folder / "checkpoints",
            every.checkpoint_every,
            every.keep_checkpoints,
            recipe.machine.save_beside,
            partial(best_step, run.folder),
            every.keep_steps,
        ),
    ]


def _count_cuts(run: Run, recipe: Recipe, start: int, say: Say) -> None:
    """Say and note how many texts were longer than their `data.lengths`, of all ranks.

    A run that was stopped at step `start` goes on counting.
    """
    if not isinstance(recipe.model, Paradigm):
        return
    cut, read = count_cut(recipe.model.tokenizers().values())
    before = broadcast_first(run.info if is_first() else {})
    goes_on = start > 0 and (before.get("stopped") or {}).get("step") == start
    if goes_on:
        cut, read = cut + before.get("texts_cut", 0), read + before.get("texts_read", 0)
    since = before.get("texts_since", 0) if goes_on else start
    facts = {"texts_cut": cut, "texts_read": read, "texts_since": since}
    run.update(**facts)
    if said := cut_sentence(facts, {"data": {"lengths": recipe.data.lengths}}):
        say(said)


def _trainer(
    machine: Machine, recipe: Recipe, strategy: Strategy, callbacks: list, folder: Path
) -> L.Trainer:
    """A Lightning Trainer that does the loop alone: journal, checkpoints and progress are ours."""
    assert isinstance(recipe.model, Trainable)
    silence_lightning()
    return L.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy=strategy,
        precision=precision_on(device_of(machine.accelerator), machine.precision),  # type: ignore[arg-type]
        max_steps=recipe.steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulation(recipe.data.tasks, machine, recipe.model.group),
        callbacks=callbacks,
        plugins=[environment_of(world())],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


class TrainingData(L.LightningDataModule):
    """The rest of a run's micro-steps, from the trainer's `global_step` to its `max_steps`."""

    def __init__(self, data: Data):
        super().__init__()
        self.data = data

    def train_dataloader(self) -> DataLoader:
        trainer, data = self.trainer, self.data
        assert trainer is not None
        recount_micro_steps(trainer)
        return data.train_batches(
            data.seed,
            trainer.accumulate_grad_batches,
            trainer.global_step,
            trainer.max_steps,
            trainer.world_size,
            trainer.global_rank,
            data.workers,
            pin=trainer.strategy.root_device.type == "cuda",
        )
