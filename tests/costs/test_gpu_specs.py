"""Time of a step from a GPU's peak and its links."""

import pytest

from unify.costs.gpu_specs import GPUS, step_seconds


def test_a_step_is_bound_by_computing_or_by_what_travels():
    gpu = GPUS["h100"]
    assert step_seconds(gpu, 8, 8 * 989e12, 0, 0.5, fp32=False) == pytest.approx(2.0)
    assert step_seconds(gpu, 8, 1, 450e9, 0.5, fp32=False) == pytest.approx(1.0)
    assert step_seconds(gpu, 16, 1, 450e9, 0.5, fp32=False) == pytest.approx(9.0), "other nodes"
