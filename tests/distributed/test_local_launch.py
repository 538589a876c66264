"""Who starts the ranks that a machine asks for."""

import pytest

from unify.distributed.local_launch import spawns


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("devices", "starts"), [(1, False), (2, True), (4, True)])
def test_several_devices_of_one_machine_are_started_here(devices, starts):
    assert spawns({"devices": devices, "nodes": 1}) is starts


def test_a_rank_starts_no_others(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    assert not spawns({"devices": 4, "nodes": 1})


def test_several_nodes_need_a_launcher():
    with pytest.raises(ValueError, match=r"machine\.nodes is 2.*srun or torchrun"):
        spawns({"devices": 1, "nodes": 2})
