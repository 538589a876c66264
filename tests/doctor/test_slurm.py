"""Checks of a cluster, its preemption and this job, against commands that play SLURM."""

import os

import pytest
from doctor_checks import CALM, STEP, fake_slurm, only, script

from unify.doctor import slurm

PREEMPTS = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"}
SIGNALS = {**PREEMPTS, "SlurmctldParameters": "preempt_send_user_signal"}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def result(settings, grace=0):
        fake_slurm(tmp_path / "bin", settings, grace)
        return {f.name: f for f in slurm.cluster()}

    return result


def test_a_machine_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(slurm.cluster({})).state == "ok"
    inside = only(slurm.cluster({"SLURM_JOB_ID": "7"}))
    assert inside.state == "note"
    assert "container" in inside.do


def test_partitions_are_shown(cluster):
    result = cluster(CALM)
    assert result["slurm"].found == (
        "24.05.1: main* (4 nodes, at most 2-00:00:00, gpu:h100:4), hi (1 nodes, at most 1:00, down)"
    )
    assert result["preemption"].state == "ok"


def test_preemption_without_notice(cluster):
    result = cluster(PREEMPTS)["preemption"]
    assert result.state == "note"
    assert "without notice" in result.found
    for remedy in ("preempt_send_user_signal", "GraceTime", "logging.checkpoint_every"):
        assert remedy in result.do


def test_notice_needs_time(cluster):
    hasty = cluster(SIGNALS, grace=0)["preemption"]
    assert hasty.state == "note"
    assert "GraceTime of main is 0" in hasty.found
    assert cluster(SIGNALS, grace=60)["preemption"].found.endswith("with notice: main 60 s")
    assert "sacctmgr" in cluster({**SIGNALS, "PreemptType": "preempt/qos"})["preemption"].do
    assert cluster({**PREEMPTS, "PreemptMode": "GANG,SUSPEND"})["preemption"].state == "ok"


@pytest.mark.parametrize(
    ("sinfo", "words"),
    [
        ("echo 'error: x' >&2; echo 'Unable to contact slurm controller' >&2; exit 1", "Unable to"),
        ("exec sleep 600", "does not answer within"),
    ],
)
def test_a_controller_that_does_not_answer(sinfo, words, cluster, tmp_path, monkeypatch):
    cluster(CALM)
    if "sleep" in sinfo:
        monkeypatch.setattr(slurm, "SECONDS", 0.5)
    script(tmp_path / "bin", "sinfo", sinfo)
    result = only(slurm.cluster({}))
    assert result.state == "problem"
    assert words in result.found
    assert "SLURM_CONF" in result.do


def test_half_a_slurm(tmp_path, monkeypatch):
    script(tmp_path / "bin", "srun", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    result = only(slurm.cluster({}))
    assert result.state == "problem"
    assert "sinfo" in result.found


def test_a_step_is_a_world_of_ranks():
    assert slurm.job({}) == []
    outside = only(slurm.job({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}))
    assert "srun unify doctor" in outside.do
    world = only(slurm.job(STEP))
    assert "rank 1 of 4 of job 7" in world.found
    assert "of 2 nodes" in world.found
    _, cores = slurm.job({**STEP, "SLURM_CPUS_PER_TASK": "100000"})
    assert "of the 100000 cores" in cores.found
    assert "--cpus-per-task=100000" in cores.do
