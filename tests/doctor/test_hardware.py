"""Checks of devices and of ranks that exchange, on real troubles."""

import pytest
from doctor_checks import STEP, only

from unify.doctor import hardware


def test_a_device_that_computes_wrongly(monkeypatch):
    assert hardware._product("cpu", "this CPU").state == "ok"
    monkeypatch.setattr(hardware, "ROUNDING", 0.0)
    found = hardware._product("cpu", "this CPU")
    assert found.state == "problem"
    assert "off by" in found.found
    assert "do not train" in found.do


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sleep", "600"], "did not exchange within 0.3 s"),
        (["sh", "-c", "echo no route >&2; exit 3"], "ended with status 3; no route"),
        (["sh", "-c", "kill -9 $$"], "ended with SIGKILL"),
    ],
)
def test_ranks_that_do_not_answer_or_die(command, words):
    limit = 0.3 if command[0] == "sleep" else 60
    found = only(hardware.ranks(command, limit))
    assert found.state == "problem"
    assert words in found.found
    assert "_SOCKET_IFNAME" in found.do


def test_ranks_without_a_way_to_each_other(monkeypatch):
    """Real ranks; the network that they are told to use is not there."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "nowhere0")
    found = only(hardware.ranks())
    assert found.state == "problem"
    assert "cannot exchange" in found.found
    assert "_SOCKET_IFNAME (now nowhere0)" in found.do


def test_ranks_of_a_step_whose_first_node_has_no_address(monkeypatch):
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    found = only(hardware.ranks(["false"]))
    assert found.state == "problem"
    assert "nowhere1.invalid" in found.found
    assert "environment: {MASTER_ADDR" in found.do


def test_a_rank_whose_gpu_is_hidden(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    found = only(hardware._gpus(1))
    assert "sees 1" in found.found
    assert "--gpus-per-node" in found.do
