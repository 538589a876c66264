"""Parameter groups, the learning-rate schedule, and the average of the weights."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from unify.nn.losses import weighted
from unify.paradigm import Term
from unify.schema.experiment import Optimizer
from unify.training.optimizer import parameter_groups, rate_factor, swap_ema, update_ema


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.body = nn.Linear(3, 3)
        self.tower = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_groups_decay_matrices_only_and_leave_frozen_parameters_out():
    net = Net()
    groups = parameter_groups(net, Optimizer(lr=1.0, weight_decay=0.1, lr_ratio={"tower": 0.5}))
    by_id = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert by_id == {
        id(net.embed.weight): (1.0, 0.0),
        id(net.body.weight): (1.0, 0.1),
        id(net.body.bias): (1.0, 0.0),
        id(net.tower.weight): (0.5, 0.1),
        id(net.tower.bias): (0.5, 0.0),
    }


def test_decay_acts_on_matrices_of_layers_and_on_no_other_table():
    net = nn.Module()
    net.queries = nn.Parameter(torch.zeros(4, 3))
    net.mix, net.conv = nn.MultiheadAttention(4, 2), nn.ConvTranspose2d(2, 2, 3)
    net.norm = nn.LayerNorm((2, 2))
    groups = parameter_groups(net, Optimizer(weight_decay=0.1))
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    wanted = (net.mix.in_proj_weight, net.mix.out_proj.weight, net.conv.weight)
    assert decayed == {id(parameter) for parameter in wanted}


def test_a_ratio_for_nothing_is_named():
    with pytest.raises(ValueError, match=r"lr_ratio.*towr"):
        parameter_groups(Net(), Optimizer(lr_ratio={"towr": 0.5}))
    net = Net()
    net.tower.requires_grad_(False)  # one switch freezes it, whatever its ratio
    (*_, group) = parameter_groups(net, Optimizer(lr=1.0, lr_ratio={"tower": 0.5}))
    assert group["lr"] == 1.0


def test_schedule_warms_up_linearly_and_ends_where_it_says():
    settings = Optimizer(warmup=10, final_lr=0.1)
    shares = [rate_factor(step, 110, settings) for step in range(111)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(shares) == shares[10] == 1
    assert shares[60] == pytest.approx(0.55)
    assert shares[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(shares[10:]))


def test_average_follows_its_closed_form_and_swaps_back():
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    expected, decay = None, 0.9
    for step in range(1, 30):
        parameter.grad = torch.randn(3, generator=torch.Generator().manual_seed(step))
        optimizer.step()
        update_ema(optimizer, decay)
        share = min(decay, (1 + step) / (10 + step))
        now = parameter.detach().clone()
        expected = now if expected is None else share * expected + (1 - share) * now
    live = parameter.detach().clone()
    swap_ema(optimizer)
    torch.testing.assert_close(parameter.detach(), expected)
    swap_ema(optimizer)
    assert torch.equal(parameter.detach(), live)


def test_average_is_saved_with_the_optimizer():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    update_ema(optimizer, 0.9)
    state = copy.deepcopy(optimizer.state_dict())
    other = torch.optim.AdamW([nn.Parameter(torch.ones(2))])
    other.load_state_dict(state)
    (loaded,) = other.state.values()
    assert torch.equal(loaded["ema"], optimizer.state[parameter]["ema"])


def test_total_is_the_weighted_mean_over_rows_that_carry_a_term():
    rows = {
        "a": [Term(torch.tensor([1.0, 3.0])), Term(torch.tensor([5.0]))],
        "b": [Term(torch.tensor([2.0]))],
    }
    total, metrics = weighted(rows, {"a": 2.0, "b": 10.0})
    assert total.item() == 2 * 3 + 10 * 2
    assert {name: mean.value.item() for name, mean in metrics.items()} == {
        "loss/a": 3,
        "loss/b": 2,
        "loss": 26,
    }


def test_loss_by_time_is_the_mean_of_its_bin():
    t = torch.tensor([0.1, 0.2, 0.3, 0.99])
    _, metrics = weighted({"f": [Term(torch.tensor([1.0, 3.0, 5.0, 7.0]), t=t)]}, {"f": 1.0})
    bins = [metrics[f"loss/f/t{i}"].value.item() for i in range(4)]
    assert bins[:2] == [2, 5]
    assert math.isnan(bins[2])
    assert bins[3] == 7
