"""A training process to be killed. Imported by the fork server, so that a child starts at once."""

import multiprocessing

import lightning  # noqa: F401
import torch
import vector_quantize_pytorch  # noqa: F401
from diffusers import AutoencoderKL  # noqa: F401

from unify.config import load_recipe
from unify.training.train_run import train


def run(path: str, overrides: list[str]) -> None:
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of its loader workers, as usual
    torch.use_deterministic_algorithms(True)
    train(load_recipe(path, overrides, tiny=True), lambda text: None)
