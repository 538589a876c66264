"""Frozen features of a language model: what they are, that they stay, and what they cost."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unify.nn.flops import dense
from unify.nn.init import initialise
from unify.nn.text_features import FeatureEncoder, check_own_text
from unify.nn.text_latent import Variational
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder
from unify.paradigms.vlm import VLM
from unify.tokenizers.text import BPE, Bytes

DIM, GRID, TEXTS = 32, (4, 4), ["a red circle", "blue"]


@pytest.fixture
def llm() -> VLM:
    model = VLM(Trunk(48, 2, 2), Bytes(), PatchEncoder(16, 1, 2, patch=2))
    initialise(model, 1)
    return model


@pytest.fixture
def encoder(llm) -> FeatureEncoder:
    model = FeatureEncoder(llm, Trunk(DIM, 1, 2), Variational(), channels=3)
    initialise(model, 0)
    return model


def read(length=16):
    return Bytes().encode(TEXTS, length)


def test_features_are_what_the_language_model_reads_to_the_bit(llm, encoder):
    with torch.no_grad():  # as features are read: gradients may choose kernels of other rounding
        context = llm.read(TEXTS, length=16)
    assert torch.equal(encoder.features(*read()), context.hidden)


def test_frozen_features_get_no_gradient_and_stay_while_all_else_learns(encoder):
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    encoder.train()
    optimizer = torch.optim.AdamW(p for p in encoder.parameters() if p.requires_grad)
    encoder(*read(), GRID).square().mean().backward()
    frozen = {n for n, p in encoder.named_parameters() if n.startswith("features.")}
    assert {n for n, p in encoder.named_parameters() if p.grad is None} == frozen
    optimizer.step()
    moved = {n for n, p in encoder.named_parameters() if not torch.equal(p, before[n])}
    assert frozen
    assert moved == before.keys() - frozen
    assert not encoder.features.training, "in eval mode, whatever its parent does"


def test_padding_changes_no_latent(encoder):
    torch.testing.assert_close(encoder(*read(16), GRID), encoder(*read(24), GRID))


def test_flops_are_those_that_torch_counts(encoder):
    length, (ids, valid) = 16, read()
    with FlopCounterMode(display=False) as counter:
        encoder(ids, valid, GRID)
    with dense():
        forward = len(ids) * encoder.flops(length, GRID)
    assert forward == pytest.approx(counter.get_total_flops(), rel=0.02)
    with FlopCounterMode(display=False) as counter:
        encoder(ids, valid, GRID).sum().backward()
    with dense():
        both = len(ids) * encoder.training_flops(length, GRID)
    assert both == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert both < 3 * forward, "what is frozen is only read"


def test_another_tokenizer_than_the_language_model_s_is_refused(encoder):
    check_own_text("encoder", encoder, Bytes())
    with pytest.raises(ValueError, match=r"encoder\.llm reads other tokens than `text`"):
        check_own_text("encoder", encoder, BPE(300))
