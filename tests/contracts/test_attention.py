"""What reads what: the dependency of hidden states on inputs, by gradient, against the mask."""

from dataclasses import replace

import pytest
import torch

from unify.nn.trunk import Backbone


def probe(subject, task):
    """(depends [S S] of row 0, mask of the call): whether hidden q depends on input k."""
    seen = {}

    def before(module, args):
        tokens, *rest = args
        if not torch.is_grad_enabled():  # a pass that nothing is learned through
            return args
        x = tokens.x.detach().clone().requires_grad_(True)
        seen.update(x=x, mask=tokens.mask)
        return replace(tokens, x=x), *rest

    def after(module, args, out):
        if torch.is_grad_enabled():
            seen["hidden"] = out[0] if isinstance(out, tuple) else out  # with states of layers

    trunk = subject.model.trunk
    handles = [
        trunk.register_forward_pre_hook(before),
        trunk.register_forward_hook(after),
    ]
    subject.terms(subject.batch(task, 2))
    for handle in handles:
        handle.remove()
    hidden, x = seen["hidden"], seen["x"]
    rows = []
    for query in range(hidden.shape[1]):
        (gradient,) = torch.autograd.grad(hidden[0, query].sum(), x, retain_graph=True)
        assert gradient[1].abs().max() == 0, "a row depends on its batch mate"
        rows.append(gradient[0].abs().amax(-1) > 0)
    return torch.stack(rows), seen["mask"]


@pytest.fixture
def probes(subject):
    if not isinstance(getattr(subject.model, "trunk", None), Backbone):
        pytest.skip("no trunk to probe")
    return [probe(subject, task) for task in subject.tasks]


def test_hidden_states_depend_on_exactly_what_the_mask_allows(probes):
    """Over several layers: on what can be reached through allowed reads."""
    for depends, mask in probes:
        allowed = mask.dense()[0, 0]
        reach = torch.linalg.matrix_power(allowed.double(), len(allowed).bit_length() + 1) > 0
        valid = mask.valid[0]
        assert not (depends & ~reach)[valid].any()
        assert depends[valid][:, valid].logical_or(~allowed[valid][:, valid]).all()


def test_text_is_causal_as_declared(subject, probes):
    if not subject.model.causal_text:
        pytest.skip("declares text that is not causal")
    for depends, mask in probes:
        text = (mask.segment[0] < 0) & mask.valid[0]
        later = torch.ones_like(depends).triu(1)
        assert not (depends & later)[text].any()


def test_padding_is_never_read(probes):
    for depends, mask in probes:
        valid = mask.valid[0]
        assert not depends[valid][:, ~valid].any()
