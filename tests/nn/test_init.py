"""Initialisation is a function of seed and name alone."""

import pytest
import torch
from torch import nn

from unify.nn.init import initialise
from unify.nn.layers import Linear, ZeroLinear
from unify.nn.trunk import TimedTrunk, Trunk


def arm(*extras: tuple[str, nn.Module], trunk: type[Trunk] = Trunk) -> nn.Module:
    model = nn.Module()
    for name, part in extras:
        model.add_module(name, part)
    model.add_module("trunk", trunk(dim=32, depth=2, heads=2))
    return model


def test_the_same_name_starts_with_the_same_weights_in_different_parents():
    one = arm(("head", Linear(32, 7)))
    torch.rand(3)
    other = arm(("patches", nn.Conv2d(3, 8, 3)), ("norm", nn.GroupNorm(2, 8)))
    initialise(one, 5)
    initialise(other, 5)
    for name, tensor in one.trunk.state_dict().items():
        assert torch.equal(tensor, other.trunk.state_dict()[name]), name


def test_a_timed_trunk_starts_as_the_plain_one_with_zeros_beside_it():
    plain, timed = arm(), arm(trunk=TimedTrunk)
    initialise(plain, 0)
    initialise(timed, 0)
    for name, tensor in timed.state_dict().items():
        expected = plain.state_dict().get(name, torch.zeros_like(tensor))
        assert torch.equal(tensor, expected), name


def test_other_names_and_other_seeds_start_differently():
    model = nn.ModuleDict({"a": Linear(8, 8), "b": Linear(8, 8)})
    initialise(model, 0)
    first = model["a"].weight.clone()
    assert not torch.equal(first, model["b"].weight)
    initialise(model, 1)
    assert not torch.equal(first, model["a"].weight)
    initialise(model, 0)
    assert torch.equal(first, model["a"].weight)


def test_the_global_generator_is_left_as_it_was():
    model = arm()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    initialise(model, 9)
    assert torch.equal(torch.rand(4), expected)


def test_a_frozen_part_that_starts_at_zero_is_refused_unless_it_has_weights():
    """Nothing before it would ever get a gradient."""
    model = nn.ModuleDict(
        {"head": nn.Sequential(Linear(8, 8), ZeroLinear(8, 8)).requires_grad_(False)}
    )
    words = "head is frozen and has no weights: its 1 starts at zero .* give head weights"
    with pytest.raises(ValueError, match=words):
        initialise(model, 0)
    model["head"].pretrained = True
    initialise(model, 0)
    assert model["head"][1].weight.abs().max() == 0


def test_a_pretrained_sub_tree_keeps_its_weights():
    trunk = Trunk(dim=32, depth=1, heads=2)
    trunk.pretrained = True
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    initialise(nn.ModuleDict({"trunk": trunk, "head": Linear(32, 4)}), 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in trunk.state_dict().items())


def test_a_module_that_cannot_reset_its_parameters_is_named():
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(4, 4))

    with pytest.raises(ValueError, match=r"connector\.queries \(Queries\).*reset_parameters"):
        initialise(nn.ModuleDict({"connector": nn.ModuleDict({"queries": Queries()})}), 0)


def test_stock_modules_are_reset():
    parts = {
        "linear": nn.Linear(8, 8),
        "conv": nn.Conv2d(3, 8, 3),
        "group": nn.GroupNorm(2, 8),
        "layer": nn.LayerNorm(8),
        "table": nn.Embedding(5, 8),
        "attention": nn.MultiheadAttention(8, 2),
        "encoder": nn.TransformerEncoderLayer(8, 2, 16),
    }
    model = nn.ModuleDict(parts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    initialise(model, 0)
    for name, parameter in model.named_parameters():
        assert not (parameter == 7).any(), name
    assert (model["attention"].out_proj.bias == 0).all()  # the parent has the last word


def test_a_diffusers_autoencoder_is_reset_reproducibly():
    from diffusers import AutoencoderKL

    def build() -> AutoencoderKL:
        return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2)

    one, two = build(), build()
    initialise(one, 0)
    initialise(two, 0)
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b), name
