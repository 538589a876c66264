"""Checks of devices and of ranks that exchange, on real troubles."""

import pytest
from doctor_checks import STEP, only

from unify.doctor import hardware


def test_a_device_that_computes_wrongly(monkeypatch):
    assert hardware._product("cpu", "this CPU").state == "ok"
    monkeypatch.setattr(hardware, "ROUNDING", 0.0)
    result = hardware._product("cpu", "this CPU")
    assert result.state == "problem"
    assert "off by" in result.found
    assert "do not train" in result.do


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
    result = only(hardware.ranks(command, limit))
    assert result.state == "problem"
    assert words in result.found
    assert "_SOCKET_IFNAME" in result.do


@pytest.mark.slow
def test_ranks_without_a_way_to_each_other(monkeypatch):
    """Real ranks; the network that they are told to use is not there."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "nowhere0")
    result = only(hardware.ranks())
    assert result.state == "problem"
    assert "cannot exchange" in result.found
    assert "_SOCKET_IFNAME (now nowhere0)" in result.do


def test_ranks_of_a_step_whose_first_node_has_no_address(monkeypatch):
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    result = only(hardware.ranks(["false"]))
    assert result.state == "problem"
    assert "nowhere1.invalid" in result.found
    assert "environment: {MASTER_ADDR" in result.do


def test_a_rank_whose_gpu_is_hidden(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    result = only(hardware._gpus(1))
    assert "sees 1" in result.found
    assert "--gpus-per-node" in result.do
