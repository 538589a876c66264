import io
import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from tiny_experiment import ROWS, TinyExperiment, make_trainer, run

from unify.data.source import to_uint8
from unify.evaluation.image_grids import save_grid
from unify.metrics.metric import Grid
from unify.paradigm import Term
from unify.runs.journal import Consumed, Journal
from unify.training.callbacks import EachStep, Health, Recorder, SampleGrids
from unify.training.finite_guard import NonFiniteError, check_gradient, check_terms


def fit(steps: int, *callbacks, accumulation: int = 1, poison: int = -1) -> TinyExperiment:
    experiment = TinyExperiment(steps, poison)
    make_trainer(steps, list(callbacks), accumulation).fit(experiment)
    return experiment


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_each_step_is_called_once_per_optimizer_step(accumulation):
    class Counter(EachStep):
        seen: list[int] = []

        def each_step(self, trainer, experiment, step):
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


def terms(**values: list[float]) -> dict[str, Term]:
    return {name: Term(torch.tensor(value, requires_grad=True)) for name, value in values.items()}


@pytest.mark.fault(21)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_value_names_its_term_and_sample(bad):
    keys = ["train/a", "train/b", "train/c"]
    check_terms(terms(text=[1.0, 2.0, 3.0], flow=[1.0, 2.0, 3.0]), keys)
    with pytest.raises(NonFiniteError) as error:
        check_terms(terms(text=[1.0, 2.0, 3.0], flow=[1.0, bad, 3.0]), keys)
    message = str(error.value)
    assert f"'flow' is not finite for 1 of 3 samples: train/b ({bad})" in message
    assert "train/a" not in message
    assert "text" not in message


@pytest.mark.fault(21, times=2)
def test_a_non_finite_gradient_names_the_samples_of_its_step():
    check_gradient(torch.tensor(3.0))
    check_gradient(1e300)
    for bad in (torch.tensor(math.nan), math.inf):
        with pytest.raises(NonFiniteError, match=r"gradient norm is (nan|inf).*train/a, train/b"):
            check_gradient(bad, ["train/a", "train/b"])


@pytest.mark.fault(21)
def test_training_stops_before_the_update_that_would_spoil_the_weights(tmp_path):
    good = fit(3)  # 3 of 3 steps; the other run has its NaN in the fourth, at another rate plan
    bad = TinyExperiment(3, poison=2)
    with pytest.raises(NonFiniteError, match="sample11"):
        make_trainer(3, [Recorder(Journal(tmp_path), 1)]).fit(bad)
    assert torch.isfinite(bad.layer.weight).all()
    assert not torch.equal(bad.layer.weight, good.layer.weight)  # two updates, not three
    assert [record["step"] for record in Journal(tmp_path).records()] == [1, 2]


def pictures(count: int = 5, side: int = 16) -> Grid:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, side, side, generator=generator) * 2 - 1
    titles = ["a red circle left of a blue square, " * (i + 1) + "größer" for i in range(count)]
    return Grid("text_to_image", images, titles, [True, False, None, True, None][:count])


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
        return [pictures()]

    sampled = fit(5, SampleGrids(tmp_path / "samples", 2, make, weights))
    assert calls == [2, 4, 5]
    assert torch.equal(sampled.layer.weight, plain.layer.weight)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        f"step-0000000{step}-text_to_image.{kind}" for step in (2, 4, 5) for kind in ("json", "png")
    ]


@pytest.mark.parametrize(("count", "side"), [(1, 16), (5, 16), (3, 40), (2, 200)])
def test_every_picture_can_be_cut_out_of_its_grid_again(tmp_path, count, side):
    grid = pictures(count, side)
    save_grid(grid, tmp_path / "new" / "grid.png")
    facts = json.loads((tmp_path / "new" / "grid.json").read_text())
    assert (facts["name"], facts["titles"]) == (grid.name, grid.titles)
    assert facts["verdicts"] == grid.verdicts
    sheet = Image.open(tmp_path / "new" / "grid.png")
    assert len(facts["boxes"]) == count
    for box, image in zip(facts["boxes"], grid.images, strict=True):
        shown = np.asarray(sheet.crop(box))[:: facts["factor"], :: facts["factor"]]
        assert (shown == to_uint8(image)).all()
    if side < 100:
        assert 84 <= side * facts["factor"] <= 140


def test_verdicts_are_drawn_green_and_red(tmp_path):
    def colours(verdict: bool | None) -> set:
        grid = Grid("x", torch.zeros(1, 3, 16, 16), [""], [verdict])
        save_grid(grid, tmp_path / "x.png")
        found = Image.open(tmp_path / "x.png").getcolors(10_000)
        assert found is not None
        return {c for _, c in found}

    assert any(g > 2 * r for r, g, _ in colours(True) if g > 100)  # type: ignore[misc]
    assert any(r > 2 * g for r, g, _ in colours(False) if r > 100)  # type: ignore[misc]
    assert all(r == g == b for r, g, b in colours(None))  # type: ignore[misc]
