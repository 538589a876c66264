"""Terms become one loss, and an optimizer step becomes one record, however it is cut."""

import math

import pytest
import torch
from tiny_module import make_trainer
from torch import nn

from unify.batch import Batch, Segment
from unify.paradigm import Term, Trainable
from unify.schema.experiment import Optimizer
from unify.training.lightning_module import TrainingModule
from unify.training.step_record import NonFiniteError

STEPS = 3


class Brightness(Trainable):
    """Learns the mean of an image; `mean` is a term of both tasks, `flow` of one alone."""

    tasks = frozenset({"image", "depth"})
    terms = frozenset({"mean", "flow", "unused"})

    def __init__(self):
        super().__init__()
        self.guess = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.guess.weight)

    def loss(self, batch, noise):
        means = batch.segments[-1].images.mean((1, 2, 3))
        value = (self.guess.weight[0, 0] - means).square()
        terms = {"mean": Term(value), "unused": Term(7 + value)}
        if batch.task == "depth":
            terms["flow"] = Term(2 * value, t=torch.full_like(value, 0.6))
        return terms

    def flops(self, batch):
        return 100.0 * len(batch)


class Timed(Brightness):
    """Errors and times of a row's own: a micro-batch has few rows of a time, or none."""

    def loss(self, batch, noise):
        noise.t(batch.target_place)
        t = torch.tensor([float(key.removeprefix(batch.task)) * 0.618 % 1 for key in batch.keys])
        return {"mean": Term(self.guess.weight[0, 0] + t**2, t=t)}


def batch(task: str, rows: int, start: int, brightness: float = 0.5) -> dict[str, Batch]:
    images = torch.full((rows, 3, 2, 2), brightness)
    keys = [f"{task}{start + row}" for row in range(rows)]
    return Batch(task, [Segment.image(images, "target")], keys, list(range(rows)))


def train(
    rows: int, accumulation: int, poison: int = -1, model: type[Brightness] = Brightness
) -> TrainingModule:
    """`rows` of each task a step, in so many micro-batches; `poison` makes one of them NaN."""
    part = rows // accumulation
    micro = [
        {
            task: batch(task, part, index * part, math.nan if index == poison else 0.5)
            for task in ("image", "depth")
        }
        for index in range(STEPS * accumulation)
    ]
    module = TrainingModule(
        model(), {"mean": 1.0, "flow": 3.0, "unused": 0.0}, Optimizer(lr=0.1, warmup=1), STEPS
    )
    make_trainer(STEPS, [], accumulation).fit(module, torch.utils.data.DataLoader(micro, None))
    return module


def test_a_record_is_of_the_optimizer_step_however_it_is_cut():
    whole, cut = train(8, 1).record, train(8, 4).record
    for record in (whole, cut):
        assert (record.rows, record.tokens, record.flops) == (16, 16, 1600.0)
        assert record.sample_ids == {
            task: [f"{task}{row}" for row in range(16, 24)] for task in ("depth", "image")
        }
    assert whole.metrics.keys() == cut.metrics.keys()
    for name, value in whole.metrics.items():
        torch.testing.assert_close(
            float(value), float(cut.metrics[name]), rtol=1e-5, atol=0, equal_nan=True
        )


def test_loss_by_time_does_not_depend_on_micro_batches():
    """Micro-batches weigh by their rows of that time."""
    whole = train(12, 1, model=Timed).record.metrics
    assert sum(name.startswith("loss/mean/t") for name in whole) == 4
    for accumulation in (2, 3, 6, 12):
        cut = train(12, accumulation, model=Timed).record.metrics
        for name, value in whole.items():
            torch.testing.assert_close(value, cut[name], rtol=1e-5, atol=0, equal_nan=True)


def test_the_streams_that_were_drawn_are_recorded_by_task():
    drawn = {"image0/t": "uniform"}
    assert train(4, 2, model=Timed).record.noise == {"image": drawn, "depth": drawn}


def test_the_loss_is_the_weighted_sum_of_means_over_the_rows_that_carry_a_term():
    metrics = {name: float(value) for name, value in train(8, 2).record.metrics.items()}
    assert metrics["loss/flow"] == pytest.approx(2 * metrics["loss/mean"])
    assert metrics["loss"] == pytest.approx(metrics["loss/mean"] + 3 * metrics["loss/flow"])
    assert metrics["loss/flow/t2"] == metrics["loss/flow"]
    assert math.isnan(metrics["loss/flow/t0"])


def test_a_micro_batch_that_is_not_finite_stops_before_the_update():
    with pytest.raises(NonFiniteError, match=r"'mean' is not finite .* depth2 \(nan\)"):
        train(4, 2, poison=1)


def test_losses_are_the_weighted_terms_that_are_trained_on():
    module = train(4, 1)
    losses = module.losses({"depth": batch("depth", 4, 0)})
    assert losses.keys() == {"mean", "flow"}
    assert float(losses["flow"]) == pytest.approx(6 * float(losses["mean"]))


def test_the_average_is_swapped_in_for_a_while_and_stays_at_the_end():
    module = train(4, 1)
    live = module.model.guess.weight.detach().clone()
    with module.averaged() as model:
        average = model.guess.weight.detach().clone()
        assert not model.training
    assert model.training
    assert torch.equal(module.model.guess.weight, live)
    assert not torch.equal(average, live)
    module.finish()
    assert torch.equal(module.model.guess.weight, average)
    assert not module.model.training
