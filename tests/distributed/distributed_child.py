"""One rank of a training in several processes; each writes what came out. Not a test itself.

distributed_child.py OUT FILE.yaml ... steps=3 [strategy=fsdp] [dtype=float64] [every=1]
                     [workers=0,1]

Goes on from the newest checkpoint in OUT-FILE/checkpoints, and leaves OUT-FILE.<rank>; with several
numbers of workers, OUT<workers>-FILE.<rank> of each. [faults=loss:nan:1,...] are injected into runs
of their own, OUT-<number>, whose messages are in OUT-<number>.<rank>.
"""

import sys
from functools import partial
from pathlib import Path

import lightning as L
import torch

from unify.assembly.assemble import assemble
from unify.assembly.sharding import shard
from unify.config import load_recipe
from unify.distributed.ranks import World, end, full_tensor, join, local_shard
from unify.nn.init import initialise
from unify.runs.checkpoint_folder import STATE, latest_valid
from unify.runs.journal import Journal
from unify.schema.experiment import Machine
from unify.training.callbacks import Recorder
from unify.training.checkpointing import Checkpoints
from unify.training.lightning_module import TrainingModule
from unify.training.step_record import NonFiniteError
from unify.training.strategies import environment_of, strategy_of
from unify.training.trainer import TrainingData

del __file__  # else loader processes would import all of this again

ROWS = 8  # of each task: they divide over 1, 2 and 4 ranks


class Steps(L.Callback):
    """Losses and gradient norms of every step, the first gradient, the samples of this rank."""

    def __init__(self):
        self.losses, self.ids, self.gradient = [], [], {}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if not self.gradient:
            grads = [(n, p.grad) for n, p in module.model.named_parameters()]
            self.gradient = {n: full_tensor(g).clone() for n, g in grads if g is not None}

    def on_train_batch_end(self, trainer, module, *_):
        self.losses.append({name: float(value) for name, value in module.record.metrics.items()})
        self.ids.append(dict(module.record.sample_ids))


def in_double(module, arguments):
    return tuple(a.double() if torch.is_floating_point(a) else a for a in arguments)


class Spoil(L.Callback):
    """On one rank, in its third step: `<place>:<value>:<rank>`."""

    def __init__(self, fault: str):
        self.place, value, rank = fault.split(":")
        self.value, self.rank = float(value), int(rank)

    def _now(self, trainer):
        return trainer.global_step == 2 and trainer.global_rank == self.rank

    def on_train_batch_start(self, trainer, module, batch, _):
        if not self._now(trainer):
            return
        if self.place == "pixel":
            for segment in (s for part in batch.values() for s in part.segments):
                if isinstance(segment.data, torch.Tensor):
                    segment.data[-1, 0, 0, 0] = self.value
        if self.place == "weight":
            with torch.no_grad():
                local_shard(next(module.model.parameters())).view(-1)[0] = self.value
        if self.place == "loss":
            whole_loss = module.model.loss
            module.model.loss = lambda *words: self._spoilt(whole_loss(*words))

    def _spoilt(self, terms):
        next(iter(terms.values())).value[0] += self.value
        return terms

    def on_before_optimizer_step(self, trainer, module, _):
        if self.place == "gradient" and self._now(trainer):
            gradients = (p.grad for p in module.model.parameters() if p.grad is not None)
            local_shard(next(gradients)).view(-1)[0] = self.value


def main(out: str, *words: str) -> None:
    torch.set_num_threads(1)
    here = join(timeout_s=60, accelerator="cpu")
    settings = dict(word.split("=") for word in words if "=" in word)
    each = settings.get("workers", "0").split(",")
    for path in (Path(word) for word in words if word.endswith(".yaml")):
        for workers in each:
            place = f"{out}{workers if len(each) > 1 else ''}-{path.stem}"
            facts = train(path, Path(place), {**settings, "workers": workers}, here)
            torch.save(facts, f"{place}.{here.rank}")
        for number, fault in enumerate(filter(None, settings.get("faults", "").split(","))):
            place = Path(f"{out}-{number}")
            try:
                train(path, place, settings, here, Spoil(fault))
            except NonFiniteError as error:
                Path(f"{place}.{here.rank}").write_text(str(error))


def train(
    path: Path, folder: Path, settings: dict[str, str], here: World, *extra: L.Callback
) -> dict:
    """Train in `folder` by `key=value` words; losses, samples, gradient, weights and averages."""
    machine = Machine(accelerator="cpu", strategy=settings.get("strategy", "auto"), timeout=60)
    steps, every = int(settings["steps"]), int(settings.get("every", 0))
    config = load_recipe(str(path), ["ema=0.5", "optimizer.warmup=1"], tiny=True)
    config["data"]["tasks"] = dict.fromkeys(config["data"]["tasks"], ROWS)
    sharded = machine.strategy == "fsdp" and here.size > 1
    recipe = assemble(config, {}, meta=sharded)
    if settings.get("dtype") == "float64":
        recipe.model.double()
        for part in recipe.model.modules():
            if isinstance(part, (torch.nn.Linear, torch.nn.modules.conv._ConvNd)):
                part.register_forward_pre_hook(in_double)
    if not sharded:
        initialise(recipe.model, 0)
    module = TrainingModule(
        recipe.model,
        recipe.loss_weights,
        recipe.optimizer,
        steps,
        recipe.ema,
        recipe.seeds,
        partial(shard, seed=0) if sharded else None,
    )
    recipe.data.prepare(0, int(settings.get("workers", 0)))
    recorded, recorder = Steps(), Recorder(Journal(folder), 2)
    saving = [Checkpoints(folder / "checkpoints", every, keep=100, beside=True)] if every else []
    trainer = L.Trainer(
        accelerator="cpu",
        devices=here.local_size,
        strategy=strategy_of(machine, here, sharded=True),
        plugins=[environment_of(here)],
        max_steps=steps,
        max_epochs=-1,
        callbacks=[*extra, recorded, recorder, *saving],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    resume = latest_valid(folder / "checkpoints")
    trainer.fit(
        module,
        TrainingData(recipe.data),
        ckpt_path=resume and resume / STATE,
        weights_only=True,
    )
    assert trainer.world_size == here.size
    raw = {name: full_tensor(p).clone() for name, p in recipe.model.state_dict().items()}
    module.finish()
    return {
        "losses": recorded.losses,
        "ids": recorded.ids,
        "gradient": recorded.gradient,
        "weights": raw,
        "averages": {name: full_tensor(p) for name, p in recipe.model.state_dict().items()},
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
    end(0)
