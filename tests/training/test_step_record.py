"""Losses and gradients that are not finite: who is named, and that no weight is spoilt."""

import math

import pytest
import torch
from tiny_module import TinyModule, make_trainer

from unify.paradigm import Term
from unify.runs.journal import Journal
from unify.training.callbacks import Recorder
from unify.training.step_record import NonFiniteError, check_gradient, check_terms


def terms(**values: list[float]) -> dict[str, Term]:
    return {name: Term(torch.tensor(value, requires_grad=True)) for name, value in values.items()}


@pytest.mark.parametrize("value", [torch.tensor(1.0), torch.ones(3, 1), torch.ones(2)])
def test_a_term_that_is_not_one_value_per_row_is_refused(value):
    with pytest.raises(ValueError, match=r"'flow' has the shape .* for 3 rows; return one value"):
        check_terms({"flow": Term(value)}, ["a", "b", "c"])


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
    good = TinyModule(3)
    make_trainer(3, []).fit(
        good
    )  # 3 of 3 steps; the other run has its NaN in the fourth, at another rate plan
    bad = TinyModule(3, poison=2)
    with pytest.raises(NonFiniteError, match="sample11"):
        make_trainer(3, [Recorder(Journal(tmp_path), 1)]).fit(bad)
    assert torch.isfinite(bad.layer.weight).all()
    assert not torch.equal(bad.layer.weight, good.layer.weight)  # two updates, not three
    assert [record["step"] for record in Journal(tmp_path).records()] == [1, 2]
