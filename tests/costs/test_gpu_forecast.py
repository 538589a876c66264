"""Forecasts: large models without memory, remedies that help, saves within the notice."""

import json

import pytest
from memory_child import of_process, start_anew
from places import EXPERIMENTS
from tiny_forecasts import ONE_TASK, hardware, linux, memory, tiny
from typer.testing import CliRunner

from unify.cli import app
from unify.costs.gpu_forecast import Candidates, forecast
from unify.costs.gpu_forecast_text import lines
from unify.costs.gpu_specs import GPUS, Gpu
from unify.costs.step_cost import cost_of


@linux
@pytest.mark.slow
def test_a_large_trunk_is_planned_without_memory_for_it():
    large = ["model.trunk.dim=4096", "model.trunk.depth=6", "model.trunk.heads=32"]
    config = tiny("transfusion", *large)
    start_anew()
    before = of_process("VmRSS")
    cost = cost_of(config)
    result = forecast(config, cost, hardware(1, "h100"))
    assert cost.parameters["total"] > 1.2e9
    assert result.memory.parameters == 4 * cost.parameters["trainable"]
    assert of_process("VmHWM") - before < 0.3 * result.memory.parameters
    assert result.fits


@pytest.mark.slow
def test_remedies_make_it_fit_and_no_other_is_named(monkeypatch):
    config = tiny("transfusion", "model.trunk.depth=3", *ONE_TASK, "data.tasks.text_to_image=8")
    monkeypatch.setattr("unify.costs.gpu_specs.RESERVED", 0)

    def remedies(usable, ranks=2):
        monkeypatch.setitem(GPUS, "small", Gpu(usable / 0.95, 1e12, 1e12, 1e9))
        result = forecast(config, cost, hardware(ranks, "small"))
        for changes in result.remedies:
            machine = {key: value for key, value in changes.items() if key != "gpus"}
            times = changes.get("gpus", ranks) // ranks
            assert tries.under(machine, times).memory.total <= usable, changes
        return result.remedies, "\n".join(lines({"arm": result}, hardware(ranks, "small")))

    cost, tries = cost_of(config), Candidates(config, hardware(2, "h100"))
    need = tries.under({}).memory.total
    assert remedies(1.01 * need)[0] == []
    several, text = remedies(0.9 * need)
    assert {"recompute": True} in several
    assert "arm: DOES NOT FIT" in text
    assert "machine.recompute=true" in text
    everything = {"micro_batch": 1, "strategy": "fsdp", "recompute": True}
    assert remedies(1.001 * tries.under(everything).memory.total)[0] == [everything]
    assert remedies(1000)[1].count("make it smaller") == 1


def test_a_save_that_takes_longer_than_the_notice_is_named():
    config = tiny("ar_vq")
    cost = cost_of(config)
    forecasts = {n: forecast(config, cost, hardware(1, "h200", notice=n)) for n in (120.0, 1e-9)}
    texts = {n: "\n".join(lines({"arm": f}, hardware(notice=n))) for n, f in forecasts.items()}
    assert "fits a notice of 120 s" in texts[120.0]
    assert "DOES NOT FIT a notice" in texts[1e-9]
    assert "lengthen the cluster's `notice`" in texts[1e-9]


def test_the_command_plans_for_gpus_only_when_it_is_asked(tmp_path):
    words = ["plan", str(EXPERIMENTS / "ar_vq.yaml"), "--tiny", f"machine.runs={tmp_path}"]

    def run(*more):
        return CliRunner().invoke(app, [*words, *more])

    plain, planned = run().output, run("--gpus", "2", "--gpu", "h200", "--cluster", "cpu").output
    assert planned.startswith(plain.rstrip("\n"))
    assert "activations" in planned
    assert "fits a notice of 60 s" in planned
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
