"""Precision on a device: what is asked for, or what the device computes itself."""

import pytest
import torch

from unify.support import precision
from unify.support.precision import autocast, precision_on


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("asked", ["32-true", "bf16-mixed"])
def test_a_precision_that_is_asked_for_is_taken(monkeypatch, asked, native):
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda kind: native)
    assert precision_on("cpu", asked) == asked


@pytest.mark.parametrize(("native", "result"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_bf16_only_where_the_device_multiplies_in_it(monkeypatch, native, result):
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda kind: native)
    assert precision_on("cpu", "auto") == result
    product = torch.bfloat16 if native else torch.float32
    with autocast("auto", "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == product


@pytest.mark.parametrize(
    ("has", "result"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "32-true"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"architecture": "aarch64"}, "32-true"),
    ],
)
def test_a_processor_needs_tiles(monkeypatch, has, result):
    """With AVX-512 BF16 alone oneDNN takes bf16, and is slower than in fp32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert precision_on("cpu", "auto") == result


def test_a_processor_answers_and_an_unknown_device_is_left_in_fp32():
    assert precision_on("cpu", "auto") in ("32-true", "bf16-mixed")
    assert precision_on("mps", "auto") == "32-true"
