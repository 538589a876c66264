"""Exact resume: killed with SIGKILL at random moments, a run ends as if it had never been.

Real processes, started from a fork server that has imported what they need.
"""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import resume_child
from places import PYTHONPATH, ROOT

from unify.runs.checkpoint_folder import steps as checkpoints_of
from unify.runs.journal import Journal


@pytest.fixture(scope="module")
def processes():
    # the fork server does not get pytest's sys.path
    os.environ["PYTHONPATH"] = PYTHONPATH
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resume_child"])
    return context


CODEBOOK = "tokenizers/shapes_vq"
DRAWS_ONLY = ("queries_dit", "crossflow")


def start(processes, folder, paradigm, workers, accumulation, steps):
    rows = 2 * accumulation
    tasks = f"text_to_image: {3 * rows}, caption: null, vqa: null"
    if paradigm == CODEBOOK:
        tasks = f"image: {3 * rows}"
    elif paradigm not in DRAWS_ONLY:
        tasks = f"text_to_image: {rows}, caption: {rows}, vqa: {rows}"
    overrides = [
        f"machine.runs={folder}",
        f"machine.workers={workers}",
        f"machine.micro_batch={6 if accumulation > 1 else 0}",
        "machine.precision=32-true",
        "machine.tracker=none",
        f"steps={steps}",
        "optimizer.warmup=5",
        "logging.metrics_every=1",
        "logging.checkpoint_every=1",
        f"data.tasks={{{tasks}}}",
    ]
    if paradigm == CODEBOOK:  # moved by averages and restarts, of which none is a gradient
        codes = "size: 64, dim: 4, revive_below: 2.0"
        overrides.append(f"model.quantizer={{class: unify.tokenizers.vq.EMACodebook, {codes}}}")
    path = str(ROOT / "experiments" / f"{paradigm}.yaml")
    process = processes.Process(target=resume_child.run, args=(path, overrides))
    process.start()
    return process


def checkpoints(folder: Path) -> int:
    return max((int(p.name[5:]) for p in folder.glob("*/*/checkpoints/step-*")), default=0)


def finish(process):
    process.join(300)
    assert process.exitcode == 0
    process.close()


def outcome(folder: Path):
    (run,) = [path.parent for path in folder.glob("*/*/run.json")]
    records = Journal(run).records("train")
    weights = (run / "export" / "model.safetensors").read_bytes()
    assert len(checkpoints_of(run / "checkpoints")) == 2, "older checkpoints are pruned"
    assert not list(run.glob("checkpoints/.tmp*"))
    return records, weights


def kill_once(process, folder, chance) -> bool:
    """Let it make some progress, then SIGKILL it (and its loader workers) at a random moment."""
    before, goal = checkpoints(folder), chance.randint(1, 3)
    end = time.monotonic() + 120
    while process.is_alive() and checkpoints(folder) < before + goal:
        assert time.monotonic() < end
        time.sleep(0.002)
    time.sleep(chance.random() * 0.05)
    killed = process.is_alive()
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    return killed


def drill(processes, tmp_path, paradigm, workers, accumulation, kills):
    calm, rough, steps = tmp_path / "calm", tmp_path / "rough", 12 * kills
    settings = (paradigm, workers, accumulation, steps)
    finish(start(processes, calm, *settings))
    chance, done = random.Random(str(settings)), 0
    while done < kills and checkpoints(rough) < steps:
        done += kill_once(start(processes, rough, *settings), rough, chance)
    finish(start(processes, rough, *settings))
    (records, weights), (again, weights_again) = outcome(calm), outcome(rough)
    assert done == kills
    assert [r["step"] for r in records] == list(range(1, steps + 1))
    assert records == again, "losses, rates, gradient norms and sample ids"
    assert weights == weights_again


EACH = [(p, w, a) for p in ("ar_vq", "transfusion") for w in (0, 2) for a in (1, 2)]
USUAL = ("transfusion", 2, 1)  # accumulation is in OTHERS
CASES = [
    pytest.param(*case, marks=pytest.mark.slow if case == USUAL else pytest.mark.drill)
    for case in EACH
]
CASE = pytest.mark.parametrize(("paradigm", "workers", "accumulation"), CASES)
OTHERS = [
    CODEBOOK,
    *(pytest.param(p, marks=pytest.mark.drill) for p in ("dual_tower", "queries_dit", "crossflow")),
]


@pytest.mark.fault(7, times=3)
@CASE
def test_three_kills_leave_no_trace(processes, tmp_path, paradigm, workers, accumulation):
    drill(processes, tmp_path, paradigm, workers, accumulation, 3)


@pytest.mark.fault(7, times=2)
@pytest.mark.slow
@pytest.mark.parametrize("paradigm", OTHERS)
def test_kills_leave_no_trace_in_any_paradigm(processes, tmp_path, paradigm):
    drill(processes, tmp_path, paradigm, workers=2, accumulation=2, kills=2)


@pytest.mark.fault(7, times=10)
@pytest.mark.drill
@pytest.mark.parametrize(("paradigm", "workers", "accumulation"), EACH)
def test_ten_kills_leave_no_trace(processes, tmp_path, paradigm, workers, accumulation):
    drill(processes, tmp_path, paradigm, workers, accumulation, 10)
