"""The trunk: who depends on whom, cache, time conditioning, precision, FLOPs; and small layers."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.nn.layers import (
    Embedding,
    Linear,
    RMSNorm,
    SwiGLU,
    TimeEmbedding,
    ZeroLinear,
    modulate,
    patchify,
    sincos_2d,
    unpatchify,
)
from unify.nn.masks import Mask
from unify.nn.trunk import TimedTrunk, Tokens, Trunk

TEXT, IMAGE, LATER = slice(0, 4), slice(4, 10), slice(10, 13)


def mask(rows: int = 2) -> Mask:
    """4 text tokens, 6 of an image, 3 of text."""
    ones = torch.ones(rows, 13, dtype=torch.bool)
    parts = [Mask.causal(ones[:, TEXT]), Mask.full(ones[:, IMAGE]), Mask.causal(ones[:, LATER])]
    return Mask.cat(parts)


def positions(rows: int = 2) -> torch.Tensor:
    return torch.arange(13).expand(rows, 13)


def build(kind: type[Trunk] = Trunk, **settings) -> Trunk:
    torch.manual_seed(0)
    base = {"dim": 32, "depth": 3, "heads": 4, "kv_heads": 2, "qk_norm": True}
    return kind(**(base | settings)).eval()


def inputs(rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, 13, 32, generator=torch.Generator().manual_seed(1))


def close(a, b, tolerance: float = 1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_what_a_token_depends_on_is_what_the_mask_says():
    # in one layer exactly the pairs of the mask; in three its closure, which is the same here
    for depth in (1, 3):
        trunk, x = build(depth=depth), inputs(1).requires_grad_()
        hidden = trunk(Tokens(x, mask(1), positions(1)))
        depends = torch.stack(
            [
                torch.autograd.grad(h.sum(), x, retain_graph=True)[0][0].abs().sum(-1)
                for h in hidden[0]
            ]
        )
        assert torch.equal(depends > 0, mask(1).dense()[0, 0])


def test_text_is_causal_and_an_image_is_bidirectional_inside():
    trunk, x = build(), inputs()
    before = trunk(Tokens(x, mask(), positions()))
    later = x.clone()
    later[:, LATER] += 1
    assert torch.equal(trunk(Tokens(later, mask(), positions()))[:, :10], before[:, :10])
    patch = x.clone()
    patch[:, 9] += 1
    after = trunk(Tokens(patch, mask(), positions()))
    assert torch.equal(after[:, TEXT], before[:, TEXT])
    assert ((after - before)[:, 4:].abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("sections", [None, [2, 1, 1]])
def test_decoding_with_a_cache_equals_the_full_forward(sections):
    trunk, x = build(sections=sections), inputs()
    at = torch.randint(0, 9, (2, 13, trunk.axes))
    full = trunk(Tokens(x, mask(), at))
    for capacity in (0, 13):
        cache, seen = trunk.cache(capacity), []
        with torch.no_grad():
            for part in (TEXT, IMAGE, slice(10, 11), slice(11, 12), slice(12, 13)):
                known = Mask(*(ids[:, : part.stop] for ids in mask().ids))
                seen.append(
                    trunk(Tokens(x[:, part], known.queries(part.start), at[:, part]), cache)
                )
        close(torch.cat(seen, 1), full.detach())
        assert cache.length == 13


def test_denoising_over_a_frozen_prefix_leaves_it_bit_identical():
    trunk, x = build(), inputs()
    cache = trunk.cache()
    prefix = Mask(*(ids[:, TEXT] for ids in mask().ids))
    known = Mask(*(ids[:, : IMAGE.stop] for ids in mask().ids)).queries(4)
    with torch.no_grad():
        trunk(Tokens(x[:, TEXT], prefix, positions()[:, TEXT]), cache)
        kept = [t.clone() for t in (*cache.keys, *cache.values)]
        for step in range(3):
            noised = x.clone()
            noised[:, IMAGE] += step
            block = trunk(Tokens(noised[:, IMAGE], known, positions()[:, IMAGE]), cache.view())
            close(block, trunk(Tokens(noised, mask(), positions()))[:, IMAGE])
    assert cache.length == 4
    assert all(torch.equal(a, b) for a, b in zip(kept, (*cache.keys, *cache.values), strict=True))


def test_guidance_rows_repeated_from_one_prefix_equal_their_own_forward():
    trunk, x = build(), inputs()
    cache, prefix = trunk.cache(), Mask(*(ids[:, TEXT] for ids in mask().ids))
    known = Mask(*(ids[:, : IMAGE.stop] for ids in mask().ids)).queries(4)
    index = torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        trunk(Tokens(x[:, TEXT], prefix, positions()[:, TEXT]), cache)
        rows = x[index][:, IMAGE]
        twice = trunk(Tokens(rows, known.rows(index), positions(4)[:, IMAGE]), cache.repeat(2))
    close(twice, trunk(Tokens(x, mask(), positions()))[:, IMAGE][index].detach())


@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("after", [0, 3])
def test_padding_on_either_side_changes_nothing(before, after):
    trunk, x = build(), inputs()
    full = trunk(Tokens(x, mask(), positions()))

    def filler(n: int) -> Mask:
        return Mask.causal(torch.zeros(2, n, dtype=torch.bool))

    padded = torch.cat([torch.randn(2, before, 32), x, torch.randn(2, after, 32)], 1)
    at = torch.nn.functional.pad(positions(), (before, after))
    hidden = trunk(Tokens(padded, Mask.cat([filler(before), mask(), filler(after)]), at))
    assert hidden.isfinite().all()
    close(hidden[:, before : before + 13], full)


def test_batch_mates_and_packed_neighbours_change_nothing():
    trunk, x = build(), inputs(3)
    full = trunk(Tokens(x, mask(3), positions(3)))
    close(trunk(Tokens(x[1:2], mask(1), positions(1))), full[1:2])
    packed = Mask.cat([mask(1), mask(1)])
    packed.document[:, 13:] = 1
    packed.segment[:, 13:] += 2 * (packed.segment[:, 13:] >= 0)
    hidden = trunk(Tokens(x[:2].reshape(1, 26, 32), packed, positions().reshape(1, 26)))
    close(hidden.reshape(2, 13, 32), full[:2])


def test_swapping_packed_documents_swaps_their_outputs():
    trunk, x = build(), inputs(1)
    ones = torch.ones(1, 5, dtype=torch.bool)
    documents = [(x, mask(1)), (x[:, 3:8].flip(1), Mask.causal(ones))]

    def packed(order: list[int]) -> list[torch.Tensor]:
        chosen = [documents[i] for i in order]
        whole = Mask.cat([ids for _, ids in chosen])
        lengths = [tokens.shape[1] for tokens, _ in chosen]
        whole.document[:] = torch.repeat_interleave(torch.tensor(order), torch.tensor(lengths))
        at = torch.cat([torch.arange(n) for n in lengths])[None]
        hidden = trunk(Tokens(torch.cat([tokens for tokens, _ in chosen], 1), whole, at))
        return list(hidden.split(lengths, 1))

    (first, second), (after, before) = packed([0, 1]), packed([1, 0])
    close(first, before)
    close(second, after)


def test_attention_with_qk_norm_ignores_the_scale_of_queries_and_keys():
    trunk = build(norm_eps=1e-12)
    plain = build(norm_eps=1e-12, qk_norm=False)
    before = trunk(Tokens(inputs(), mask(), positions()))
    unnormed = plain(Tokens(inputs(), mask(), positions()))
    with torch.no_grad():
        for model in (trunk, plain):
            for block in model.blocks:
                rows = (block.attention.heads + block.attention.kv_heads) * model.head_dim
                block.attention.qkv.weight[:rows] *= 10
    close(trunk(Tokens(inputs(), mask(), positions())), before)
    assert (plain(Tokens(inputs(), mask(), positions())) - unnormed).abs().max() > 1e-2


def test_a_timed_trunk_at_the_start_is_the_plain_one_bit_for_bit():
    plain, timed = build(), build(TimedTrunk)
    timed.load_state_dict(plain.state_dict(), strict=False)
    time = torch.randn(2, 13, 32)
    expected = plain(Tokens(inputs(), mask(), positions()))
    assert torch.equal(timed(Tokens(inputs(), mask(), positions())), expected)
    assert torch.equal(timed(Tokens(inputs(), mask(), positions(), time=time)), expected)
    assert torch.equal(plain(Tokens(inputs(), mask(), positions(), time=time)), expected)


def test_time_reaches_the_timed_tokens_only():
    trunk = build(TimedTrunk)
    for block in trunk.blocks:
        torch.nn.init.normal_(block.adaln.weight, std=0.3)
        torch.nn.init.normal_(block.adaln.bias, std=0.3)
    timed = torch.zeros(2, 13, dtype=torch.bool)
    timed[:, IMAGE] = True
    before = trunk(Tokens(inputs(), mask(), positions()))
    after = trunk(Tokens(inputs(), mask(), positions(), time=torch.ones(2, 13, 32), timed=timed))
    assert torch.equal(after[:, TEXT], before[:, TEXT])
    changed = (after - before).abs().amax(-1) > 1e-3
    assert changed[:, IMAGE].all()
    assert changed[:, LATER].all()  # which read the image
    none = trunk(
        Tokens(inputs(), mask(), positions(), time=torch.ones(2, 13, 32), timed=timed & False)
    )
    assert torch.equal(none, before)


def test_chosen_layers_are_the_states_between_blocks():
    trunk, x = build(), inputs()
    hidden, chosen = trunk(Tokens(x, mask(), positions()), layers=[0, 2, 3])
    assert sorted(chosen) == [0, 2, 3]
    assert torch.equal(chosen[0], x)
    assert torch.equal(trunk.norm(chosen[3]), hidden)
    close(hidden, trunk(Tokens(x, mask(), positions())))


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for checkpoint in (False, True):
        trunk = build(TimedTrunk, checkpoint=checkpoint)
        torch.nn.init.normal_(trunk.blocks[1].adaln.weight, std=0.3)
        time = torch.ones(2, 13, 32)
        trunk(Tokens(inputs(), mask(), positions(), time=time)).square().mean().backward()
        gradients.append([p.grad for p in trunk.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        close(plain, recomputed, 1e-6)


def test_under_bfloat16_autocast_the_residual_stream_stays_in_full_precision():
    trunk = build(TimedTrunk)
    expected = trunk(Tokens(inputs(), mask(), positions()))
    with torch.autocast("cpu", torch.bfloat16):
        hidden, chosen = trunk(
            Tokens(inputs(), mask(), positions(), time=torch.ones(2, 13, 32)), layers=[1, 3]
        )
    assert hidden.dtype == chosen[1].dtype == chosen[3].dtype == torch.float32
    close(hidden, expected, 0.1)
    hidden.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in trunk.parameters())


def test_a_trunk_in_bfloat16_or_float64_stays_in_it():
    expected = build()(Tokens(inputs(), mask(), positions()))
    for dtype, tolerance in ((torch.bfloat16, 0.2), (torch.float64, 1e-4)):
        hidden = build().to(dtype)(Tokens(inputs().to(dtype), mask(), positions()))
        assert hidden.dtype == dtype
        close(hidden.float(), expected, tolerance)


@pytest.mark.parametrize("kind", [Trunk, TimedTrunk])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_flops_equal_those_counted_by_torch(kind, kv_heads):
    trunk = build(kind, kv_heads=kv_heads)
    side = {"time": torch.ones(2, 13, 32)} if trunk.time_conditioned else {}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        trunk(Tokens(inputs(), mask(), positions(), **side))
    # torch counts every pair, read or not
    assert trunk.flops(tokens=26, pairs=2 * 13 * 13) == counter.get_total_flops()
    saved = 2 * 13 * 13 - mask().pairs()
    less = trunk.flops(26, 2 * 13 * 13) - trunk.flops(26, mask().pairs())
    assert less == 4 * saved * trunk.dim * trunk.depth


class Deeper(Trunk):
    """With a matrix after its blocks, or a convolution in them, that no formula counts."""

    def __init__(self, *words, where, **settings):
        super().__init__(*words, **settings)
        extra = torch.nn.Linear(8, 8) if where == "after" else torch.nn.Conv1d(8, 8, 3)
        (self if where == "after" else self.blocks[0]).extra = extra


@pytest.mark.parametrize(("where", "named"), [("after", "extra"), ("in", "blocks.0.extra")])
def test_flops_of_what_no_formula_counts_are_refused(where, named):
    with pytest.raises(ValueError, match=rf"Deeper: the FLOPs of {named}.weight .* define `flops`"):
        Deeper(32, 1, 2, where=where).flops(4, 16)


def test_wrong_settings_and_masks_are_refused_with_a_remedy():
    for settings, words in (
        ({"heads": 5, "kv_heads": 5}, "dim 32 does not divide into 5 heads"),
        ({"kv_heads": 3}, "kv_heads 3 does not divide 4 heads"),
        ({"sections": [1, 1, 1]}, "change heads or sections"),
    ):
        with pytest.raises(ValueError, match=words):
            build(**settings)
    trunk = build()
    with pytest.raises(ValueError, match=r"13 tokens.*12 new tokens.*Mask.queries"):
        trunk(Tokens(inputs()[:, :12], mask(), positions()[:, :12]))


def test_rms_norm_and_its_gradients_equal_the_formula():
    norm = RMSNorm(6, eps=0.1).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    expected = x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * norm.weight
    close(norm(x), expected, 1e-12)
    torch.autograd.gradcheck(lambda x, weight: norm(x), (x, norm.weight))
    zero = torch.zeros(1, 6, requires_grad=True)
    RMSNorm(6)(zero).sum().backward()
    assert zero.grad.isfinite().all()


@torch.no_grad()
def test_initial_scales_are_as_declared():
    torch.manual_seed(0)
    assert Linear(400, 300).weight.std() == pytest.approx(400**-0.5, rel=0.05)
    assert Linear(400, 300, scale=0.5).weight.std() == pytest.approx(0.5 * 400**-0.5, rel=0.05)
    assert Embedding(300, 400).weight.std() == pytest.approx(1, rel=0.05)
    assert not ZeroLinear(8, 8)(torch.randn(8)).any()
    trunk = build(dim=256, depth=8, heads=4)
    assert trunk.hidden == 704
    for block in trunk.blocks:
        assert block.attention.out.weight.std() == pytest.approx(256**-0.5 / 4, rel=0.05)
        assert block.mlp.down.weight.std() == pytest.approx(704**-0.5 / 4, rel=0.05)


def test_swiglu_is_its_formula():
    mlp, x = SwiGLU(8, 16), torch.randn(5, 8)
    gate, up = mlp.gate_up.weight.split(16)
    expected = (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ mlp.down.weight.T
    close(mlp(x), expected)


def test_time_embeddings_tell_times_apart_and_keep_the_shape():
    torch.manual_seed(0)
    embed = TimeEmbedding(16)
    t = torch.tensor([[0.0, 0.001, 0.5], [0.999, 1.0, 0.25]])
    out = embed(t)
    assert out.shape == (2, 3, 16)
    assert torch.cdist(out.flatten(0, 1), out.flatten(0, 1)).fill_diagonal_(1).min() > 1e-3
    close(embed(t[0, 2]), out[0, 2])


@pytest.mark.parametrize("p", [1, 2, 4])
def test_unpatchify_inverts_patchify_and_a_token_is_one_patch(p):
    latents = torch.randn(2, 3, 8, 12)
    tokens = patchify(latents, p)
    assert tokens.shape == (2, 96 // p**2, 3 * p * p)
    assert torch.equal(unpatchify(tokens, (8, 12), p), latents)
    row, column = divmod(5, 12 // p)
    patch = latents[:, :, row * p : (row + 1) * p, column * p : (column + 1) * p]
    assert torch.equal(tokens[:, 5], patch.flatten(1))


def test_sincos_tells_every_cell_apart_and_rows_from_columns():
    table = sincos_2d(5, 7, 32)
    assert table.shape == (35, 32)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1
    grid = table.reshape(5, 7, 32)
    assert torch.equal(grid[:, 0, :16], grid[:, 6, :16])  # the row's half
    assert torch.equal(grid[0, :, 16:], grid[4, :, 16:])  # the column's half
    assert torch.equal(sincos_2d(7, 5, 32).reshape(7, 5, 32)[3, 2, :16], grid[3, 2, :16])
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(2, 2, 6)


def test_sincos_sets_the_places_of_a_small_grid_apart():
    for side, share in ((4, 0.25), (8, 0.45), (16, 0.6)):
        table = sincos_2d(side, side, 128)
        assert table.var(0, correction=0).mean() > share * table.square().mean()


def test_modulate_is_the_identity_at_zero():
    x, zero = torch.randn(3, 4), torch.zeros(3, 4)
    assert torch.equal(modulate(x, zero, zero), x)
    assert torch.equal(modulate(x, zero + 2, zero + 1), x * 2 + 2)


def test_a_growing_cache_is_not_recomputed_by_checkpointing():
    trunk = build(dim=16, depth=2, heads=2, checkpoint=True)
    x, valid = torch.randn(2, 3, 16, requires_grad=True), torch.ones(2, 3, dtype=torch.bool)
    cache = trunk.cache()
    trunk(Tokens(x, Mask.causal(valid), torch.arange(3).expand(2, 3)), cache=cache).sum().backward()
    assert cache.length == 3
    assert x.grad.abs().sum() > 0
