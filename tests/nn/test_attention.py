"""Attention backends against a softmax in float64, rotary positions, the cache."""

import math

import pytest
import torch

from unify.nn.attention import (
    Cache,
    attend,
    axis_of_pairs,
    rope,
    rope_tables,
    rotate,
    set_backend,
)
from unify.nn.masks import Mask


@pytest.fixture
def backend():
    before = set_backend("auto")
    yield set_backend
    set_backend(before)


def mixed_mask(rows: int = 2) -> Mask:
    """Text, a noised image, its clean copy, padded text."""
    real = torch.ones(rows, 3, dtype=torch.bool)
    padded = torch.tensor([[True, True, False]]).expand(rows, -1)
    return Mask.cat(
        [Mask.causal(real), Mask.full(real, 0, True), Mask.full(real, 1), Mask.causal(padded)]
    )


def qkv(
    heads: int, groups: int, dtype=torch.float32, start: int = 0, keys: int = 12, dim: int = 16
):
    generator = torch.Generator().manual_seed(0)

    def draw(h: int, s: int) -> torch.Tensor:
        return torch.randn(2, h, s, dim, generator=generator, dtype=torch.float64).to(dtype)

    return draw(heads, keys - start), draw(groups, keys), draw(groups, keys)


def naive(q, k, v, mask):
    """Softmax attention written out."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~mask.dense(), -torch.inf).softmax(-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("start", [0, 5])
def test_sdpa_and_its_gradients_equal_the_softmax_written_out_in_float64(groups, start, backend):
    backend("sdpa")
    mask = mixed_mask().queries(start)
    parts = [x.requires_grad_() for x in qkv(4, groups, torch.float64, start)]
    ours, theirs = attend(*parts, mask), naive(*parts, mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    weight = torch.randn(ours.shape, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), parts),
        torch.autograd.grad((theirs * weight).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("start", [9, 10, 11])
@torch.no_grad()
def test_a_few_queries_equal_the_softmax_written_out_in_float64(groups, start, backend):
    backend("sdpa")
    mask, parts = mixed_mask().queries(start), qkv(4, groups, torch.float64, start)
    torch.testing.assert_close(attend(*parts, mask), naive(*parts, mask), rtol=1e-10, atol=1e-12)


def test_a_few_queries_are_as_precise_as_many_in_mixed_precision(backend):
    backend("sdpa")
    q, k, v = qkv(4, 2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        one = attend(q[:, :, -1:], k, v, mixed_mask().queries(11))
        many = attend(q, k, v, mixed_mask())
    torch.testing.assert_close(one, many[:, :, -1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("start", [0, 5])
def test_flex_equals_sdpa(groups, start, backend):
    parts, mask = qkv(4, groups, start=start), mixed_mask().queries(start)
    with torch.no_grad():
        backend("sdpa")
        expected = attend(*parts, mask)
        backend("flex")
        torch.testing.assert_close(attend(*parts, mask), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["flex", "xformers"])
@pytest.mark.parametrize("groups", [4, 2])
def test_gpu_backends_and_their_gradients_equal_sdpa(name, groups, backend):
    if not torch.cuda.is_available():
        pytest.skip("no accelerator")
    if name == "xformers":
        pytest.importorskip("xformers")
    ids = [x.cuda() for x in mixed_mask().ids]
    results = []
    for choice in ("sdpa", name):
        backend(choice)
        parts = [x.cuda().requires_grad_() for x in qkv(4, groups, dim=32)]
        out = attend(*parts, Mask(*ids))
        out.square().sum().backward()
        results.append([out, *(x.grad for x in parts)])
    for ours, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-2, atol=1e-2)


def test_xformers_says_what_to_do_where_it_cannot_run(backend):
    if torch.cuda.is_available():
        pytest.skip("it may run here")
    backend("xformers")
    with pytest.raises(ValueError, match=r"xformers.*sdpa"):
        attend(*qkv(4, 4), mixed_mask())


def test_flex_says_that_it_cannot_train_on_a_cpu(backend):
    backend("flex")
    with pytest.raises(ValueError, match=r"no backward on CPUs.*sdpa"):
        attend(*(x.requires_grad_() for x in qkv(4, 4)), mixed_mask())


def test_an_unknown_backend_is_refused(backend):
    with pytest.raises(ValueError, match="'fast' is not one of auto, sdpa, flex, xformers"):
        backend("fast")


def test_half_precision_on_a_cpu_is_attended_in_full_precision(backend):
    q, k, v = qkv(4, 2, torch.bfloat16)
    full = attend(q.float(), k.float(), v.float(), mixed_mask())
    half = attend(q, k, v, mixed_mask())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, full.to(torch.bfloat16))


def test_a_score_depends_on_the_difference_of_positions_only_on_every_axis():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 1, 1, 32, generator=generator, dtype=torch.float64)
    sections = [2, 1, 1]

    def score(at_q, at_k):
        turned = [
            rope(x, torch.tensor([[p]]), 10000.0, sections) for x, p in ((q, at_q), (k, at_k))
        ]
        return float((turned[0] * turned[1]).sum())

    base = score([7, 3, 5], [2, 4, 1])
    for axis in range(3):
        at_q, at_k = [7, 3, 5], [2, 4, 1]
        at_q[axis] += 11
        assert score(at_q, at_k) != pytest.approx(base, abs=1e-4)
        at_k[axis] += 11
        assert score(at_q, at_k) == pytest.approx(base, abs=1e-4)


def test_rope_keeps_norms_and_is_the_identity_at_position_zero():
    x = torch.randn(2, 3, 4, 16)
    positions = torch.randint(0, 50, (2, 4, 1))
    torch.testing.assert_close(rope(x, positions, 1e4, [1]).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rope(x, 0 * positions, 1e4, [1]), x)


def test_rope_turns_pairs_as_complex_numbers():
    x, positions = torch.randn(1, 2, 5, 8), torch.tensor([0, 1, 2, 30, 4]).reshape(1, 5, 1)
    frequencies = torch.tensor([100.0 ** (-2 * i / 8) for i in range(4)])
    turn = torch.polar(torch.ones(5, 4), positions[0] * frequencies)
    turned = torch.complex(x[..., :4], x[..., 4:]) * turn
    expected = torch.cat([turned.real, turned.imag], -1)
    torch.testing.assert_close(rope(x, positions, 100.0, [1]), expected)


def test_positions_that_agree_on_all_axes_turn_as_one_axis_does():
    x, position = torch.randn(1, 2, 5, 16), torch.arange(5).reshape(1, 5, 1)
    several = rope(x, position.expand(1, 5, 3), 1e4, [2, 1, 1])
    assert torch.equal(several, rope(x, position, 1e4, [1]))


def test_every_axis_gets_its_share_of_fast_and_of_slow_frequencies():
    axes = axis_of_pairs(16, [2, 1, 1])
    assert [axes.count(axis) for axis in range(3)] == [8, 4, 4]
    for axis in range(3):
        assert axis in axes[:4]
        assert axis in axes[-4:]
    assert axis_of_pairs(16, [8, 4, 4]) == axes
    with pytest.raises(ValueError, match="do not divide"):
        axis_of_pairs(16, [1, 1, 1])


def test_tables_are_in_full_precision_and_turning_twice_adds_angles():
    positions = torch.tensor([[[1000], [3]]])
    tables = rope_tables(positions, 8, 1e4, [1])
    assert all(t.dtype == torch.float32 and t.shape == (1, 1, 2, 8) for t in tables)
    x = torch.randn(1, 1, 2, 8)
    twice = rotate(rotate(x, *tables), *tables)
    torch.testing.assert_close(twice, rope(x, 2 * positions, 1e4, [1]), rtol=1e-4, atol=1e-4)


def filled(capacity: int = 0) -> tuple[Cache, list[torch.Tensor]]:
    cache, parts = Cache(2, capacity), list(torch.randn(5, 3, 2, 2, 4))
    for new in parts:
        for layer in range(2):
            cache.extend(layer, new + layer, -new)
    return cache, parts


@pytest.mark.parametrize("capacity", [0, 3, 100])
def test_a_cache_returns_all_tokens_in_order_whatever_its_capacity(capacity):
    cache, parts = filled(capacity)
    new = torch.randn(3, 2, 1, 4)
    k, v = cache.extend(1, new, new)
    assert torch.equal(k, torch.cat([*(p + 1 for p in parts), new], 2))
    assert torch.equal(v, torch.cat([*(-p for p in parts), new], 2))
    assert cache.length == 10  # layer 0 has not seen the new token yet


def test_a_frozen_view_reads_the_prefix_and_keeps_nothing():
    cache, parts = filled()

    def held():  # what its buffers have room for besides is not set
        return [x[:, :, : cache.length].clone() for x in (*cache.keys, *cache.values)]

    before = held()
    view = cache.view()
    for _ in range(3):
        new = torch.randn(3, 2, 6, 4)
        k, _ = view.extend(0, new, new)
        assert torch.equal(k, torch.cat([*parts, new], 2))
    assert view.length == cache.length == 10
    assert all(torch.equal(a, b) for a, b in zip(before, held(), strict=True))


def test_rows_and_repeats_are_copies():
    cache, parts = filled()
    twice, picked = cache.repeat(2), cache.rows(torch.tensor([2, 0]))
    picked.extend(0, torch.ones(2, 2, 1, 4), torch.ones(2, 2, 1, 4))
    new = torch.zeros(6, 2, 1, 4)
    past = torch.cat(parts, 2)
    assert torch.equal(twice.extend(0, new, new)[0][:, :, :10], past.repeat_interleave(2, 0))
    assert torch.equal(picked.keys[0][:, :, :10], past[[2, 0]])
    assert cache.lengths == [10, 10]


def test_a_kernel_may_take_the_place_of_the_backends(backend):
    calls = []

    def kernel(q, k, v, mask):
        calls.append(mask)
        return torch.full_like(q, 7.0)

    q = k = v = torch.zeros(1, 2, 3, 4)
    mask = Mask.causal(torch.ones(1, 3, dtype=torch.bool))
    backend(kernel)
    assert (attend(q, k, v, mask) == 7).all()
    assert calls == [mask]
    assert backend("sdpa") is kernel
    assert (attend(q, k, v, mask) == 0).all()
