"""Bytes of a step counted on tensors without memory, against the same step with values."""

import pytest
from tiny_forecasts import tiny
from torch._subclasses.fake_tensor import FakeTensorMode

from unify.config import build_recipe
from unify.costs import activation_memory
from unify.nn.init import initialise


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_without_values_holds_what_one_with_values_holds(precision):
    real = build_recipe(tiny("transfusion", f"machine.precision={precision}"), lambda *_: None)
    initialise(real.model, 0)
    counts = []
    for mode in (FakeTensorMode(allow_non_fake_inputs=True), None):
        live = activation_memory.Live()
        if mode is not None:
            fake = build_recipe(tiny("transfusion", f"machine.precision={precision}"))
            with mode:
                activation_memory._hollow(fake.model, live)
                forward = activation_memory._forward(fake, fake.data.tasks, live)
        else:
            parts = (real.model, real.model.image)
            for tensor in (x for part in parts for x in (*part.parameters(), *part.buffers())):
                live.count(tensor, activation_memory.MODEL)
            object.__setattr__(real.model.text, "encode", activation_memory._encoded)
            forward = activation_memory._forward(real, real.data.tasks, live)
        counts.append((forward, live.most, live.now))
    assert counts[0][0] == counts[1][0]
    assert counts[0][1].total() == pytest.approx(counts[1][1].total(), rel=0.01)
