"""Ranks and their meeting point from what SLURM sets in the environment."""

import pytest

from unify.distributed.ranks import World, first_host, from_slurm, world


def test_a_slurm_step_is_a_world():
    step = {
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "node[07-08]",
        "SLURM_JOB_ID": "123456",
    }
    from_slurm(step)
    assert world(step) == World(rank=5, local_rank=1, size=8, local_size=4)
    assert (step["MASTER_ADDR"], step["MASTER_PORT"]) == ("node07", "18456")
    script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}
    from_slurm(script)
    assert world(script) == World(), "the batch script is no task of a step"
    with pytest.raises(ValueError, match="3 tasks do not lie evenly on 2 nodes"):
        from_slurm({**script, "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "2"})
    launched = {"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}
    from_slurm(launched)
    assert world(launched) == World(0, 0, 2, 2), "torchrun has the last word"
    with pytest.raises(ValueError, match="evenly"):
        world({"RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("gpu[3-5,9]", "gpu3"),
        ("x[01],y", "x01"),
        ("cpu1,gpu[3-5]", "cpu1"),
        ("rack[1-2]n[07-09,12],other", "rack1n07"),
        ("", "127.0.0.1"),
    ],
)
def test_the_first_host_of_a_list(hosts, first):
    assert first_host(hosts) == first
