"""Two processes learn what one does, in shards or not: samples, losses, gradients, weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_child import Commands, run_file, seats
from places import ROOT

from unify.runs.checkpoint_folder import STATE, latest_valid, step_of
from unify.runs.journal import Journal
from unify.training.checkpoint_export import tensors

CHILD = Path(__file__).parent / "distributed_child.py"
SAVED = ["transfusion", "crossflow"]
PARADIGMS = ["ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow"]

pytestmark = pytest.mark.slow


def start(folder, world, *words):
    """Run a file in so many processes."""
    commands = Commands(folder)
    ranks = [commands.start(*words, target=run_file, **seat) for seat in seats(world)]
    for ended in [commands.ended(rank, 600) for rank in ranks]:
        assert ended.status == 0, ended.err


def launch(out, world, *words, paradigms=("transfusion",), launcher=start):
    """Train in so many processes; each leaves a file."""
    files = [str(ROOT / "experiments" / f"{name}.yaml") for name in paradigms]
    launcher(out.parent, world, CHILD, out, *files, *words)


def torchrun(folder, world, *words):
    """Run a file in so many processes that torch's own launcher starts, in a folder."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command = [sys.executable, *torchrun, *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def left(place, world):
    """What each rank left, in their order."""
    return [torch.load(f"{place}.{rank}") for rank in range(world)]


def run(out, world, *words, paradigms=("transfusion",), launcher=start):
    """What each rank left of each paradigm."""
    launch(out, world, *words, paradigms=paradigms, launcher=launcher)
    return {name: left(f"{out}-{name}", world) for name in paradigms}


def apart(one, other):
    """The largest difference between two dicts of tensors, relative to each tensor's largest."""
    assert one.keys() == other.keys()
    worst = 0.0
    for name, tensor in one.items():
        if tensor.is_floating_point():
            size = tensor.abs().max().clamp(min=1e-30)
            worst = max(worst, float((tensor - other[name]).abs().max() / size))
        else:
            assert torch.equal(tensor, other[name])
    return worst


def in_order(ranks):
    """What all ranks read together, by step and task, in the order of the global batch."""
    return [
        {task: [key for part in parts for key in part[task]] for task in parts[0]}
        for parts in zip(*(rank["ids"] for rank in ranks), strict=True)
    ]


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """Three steps of all paradigms, in fp32, by each way; and where the runs are."""
    folder = tmp_path_factory.mktemp("ways")
    launches = {"alone": (1,), "ddp": (2, "strategy=ddp"), "fsdp": (2, "strategy=fsdp")}
    return folder, {
        way: run(folder / way, *words, "steps=3", paradigms=PARADIGMS)
        for way, words in launches.items()
    }


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_two_ranks_make_the_steps_of_one(ways, paradigm, way):
    folder, each = ways
    (alone,), ranks = each["alone"][paradigm], each[way][paradigm]
    first, second = ranks
    for kept in ("weights", "averages", "gradient"):
        assert apart(first[kept], second[kept]) == 0, "ranks stay alike"
    assert apart(alone["gradient"], first["gradient"]) < 1e-5
    for kept in ("weights", "averages"):
        for name, value in alone[kept].items():
            torch.testing.assert_close(first[kept][name], value, atol=1e-4, rtol=1e-3)
    assert in_order(ranks) == alone["ids"]
    for step in range(3):
        norms = [rank["losses"][step]["grad_norm"] for rank in ranks]
        assert norms[0] == norms[1] == pytest.approx(alone["losses"][step]["grad_norm"], rel=1e-3)
        mean = sum(rank["losses"][step]["loss"] for rank in ranks) / 2
        assert mean == pytest.approx(alone["losses"][step]["loss"], rel=1e-5 if step == 0 else 1e-4)
    read = [
        [record["data"] for record in Journal(folder / f"{name}-{paradigm}").records("train")]
        for name in ("alone", way)
    ]
    assert len(read[0]) == 2
    assert read[0] == read[1], "what all ranks read together"


@pytest.mark.parametrize(
    "paradigms", [["transfusion", "queries_dit"], pytest.param(PARADIGMS, marks=pytest.mark.drill)]
)
def test_twenty_steps_in_float64_end_alike(tmp_path, paradigms):
    words = ("steps=20", "dtype=float64")
    alone = run(tmp_path / "alone", 1, *words, paradigms=paradigms)
    sharded = run(tmp_path / "fsdp", 2, *words, "strategy=fsdp", paradigms=paradigms)
    for paradigm in paradigms:
        one, first = alone[paradigm][0], sharded[paradigm][0]
        assert {v.dtype for v in one["gradient"].values()} == {torch.float64}
        assert apart(one["gradient"], first["gradient"]) < 1e-12
        for kept in ("weights", "averages"):
            assert apart(one[kept], first[kept]) < 1e-9, paradigm


@pytest.mark.fault(4, times=5)
def test_the_order_is_the_same_on_any_number_of_ranks_and_workers(tmp_path):
    seen = {}
    for world in (1, 2, 4):
        launch(tmp_path / f"{world}-", world, "steps=3", "workers=0,2")
        for workers in (0, 2):
            ranks = left(tmp_path / f"{world}-{workers}-transfusion", world)
            assert all(len(rank["ids"][0]["caption"]) == 8 // world for rank in ranks)
            sums = [sum(rank["losses"][step]["loss"] for rank in ranks) for step in range(3)]
            seen[world, workers] = in_order(ranks), [value / world for value in sums]
    (order, loss), *others = seen.values()
    for other_order, other_loss in others:
        assert other_order == order
        assert other_loss == pytest.approx(loss, rel=1e-4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Six steps on two ranks in shards, each saved; and what came out."""
    out = tmp_path_factory.mktemp("saved") / "two"
    each = run(out, 2, "steps=6", "every=1", "strategy=fsdp", paradigms=SAVED)
    return out, {paradigm: ranks[0] for paradigm, ranks in each.items()}


@pytest.mark.fault(4, times=len(SAVED))
@pytest.mark.parametrize(
    ("world", "strategy"),
    [(1, "auto"), (2, "fsdp"), pytest.param(2, "ddp", marks=pytest.mark.drill), (4, "fsdp")],
)
def test_what_two_ranks_saved_any_number_resumes(tmp_path, saved, world, strategy):
    source, whole = saved
    for paradigm in SAVED:
        place = tmp_path / f"again-{paradigm}"
        shutil.copytree(f"{source}-{paradigm}", place)
        for step in (4, 5, 6):
            shutil.rmtree(place / "checkpoints" / f"step-{step:08d}")
    words = ("steps=6", "every=1", f"strategy={strategy}")
    resumed = run(tmp_path / "again", world, *words, paradigms=SAVED)
    for paradigm in SAVED:
        first = resumed[paradigm][0]
        assert len(first["losses"]) == 3, "the other half of the run"
        for kept in ("weights", "averages"):
            bound = 0.0 if (world, strategy) == (2, "fsdp") else 1e-4
            assert apart(whole[paradigm][kept], first[kept]) <= bound
        both = (Path(f"{source}-{paradigm}"), tmp_path / f"again-{paradigm}")
        records = [Journal(at).records("train") for at in both]
        assert [r["data"] for r in records[0]] == [r["data"] for r in records[1]]


@pytest.mark.fault(4)
def test_shards_resume_what_one_process_saved(tmp_path):
    (whole,) = run(tmp_path / "one", 1, "steps=4", "every=2")["transfusion"]
    shutil.rmtree(tmp_path / "one-transfusion" / "checkpoints" / "step-00000004")
    words = ("steps=4", "every=2", "strategy=fsdp")
    resumed = run(tmp_path / "one", 2, *words, launcher=torchrun)["transfusion"][0]
    assert len(resumed["losses"]) == 2
    assert apart(whole["weights"], resumed["weights"]) < 1e-4


PLACES = ["pixel", "weight", "loss", "gradient"]
SPOILT = [f"{p}:{v}:{r}" for p in PLACES for v in ("nan", "inf") for r in (0, 1)]


@pytest.mark.fault(21, times=2 * len(SPOILT))
def test_what_is_not_finite_on_one_rank_stops_both_before_the_update(tmp_path):
    for strategy in ("ddp", "fsdp"):
        out = tmp_path / strategy
        words = ("steps=5", "every=1", f"strategy={strategy}", f"faults={','.join(SPOILT)}")
        launch(out, 2, *words)
        for number, fault in enumerate(SPOILT):
            messages = [Path(f"{out}-{number}.{rank}").read_text() for rank in (0, 1)]
            assert all("stopped before the update" in one for one in messages), fault
            place, _, rank = fault.split(":")
            if place in ("pixel", "loss"):
                assert all(f"rank {rank}: " in one for one in messages), (fault, messages)
                assert "shapes" in messages[0] or "/" in messages[0], "samples are named"
            result = latest_valid(f"{out}-{number}/checkpoints")
            assert result is not None
            assert step_of(result) == 2, fault
            for name, value in tensors(result / STATE).items():
                assert value.isfinite().all(), (fault, name)


SCORES = """set:
  evaluation:
    - {class: unify.metrics.shapes_images.TextToImage, prompts: 8, heldout: 4, geneval: 2}
    - {class: unify.metrics.speed.Speed, rows: 2, repeats: 1}
"""
LOADED = """base: [{experiments}/queries_dit.yaml]
tiny: {{model: {{llm: {{weights: {{run: {experiments}/vlm.yaml, tiny: true}}}}}}}}
"""  # a frozen language model with weights of a run


def scored(tmp_path, name, world, files, *words):
    """What each rank found, by the name of the experiment."""
    child = CHILD.with_name("evaluation_child.py")
    start(tmp_path, world, child, tmp_path / "runs", tmp_path / name, *files, *words)
    return {
        file.stem: [
            json.loads((tmp_path / f"{name}-{file.stem}.{rank}.json").read_text())
            for rank in range(world)
        ]
        for file in files
    }


def test_what_ranks_score_together_is_what_one_process_scores(tmp_path):
    """Paradigms in shards, after being trained so, one of them around a loaded model."""
    files = [ROOT / "experiments" / f"{name}.yaml" for name in ("ar_vq", "transfusion")]
    files.append(tmp_path / "loaded.yaml")
    files[-1].write_text(LOADED.format(experiments=ROOT / "experiments"))
    sharded = scored(tmp_path, "fsdp", 2, files, "machine.strategy=fsdp")
    whole = scored(tmp_path, "ddp", 2, files[:1], "machine.strategy=ddp")
    alone = scored(tmp_path, "alone", 1, files)
    assert {run["held"] for ranks in (whole, alone) for (run, *_) in ranks.values()} == {1.0}
    for name, (one,) in alone.items():
        assert len(one["rows"]) > 5
        for first, second in filter(None, (sharded[name], whole.get(name))):
            assert first["rows"] == second["rows"] == one["rows"], name
        assert all(0.4 < rank["held"] < 0.6 for rank in sharded[name]), name


TWO = ["machine.devices=2", "machine.strategy=fsdp", "machine.accelerator=cpu"]


def unify(*words):
    command = [sys.executable, "-m", "unify.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)


def test_the_command_line_starts_the_ranks_it_is_asked_for(tmp_path):
    file = str(ROOT / "experiments" / "transfusion.yaml")
    place = [f"machine.runs={tmp_path}", "machine.tracker=none"]
    words = ["train", "-c", file, "--tiny", "steps=4", "logging.samples_every=2", *place]
    done = unify(*words, *TWO)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: ") == 1, "one of them speaks"
    (run_folder,) = tmp_path.glob("default/transfusion-*")
    assert json.loads((run_folder / "run.json").read_text())["state"] == "finished"
    assert len(list((run_folder / "samples").glob("*.png"))) == 4

    study = tmp_path / "study.yaml"
    study.write_text(f"name: pair\narms: {{transfusion: {file}}}\nseeds: [0]\n{SCORES}")
    done = unify("study", str(study), "--tiny", "steps=4", *place, *TWO)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "pair" / "results.json").read_text())
    (speed,) = [row for row in rows if row["metric"] == "generate/images_per_s"]
    assert speed["passport"]["ranks"] == 2, "its ranks score it, its speed too"


@pytest.mark.drill
def test_the_ranks_of_eval_score_what_those_of_a_study_did(tmp_path):
    file = str(ROOT / "experiments" / "transfusion.yaml")
    study = tmp_path / "study.yaml"
    study.write_text(f"name: pair\narms: {{transfusion: {file}}}\nseeds: [0]\n{SCORES}")
    words = [f"machine.runs={tmp_path}", "machine.tracker=none", "steps=4"]
    assert unify("study", str(study), "--tiny", *words, *TWO).returncode == 0
    rows = json.loads((tmp_path / "pair" / "results.json").read_text())
    done = unify("eval", str(next(tmp_path.glob("pair/transfusion-*"))), "--again", "--json", *TWO)
    assert done.returncode == 0, done.stderr
    again = {row["metric"]: row["value"] for row in json.loads(done.stdout)}
    assert all(
        again[row["metric"]] == row["value"] or row["value"] != row["value"]
        for row in rows
        if not row["metric"].startswith("generate/")
    )


@pytest.mark.drill
@pytest.mark.fault(11)
def test_ranks_that_are_asked_to_stop_save(tmp_path):
    file = str(ROOT / "experiments" / "transfusion.yaml")
    words = [sys.executable, "-m", "unify.cli", "train", "-c", file, "--tiny", "steps=100000"]
    words += [f"machine.runs={tmp_path}", "machine.tracker=none", *TWO]
    ranks = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert ranks.stdout is not None
    for line in ranks.stdout:
        if line.startswith("step 20/"):
            break
    ranks.send_signal(signal.SIGTERM)
    rest = ranks.stdout.read()
    assert ranks.wait(60) == os.EX_TEMPFAIL, rest
    (saved,) = tmp_path.glob("default/transfusion-*/checkpoints/step-*")
    reached = int(saved.name[5:])
    assert reached >= 20
    assert latest_valid(saved.parent) == saved  # how ranks go on: tests/faults/test_rank_faults.py
    rest = ranks.stdout.read()  # ends when no rank holds the pipe any more
