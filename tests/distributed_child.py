"""One rank of a training in several processes; each writes what came out. Not a test itself."""

import sys

import lightning as L
import torch

from unify.callbacks import Recorder
from unify.config import load_recipe
from unify.experiment import Experiment
from unify.journal import Journal
from unify.nn.init import initialise
from unify.train import assemble


class Steps(L.Callback):
    """Losses and gradient norms of every step, and the samples of this rank."""

    def __init__(self):
        self.losses, self.ids = [], []

    def on_train_batch_end(self, trainer, experiment, *_):
        self.losses.append({name: float(value) for name, value in experiment.last.items()})
        self.ids.append([key for keys in experiment.sample_ids.values() for key in keys])


def main(path: str, out: str, world: int) -> None:
    torch.set_num_threads(1)
    config = load_recipe(path, ["ema=0.5", "optimizer.warmup=1"], tiny=True)
    tasks = dict.fromkeys(config["data"]["tasks"], 4)
    config["data"]["tasks"] = tasks
    recipe = assemble(config, {})
    initialise(recipe.model, 0)
    experiment = Experiment(
        recipe.model, recipe.loss_weights, recipe.optimizer, 3, recipe.ema, recipe.seeds
    )
    recipe.data.prepare(0, 0)
    steps = Steps()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        max_steps=3,
        max_epochs=-1,
        callbacks=[steps, Recorder(Journal(f"{out}.run"), 2)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(experiment, recipe.data)
    assert trainer.world_size == world
    facts = {"losses": steps.losses, "ids": steps.ids, "weights": recipe.model.state_dict()}
    torch.save(facts, f"{out}.{trainer.global_rank}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
