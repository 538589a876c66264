"""Tiny experiments and what is forecast for them."""

from pathlib import Path

import pytest
from places import EXPERIMENTS

from unify.config import load_recipe
from unify.costs.gpu_forecast import Candidates, Hardware

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc (Linux)")
ROWS = ["data.tasks.text_to_image=24", "data.tasks.caption=12", "data.tasks.vqa=28"]
ONE_TASK = ["data.tasks.caption=null", "data.tasks.vqa=null"]


def hardware(ranks=1, gpu="cpu", notice=120.0):
    return Hardware(ranks, gpu, mfu=0.4, written=1e9, notice=notice)


def tiny(name, *words):
    return load_recipe(EXPERIMENTS / f"{name}.yaml", words, tiny=True)


def memory(config, ranks=1, **machine):
    return Candidates(config, hardware(ranks)).under(machine).memory
