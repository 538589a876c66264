"""What callbacks record after each optimizer step, and that they change nothing."""

import io
from contextlib import contextmanager

import pytest
import torch
from rich.console import Console
from tiny_module import ROWS, TinyModule, make_trainer, run

from unify.metrics.metric import Grid
from unify.runs.journal import Consumed, Journal
from unify.training.callbacks import EachStep, Health, Recorder, SampleGrids


def fit(steps: int, *callbacks, accumulation: int = 1, poison: int = -1) -> TinyModule:
    module = TinyModule(steps, poison)
    make_trainer(steps, list(callbacks), accumulation).fit(module)
    return module


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_each_step_is_called_once_per_optimizer_step(accumulation):
    class Counter(EachStep):
        seen: list[int] = []

        def each_step(self, trainer, module, step):
            self.seen.append(step)

    counter = Counter()
    counter.seen = []
    fit(5, counter, accumulation=accumulation)
    assert counter.seen == [1, 2, 3, 4, 5]


def test_train_records_come_every_n_steps_and_at_the_last(tmp_path):
    fit(7, Recorder(Journal(tmp_path), 3))
    records = Journal(tmp_path).records()
    assert [record["step"] for record in records] == [3, 6, 7]
    for record in records:
        assert record["kind"] == "train"
        assert {"loss", "loss/line", "lr", "grad_norm", "data"} <= record.keys()
        assert record["samples"] == ROWS * record["step"]
        assert record["tokens"] == 10 * ROWS * record["step"]
    fit(7, Recorder(Journal(tmp_path / "never"), 0))
    assert Journal(tmp_path / "never").records() == []


def test_the_data_hash_covers_every_step_and_not_how_it_was_cut(tmp_path):
    expected = Consumed()
    expected.add("line", [f"sample{row}" for row in range(6 * ROWS)])
    for accumulation in (1, 2, 4):
        folder = tmp_path / str(accumulation)
        fit(6, Recorder(Journal(folder), 5), accumulation=accumulation)
        assert Journal(folder).records()[-1]["data"] == expected.state()


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended")
def test_health_does_not_touch_what_a_resumed_run_must_repeat(tmp_path):
    run(tmp_path / "whole", 6)
    for until in (3, None):
        health = Health(Journal(tmp_path / "resumed"), 2, say=lambda _: None)
        run(tmp_path / "resumed", 6, until=until, extra=(health,))
    whole, resumed = Journal(tmp_path / "whole"), Journal(tmp_path / "resumed")
    assert resumed.records("train") == whole.records()
    assert [record["step"] for record in resumed.records("health")] == [2, 4, 6]
    kinds = [record["kind"] for record in resumed.records()]
    assert kinds == ["health", "train"] * 3  # a train record takes its time from the one before


def test_health_says_a_line_away_from_a_terminal(tmp_path):
    lines: list[str] = []
    console = Console(file=io.StringIO())
    fit(4, Health(Journal(tmp_path), 2, lines.append, console))
    assert len(lines) == 2
    assert lines[-1].startswith("step 4/4  loss ")
    for word in ("line ", "lr ", "grad ", "samples/s", "tokens/s", "left 0:00:00"):
        assert word in lines[-1]
    record = Journal(tmp_path).records("health")[-1]
    assert record["tokens_per_s"] == pytest.approx(10 * record["samples_per_s"])
    assert record["samples_per_s"] == pytest.approx(ROWS / record["seconds_per_step"])
    assert record["eta_s"] == 0


def test_health_draws_a_bar_on_a_terminal(tmp_path):
    lines: list[str] = []
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    fit(4, Health(Journal(tmp_path), 2, lines.append, console))
    assert not lines
    assert "4/4" in screen.getvalue()
    assert "samples/s" in screen.getvalue()


def test_sample_grids_are_saved_and_change_nothing(tmp_path):
    plain = fit(5)
    calls: list[int] = []
    averaged: list[int] = []

    @contextmanager
    def weights():
        averaged.append(1)
        yield
        averaged.pop()

    def make(step: int) -> list[Grid]:
        assert averaged
        assert not torch.is_grad_enabled()
        calls.append(step)
        return [Grid("text_to_image", torch.zeros(2, 3, 16, 16), ["", ""], [True, None])]

    sampled = fit(5, SampleGrids(tmp_path / "samples", 2, make, weights))
    assert calls == [2, 4, 5]
    assert torch.equal(sampled.layer.weight, plain.layer.weight)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        f"step-0000000{step}-text_to_image.{kind}" for step in (2, 4, 5) for kind in ("json", "png")
    ]
