"""Building without memory, unit by unit, in one process; the cutting is in test_distributed."""

from pathlib import Path

import pytest
import torch
from places import EXPERIMENTS
from torch import nn

from unify.assembly.assemble import assemble
from unify.assembly.exported_weights import load_export, save_export
from unify.assembly.sharding import construct, fill, recompute, units_of
from unify.config import load_recipe
from unify.nn.init import draw, initialise, parts_of
from unify.nn.layers import Linear
from unify.nn.trunk import Trunk
from unify.tokenizer import DiscreteTokenizer
from unify.tokenizers.vae import VAE

PARADIGMS = [
    *("ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow", "masked"),
    *("pretrained_track/ar_vq", "pretrained_track/crossflow", "ar_image_layers"),
]


def built(paradigm, meta=False):
    config = load_recipe(EXPERIMENTS / f"{paradigm}.yaml", tiny=True)
    return assemble(config, {}, meta=meta).model


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_drawn_unit_by_unit_a_model_starts_as_it_does_whole(paradigm):
    whole, cut = built(paradigm), built(paradigm, meta=True)
    assert any(p.is_meta for p in cut.parameters())
    initialise(whole, 3)
    left = list(parts_of(cut))
    seen = set()
    for unit in [*units_of(cut), cut]:
        inside = {id(part) for part in unit.modules()} - seen
        assert inside, "no unit lies in another"
        fill(unit)
        for name, part in left:
            if id(part) in inside:
                draw(part, name, 3)
        seen |= inside
    state = cut.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


def test_tied_parameters_stay_tied_when_they_get_memory():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
            self.other.weight = self.one.weight

    tied = construct(Tied, {})
    assert tied.one.weight.is_meta
    fill(tied)
    assert tied.other.weight is tied.one.weight
    assert not any(p.is_meta for p in tied.parameters())


def own_bytes():
    """Memory of this process that is no file's."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


class Tied(nn.Module):
    """32 MB under two names, and some numbers beside."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(2048, 4096), nn.Linear(4096, 2048, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("count", torch.zeros(2))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux says who owns it")
def test_weights_that_are_mapped_are_read_from_the_file_and_take_no_memory(tmp_path):
    saved = Tied()
    save_export(saved, {"class": "unify.x.Y"}, tmp_path)
    model = construct(Tied, {})
    before = own_bytes()
    load_export(model, tmp_path, mapped=True)
    assert torch.equal(model.head.weight, saved.head.weight)
    assert own_bytes() - before < 8e6, "of 32 MB"
    assert model.head.weight is model.embed.weight, "tied weights stay tied"
    assert model.embed.weight.requires_grad
    assert not model.scale.requires_grad
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in saved.state_dict().items())
    with torch.no_grad():
        model.embed.weight += 1  # what is written to is this process's own
    again = Tied()
    load_export(again, tmp_path)
    assert torch.equal(again.embed.weight + 1, model.embed.weight), "the file stays as it is"


def test_a_tokenizer_is_built_whole():
    vae = construct(VAE, {"channels": 4, "widths": [8, 8, 8]})
    assert not any(p.is_meta for p in vae.parameters())


class Bodied(DiscreteTokenizer):
    """A tokenizer with a part that is built before it."""

    stride, vocab_size = 1, 2

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def settings(self):
        return {}

    def encode(self, images):
        return images[:, 0].flatten(1).long()

    def decode(self, codes, grid):
        return codes.view(-1, 1, *grid).float()


def test_so_are_the_parts_of_a_tokenizer():
    body = construct(Linear, {"inputs": 3, "outputs": 4, "bias": True})
    assert body.weight.is_meta
    part = construct(Bodied, {"body": body})
    assert not any(p.is_meta for p in part.parameters())
    assert part.body.weight.abs().sum() > 0
    assert part.body.bias.tolist() == [0] * 4, "drawn, and not what memory held"


def test_every_trunk_recomputes_when_it_is_told_to():
    model = built("crossflow")
    trunks = [part for part in model.modules() if isinstance(part, Trunk)]
    assert not any(trunk.checkpoint for trunk in trunks)
    recompute(model)
    assert all(trunk.checkpoint for trunk in trunks)
