"""Two processes learn what one does: the same samples, losses, gradients and weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unify.journal import Journal

ROOT = Path(__file__).parent.parent
CHILD = Path(__file__).parent / "distributed_child.py"


def run(path, out, world):
    """What each rank left, in their order."""
    launch = [sys.executable]
    if world > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    done = subprocess.run(
        [*launch, str(CHILD), str(path), str(out), str(world)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(f"{out}.{rank}") for rank in range(world)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "paradigm", ["ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow"]
)
def test_two_ranks_make_the_steps_of_one(tmp_path, paradigm):
    path = ROOT / "experiments" / f"{paradigm}.yaml"
    (alone,) = run(path, tmp_path / "alone", 1)
    ranks = run(path, tmp_path / "ranks", 2)
    first, second = (rank["weights"] for rank in ranks)
    assert all(torch.equal(first[name], second[name]) for name in first), "ranks stay alike"
    for name, value in alone["weights"].items():
        torch.testing.assert_close(first[name], value, atol=1e-4, rtol=1e-3)
    read = [
        [record["data"] for record in Journal(tmp_path / f"{name}.run").records("train")]
        for name in ("alone", "ranks")
    ]
    assert len(read[0]) == 2
    assert read[0] == read[1], "what all ranks read together"
    for step, ids in enumerate(alone["ids"]):
        together = [one for rank in ranks for one in rank["ids"][step]]
        assert sorted(together) == sorted(ids)
        assert len(ranks[0]["ids"][step]) == len(ids) // 2
        norms = [rank["losses"][step]["grad_norm"] for rank in ranks]
        assert norms[0] == norms[1] == pytest.approx(alone["losses"][step]["grad_norm"], rel=1e-3)
        mean = sum(rank["losses"][step]["loss"] for rank in ranks) / 2
        assert mean == pytest.approx(alone["losses"][step]["loss"], rel=1e-4)
