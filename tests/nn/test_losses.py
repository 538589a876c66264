"""Losses of rows over tokens: what an empty row is, what a row depends on, the normaliser."""

import pytest
import torch

from unify.nn.losses import likelihood, log_partition_squared, per_row, weighted
from unify.paradigm import Term

VALID = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("constant", [None, 8.0])
def test_a_row_without_a_token_is_exactly_zero_and_teaches_nothing(constant):
    values = numbers(3, 4).requires_grad_()
    term = likelihood(values, VALID, constant)
    assert term.value[1] == term.total[1] == term.count[1] == 0
    term.value.sum().backward()
    assert torch.isfinite(values.grad).all()
    assert torch.equal(values.grad != 0, VALID)


@pytest.mark.parametrize(("constant", "wanted"), [(None, [2.5, 0, 1]), (8.0, [1.25, 0, 0.125])])
def test_a_row_is_its_own_mean_or_its_sum_over_a_constant(constant, wanted):
    """Never over the tokens of the batch."""
    values = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(3, -1)
    assert per_row(values, VALID, constant).tolist() == wanted
    assert per_row(values[2:], VALID[2:], constant).tolist() == wanted[2:]


def test_z_loss_is_zero_exactly_where_the_normaliser_is_one_and_pulls_through_it_alone():
    """d log^2 Z = 2 log Z softmax."""
    logits = numbers(2, 3, 7).float()
    assert log_partition_squared(logits.log_softmax(-1)).max() < 1e-10
    shifted = (logits.log_softmax(-1) + 0.5).requires_grad_()
    loss = log_partition_squared(shifted)
    torch.testing.assert_close(loss, torch.full((2, 3), 0.25))
    loss.sum().backward()
    torch.testing.assert_close(shifted.grad, logits.softmax(-1))  # 2 * 0.5


def test_a_row_with_times_of_its_own_is_binned_by_each_and_a_negative_one_is_none():
    value, t = torch.tensor([3.0, 5.0]), torch.tensor([[0.1, -1.0, 0.6], [1.0, -1e-3, 0.2]])
    each = torch.tensor([[1.0, 100.0, 2.0], [4.0, 100.0, 8.0]])
    terms = {"flow": [Term(value, t=t, each=each), Term(value[:1], t=torch.tensor([0.3]))]}
    loss, metrics = weighted(terms, {"flow": 2.0})
    assert loss == 2 * (3 + 5 + 3) / 3
    bins = [metrics[f"loss/flow/t{one}"] for one in range(4)]
    assert [(float(b.total), int(b.rows)) for b in bins] == [(9, 2), (3, 1), (2, 1), (4, 1)]
