"""What a run will hold, against what runs do hold: parts exactly, the whole within 10%."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
from memory_child import of_process, start_anew
from places import ROOT
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from typer.testing import CliRunner

from unify.cli import app
from unify.config import build_recipe, load_recipe
from unify.costs import activation_memory as peak_module
from unify.costs.gpu_forecast import Candidates, Hardware, forecast
from unify.costs.gpu_forecast_text import lines
from unify.costs.gpu_specs import GPUS, Gpu, step_seconds
from unify.costs.rank_memory import PARTS, checkpoint_bytes
from unify.costs.step_cost import cost_of
from unify.nn.init import initialise
from unify.training.train_run import train

EXPERIMENTS = ROOT / "experiments"
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc (Linux)")
FIVE = ("ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow")
ROWS = ["data.tasks.text_to_image=24", "data.tasks.caption=12", "data.tasks.vqa=28"]
TRUNK = ["model.trunk.dim=512", "model.trunk.depth=8", "model.trunk.heads=8"]
ONE_TASK = ["data.tasks.caption=null", "data.tasks.vqa=null"]
LARGE = {  # hundreds of megabytes, so that tensors are what a process grows by
    "ar_vq": [*TRUNK, *ROWS],
    "transfusion": [*TRUNK, *ROWS],
    "dual_tower": [*TRUNK, *ROWS],
    "crossflow": [*TRUNK, "data.tasks.text_to_image=64"],
    "queries_dit": [
        "data.tasks.text_to_image=64",
        "model.denoiser={width: 512, depth: 8, heads: 8, condition_dim: 256}",
        "model.connector={dim: 256, encoder: {dim: 256, depth: 4, heads: 4}}",
        "model.llm.trunk={dim: 256, depth: 4, heads: 4}",
        "model.llm.vision={dim: 256, heads: 4}",
    ],
}


def asked(ranks=1, gpu="cpu", notice=120.0):
    return Hardware(ranks, gpu, mfu=0.4, written=1e9, notice=notice)


def tiny(name, *words):
    return load_recipe(EXPERIMENTS / f"{name}.yaml", words, tiny=True)


def memory(config, ranks=1, **machine):
    return Candidates(config, asked(ranks)).under(machine).memory


class Held(L.Callback):
    """Bytes of the model, its gradients and its optimizer after a step."""

    def on_before_zero_grad(self, trainer, experiment, optimizer):
        self.gradients = sum(p.grad.nbytes for p in self.trained(experiment) if p.grad is not None)

    def trained(self, experiment):
        return [p for p in experiment.model.parameters() if p.requires_grad]

    def on_train_batch_end(self, trainer, experiment, *_):
        model, states = experiment.model, trainer.optimizers[0].state.values()
        parts = [t for t in model.tokenizers().values() if isinstance(t, nn.Module)]
        self.parameters = sum(p.nbytes for p in self.trained(experiment))
        whole = [*model.parameters(), *model.buffers()]
        beside = [x for part in parts for x in (*part.parameters(), *part.buffers())]
        self.frozen = sum(x.nbytes for x in (*whole, *beside)) - self.parameters
        self.moments = sum(s["exp_avg"].nbytes + s["exp_avg_sq"].nbytes for s in states)
        self.average = sum(s["ema"].nbytes for s in states)


@pytest.mark.parametrize("name", FIVE)
def test_the_parts_are_those_of_a_real_run_and_so_is_its_checkpoint(name, tmp_path):
    words = [f"machine.runs={tmp_path}", "machine.tracker=none", "machine.accelerator=cpu"]
    wider = ["model.denoiser={width: 128}"] if name == "queries_dit" else ["model.trunk.dim=128"]
    config, held = tiny(name, *words, *wider, "steps=2"), Held()
    run = train(config, lambda _: None, [held])
    tried = Candidates(config, asked()).under({})
    for part in ("parameters", "gradients", "moments", "average", "frozen"):
        assert getattr(tried.memory, part) == getattr(held, part), part
    assert tried.memory.total == sum(getattr(tried.memory, part) for part in PARTS)
    files = sum(p.stat().st_size for p in run.folder.glob("checkpoints/step-*/**/*.safetensors"))
    assert checkpoint_bytes(tried.model, tried.peak, average=True) == pytest.approx(files, rel=0.02)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_without_values_holds_what_one_with_values_holds(precision):
    real = build_recipe(tiny("transfusion", f"machine.precision={precision}"), lambda *_: None)
    initialise(real.model, 0)
    counts = []
    for mode in (FakeTensorMode(allow_non_fake_inputs=True), None):
        live = peak_module.Live()
        if mode is not None:
            fake = build_recipe(tiny("transfusion", f"machine.precision={precision}"))
            with mode:
                peak_module._hollow(fake.model, live)
                forward = peak_module._forward(fake, fake.data.tasks, live)
        else:
            parts = (real.model, real.model.image)
            for tensor in (x for part in parts for x in (*part.parameters(), *part.buffers())):
                live.count(tensor, peak_module.MODEL)
            object.__setattr__(real.model.text, "encode", peak_module._encoded)
            forward = peak_module._forward(real, real.data.tasks, live)
        counts.append((forward, live.most, live.now))
    assert counts[0][0] == counts[1][0]
    assert counts[0][1].total() == pytest.approx(counts[1][1].total(), rel=0.01)


def test_shards_are_a_share_of_everything_but_tokenizers_and_activations():
    config = tiny("transfusion", "data.tasks.text_to_image=4", "data.tasks.caption=4", *ROWS[2:])
    whole, half = memory(config), memory(config, 2, strategy="fsdp")
    for part in ("parameters", "gradients", "moments", "average"):
        assert 0.5 <= getattr(half, part) / getattr(whole, part) < 0.51, part
    assert half.frozen == whole.frozen, "a VAE is whole on every rank"
    assert half.activations == pytest.approx(whole.activations / 2, rel=0.2)
    copied = memory(config, 2, strategy="ddp")
    assert (copied.parameters, copied.exchange) == (whole.parameters, whole.gradients)


def test_a_step_holds_less_if_it_recomputes_or_is_made_in_micro_steps():
    config = tiny("transfusion", "model.trunk.dim=64", "model.trunk.depth=3", *ONE_TASK, ROWS[0])
    whole = memory(config)
    for machine in ({"recompute": True}, {"micro_batch": 12}, {"micro_batch": 6}):
        less = memory(config, **machine)
        assert less.activations + less.copies < 0.8 * (whole.activations + whole.copies), machine
        assert less.gradients == whole.gradients


@linux
def test_a_large_trunk_is_planned_without_memory_for_it():
    large = ["model.trunk.dim=4096", "model.trunk.depth=6", "model.trunk.heads=32"]
    config = tiny("transfusion", *large)
    start_anew()
    before = of_process("VmRSS")
    cost = cost_of(config)
    found = forecast(config, cost, asked(1, "h100"))
    assert cost.parameters["total"] > 1.2e9
    assert found.memory.parameters == 4 * cost.parameters["trainable"]
    assert of_process("VmHWM") - before < 0.3 * found.memory.parameters
    assert found.fits


def test_what_is_said_to_help_helps_and_nothing_else(monkeypatch):
    config = tiny("transfusion", "model.trunk.depth=3", *ONE_TASK, "data.tasks.text_to_image=8")
    monkeypatch.setattr("unify.costs.gpu_specs.RESERVED", 0)

    def remedies(usable, ranks=2):
        monkeypatch.setitem(GPUS, "small", Gpu(usable / 0.95, 1e12, 1e12, 1e9))
        found = forecast(config, cost, asked(ranks, "small"))
        for changes in found.remedies:
            machine = {key: value for key, value in changes.items() if key != "gpus"}
            times = changes.get("gpus", ranks) // ranks
            assert tries.under(machine, times).memory.total <= usable, changes
        return found.remedies, "\n".join(lines({"arm": found}, asked(ranks, "small")))

    cost, tries = cost_of(config), Candidates(config, asked(2, "h100"))
    need = tries.under({}).memory.total
    assert remedies(1.01 * need)[0] == []
    several, told = remedies(0.9 * need)
    assert {"recompute": True} in several
    assert "arm: DOES NOT FIT" in told
    assert "machine.recompute=true" in told
    everything = {"micro_batch": 1, "strategy": "fsdp", "recompute": True}
    assert remedies(1.001 * tries.under(everything).memory.total)[0] == [everything]
    assert remedies(1000)[1].count("make it smaller") == 1


def test_a_step_is_bound_by_computing_or_by_what_travels():
    gpu = GPUS["h100"]
    assert step_seconds(gpu, 8, 8 * 989e12, 0, 0.5, fp32=False) == pytest.approx(2.0)
    assert step_seconds(gpu, 8, 1, 450e9, 0.5, fp32=False) == pytest.approx(1.0)
    assert step_seconds(gpu, 16, 1, 450e9, 0.5, fp32=False) == pytest.approx(9.0), "other nodes"


def test_a_save_that_takes_longer_than_the_notice_is_told():
    config = tiny("ar_vq")
    cost = cost_of(config)
    found = {n: forecast(config, cost, asked(1, "h200", notice=n)) for n in (120.0, 1e-9)}
    told = {n: "\n".join(lines({"arm": f}, asked(notice=n))) for n, f in found.items()}
    assert "fits a notice of 120 s" in told[120.0]
    assert "DOES NOT FIT a notice" in told[1e-9]
    assert "lengthen the cluster's `notice`" in told[1e-9]


def test_the_command_plans_for_gpus_only_when_it_is_asked(tmp_path):
    words = ["plan", str(EXPERIMENTS / "ar_vq.yaml"), "--tiny", f"machine.runs={tmp_path}"]

    def run(*more):
        return CliRunner().invoke(app, [*words, *more])

    plain, told = run().output, run("--gpus", "2", "--gpu", "h200", "--cluster", "cpu").output
    assert told.startswith(plain.rstrip("\n"))
    assert "activations" in told
    assert "fits a notice of 60 s" in told
    data = json.loads(run("--gpus", "1", "--gpu", "a100", "--json").output)
    assert set(data) - {"forecast"} == set(json.loads(run("--json").output))
    assert data["forecast"]["ar_vq"]["memory"]["parameters"] > 0
    with pytest.raises(ValueError, match="--gpu b200: not known; choose one of a100, h100, h200"):
        raise run("--gpus", "1", "--gpu", "b200").exception
    with pytest.raises(ValueError, match="give both, or neither"):
        raise run("--gpu", "h100").exception


def test_rows_that_ranks_cannot_share_are_refused_by_name():
    with pytest.raises(ValueError, match=r"data.tasks are .* 3 ranks cannot share"):
        memory(tiny("ar_vq"), 3)


def measured(file, folder, *words, ranks=1):
    """Bytes on one rank; what is freed goes back to the system at once."""
    launched = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    small = {"MMAP_THRESHOLD": 65536, "TRIM_THRESHOLD": 65536, "TOP_PAD": 0, "MMAP_MAX": 1_000_000}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PYTHONPATH": str(ROOT)}
    env |= {f"MALLOC_{key}_": str(value) for key, value in small.items()}
    child = [str(Path(__file__).with_name("memory_child.py")), str(file), str(folder), *words]
    done = subprocess.run(
        [sys.executable, *launched, *child], env=env, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return max(int(line) for line in done.stdout.splitlines() if line.isdigit())


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", FIVE)
def test_a_run_holds_what_was_planned_within_10_percent(name, tmp_path):
    held = measured(EXPERIMENTS / f"{name}.yaml", tmp_path, *LARGE[name])
    planned = memory(tiny(name, *LARGE[name])).total
    print(f"{name}: planned {planned / 1e6:.0f} MB, held {held / 1e6:.0f} MB")
    assert planned == pytest.approx(held, rel=0.1)


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "machine", [{"strategy": "fsdp"}, {"strategy": "fsdp", "recompute": True}, {"strategy": "ddp"}]
)
def test_two_ranks_hold_what_was_planned_within_10_percent(machine, tmp_path):
    said = [f"machine.{key}={json.dumps(value)}" for key, value in machine.items()]
    words = [*LARGE["transfusion"], *said]
    held = measured(EXPERIMENTS / "transfusion.yaml", tmp_path, *words, ranks=2)
    planned = memory(tiny("transfusion", *words), 2).total
    print(f"{machine}: planned {planned / 1e6:.0f} MB, held {held / 1e6:.0f} MB")
    assert planned == pytest.approx(held, rel=0.1)
