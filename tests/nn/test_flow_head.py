"""The flow of one token: what it is given, what it is not, and what it costs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unify.nn.flow_head import FlowHead
from unify.nn.init import initialise


def made(moved=0.1, **settings):
    head = FlowHead(3, 16, 2, width=24, **settings)
    initialise(head, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += moved * torch.randn(parameter.shape, generator=generator)
    return head


def inputs(*leading):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(*leading, 12, generator=generator)
    return x, torch.rand(*leading, generator=generator), torch.randn(*leading, 16)


def test_at_first_the_velocity_is_zero():
    assert made(moved=0.0)(*inputs(4, 5)).abs().max() == 0


@torch.no_grad()
def test_a_token_depends_on_its_own_numbers_time_and_vector_and_on_no_other_token():
    head, given = made(), inputs(2, 5)
    before = head(*given)
    for index in range(3):
        changed = [part.clone() for part in given]
        changed[index][1, 3] += 0.3
        moved = (head(*changed) - before).abs().amax(-1) > 0
        assert moved.nonzero().tolist() == [[1, 3]]


@torch.no_grad()
def test_one_vector_for_several_noised_copies_is_that_vector_for_each():
    head = made()
    x, t, _ = inputs(2, 4, 5)
    c = inputs(2, 5)[2]
    together = head(x, t, c[:, None])
    assert together.shape == x.shape
    apart = torch.stack([head(x[:, copy], t[:, copy], c) for copy in range(4)], 1)
    torch.testing.assert_close(together, apart)


def test_its_flops_are_those_that_torch_counts():
    head = made()
    x, t, _ = inputs(2, 4, 5)
    c = inputs(2, 5)[2].requires_grad_()
    with FlopCounterMode(display=False) as counter:
        head(x, t, c[:, None]).square().mean().backward()
    # torch counts a product in the backward pass of each norm, too
    counted = counter.get_total_flops()
    assert head.training_flops(tokens=10, times=4) == pytest.approx(counted, rel=0.003)


def test_a_latent_that_does_not_divide_into_tokens_is_refused():
    assert made().grid(4, 6) == (2, 3)
    with pytest.raises(ValueError, match=r"4x5 latent .* or flow_head\.patch"):
        made().grid(4, 5)
