"""Lightning's view of `Data`, which itself does not import it, so that configs are read fast."""

from __future__ import annotations

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from unify.data.module import Data
from unify.training.lightning_patches import recount_micro_steps


class TrainingData(LightningDataModule):
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
