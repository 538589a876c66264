"""The same steps by other means: compiled blocks, and on an accelerator bf16 and FlexAttention.

What needs an accelerator skips where there is none; compiled blocks are tried on the CPU as well,
there without the code generator, which takes minutes.
"""

from functools import partial

import pytest
import torch
from places import EXPERIMENTS
from torch import nn

from unify.config import load_recipe
from unify.nn.attention import set_backend
from unify.runs.journal import Journal
from unify.training.train_run import train

PARADIGMS = ["ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow"]
# blocks that are those of others, on the CPU: with `--drill`
LIKE = ("dual_tower", "queries_dit", "crossflow")
PLAIN = {"accelerator": "cpu", "precision": "32-true", "attention": "sdpa", "compile": False}
FAST = {"accelerator": "cuda", "precision": "bf16-mixed", "attention": "flex", "compile": True}
STEPS = 3


def losses(paradigm, runs, machine):
    """Of every step of a small model."""
    words = [f"machine.{key}={value}" for key, value in machine.items()]
    words += [f"machine.runs={runs}", "machine.tracker=none", f"steps={STEPS}"]
    words += ["logging.metrics_every=1", "machine.reuse=false"]
    config = load_recipe(EXPERIMENTS / f"{paradigm}.yaml", words, tiny=True)
    before = set_backend("auto")
    try:
        run = train(config, lambda _: None)
    finally:
        set_backend(before)
    return [record["loss"] for record in Journal(run.folder).records("train")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "paradigm", [pytest.param(p, marks=pytest.mark.drill) if p in LIKE else p for p in PARADIGMS]
)
def test_compiled_blocks_make_the_steps_of_plain_ones(paradigm, tmp_path, monkeypatch):
    traced = []

    def compiled(self):
        traced.append(self)
        self._compiled_call_impl = torch.compile(self._call_impl, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compiled)
    plain = losses(paradigm, tmp_path / "plain", PLAIN)
    assert not traced
    fast = losses(paradigm, tmp_path / "compiled", PLAIN | {"compile": True})
    assert len(traced) >= 2
    assert len(fast) == STEPS
    assert fast == pytest.approx(plain, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_an_accelerator_makes_the_steps_of_the_cpu(paradigm, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no accelerator: torch finds no CUDA device")
    of = partial(losses, paradigm)
    plain = of(tmp_path / "plain", PLAIN)
    assert of(tmp_path / "fast", FAST) == pytest.approx(plain, rel=2e-2)
    exact = FAST | {"precision": "32-true", "compile": False}
    assert of(tmp_path / "exact", exact) == pytest.approx(plain, rel=1e-3)
