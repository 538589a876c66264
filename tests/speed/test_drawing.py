"""The pairs of `unify bench` draw as much on either side; nothing here is timed."""

import pytest
import torch

from unify.nn.trunk import Trunk
from unify.speed import drawing


def calls_of_trunks(monkeypatch, run):
    """The passes of a trunk that a run makes: rows and tokens of each."""
    seen, forward = [], Trunk.forward

    def counted(self, tokens, *rest, **named):
        seen.append(tuple(tokens.x.shape[:2]))
        return forward(self, tokens, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Trunk, "forward", counted)
        run()
    return seen


@pytest.mark.slow  # transformers
def test_as_many_codes_are_drawn_by_either_side(monkeypatch):
    from transformers import LlamaForCausalLM

    passes, forward = [], LlamaForCausalLM.forward

    def counted(self, input_ids, *rest, **named):
        passes.append(tuple(input_ids.shape))
        return forward(self, input_ids, *rest, **named)

    monkeypatch.setattr(LlamaForCausalLM, "forward", counted)
    ours, theirs = drawing.codes_pair(torch.device("cpu"))
    theirs()
    seen = calls_of_trunks(monkeypatch, ours)
    assert len(seen) == len(passes) == 64
    assert seen[0] == passes[0], "one prompt, of one length"


def test_a_sampler_calls_the_network_as_often_as_the_bare_loop(monkeypatch):
    monkeypatch.setattr(drawing, "STEPS", 3)
    drawn, bare = drawing.flow_pair(torch.device("cpu"))
    alone = calls_of_trunks(monkeypatch, bare)
    assert len(alone) == drawing.STEPS
    prefix, *steps = calls_of_trunks(monkeypatch, drawn)
    assert steps == alone
    assert prefix[1] < steps[0][1], "the prompt, read once"
