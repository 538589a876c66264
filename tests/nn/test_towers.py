"""Two towers: equal to one where they should be, to a naive twin per token, and cut where declared.

Numbers in names are those of the invariants of dual-tower transformers: 20 copied towers, 21 the
partition, 22 text alone, 24 what a text loss trains, 26 FLOPs, 27 and 28 the cache.
"""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.nn.attention import rope, set_backend
from unify.nn.init import initialise
from unify.nn.layers import Linear
from unify.nn.masks import Mask
from unify.nn.pretrained import llama_settings, load_llama
from unify.nn.towers import IMAGE, TEXT, DualTrunk, TowerRuns
from unify.nn.trunk import TimedTrunk, Tokens, Trunk

# 4 tokens of text, 6 of an image in the image tower, 3 of text
TOWERS = ((TEXT, 4), (IMAGE, 6), (TEXT, 3))
PLACES = [tower for tower, n in TOWERS for _ in range(n)]
TEXTS = [place for place, tower in enumerate(PLACES) if tower == TEXT]
IMAGES = [place for place, tower in enumerate(PLACES) if tower == IMAGE]
RUNS = st.lists(st.tuples(st.sampled_from([TEXT, IMAGE]), st.integers(1, 5)), max_size=4)


def mask(rows: int = 2) -> Mask:
    ones = torch.ones(rows, 13, dtype=torch.bool)
    parts = [Mask.causal(ones[:, :4]), Mask.full(ones[:, 4:10]), Mask.causal(ones[:, 10:])]
    return Mask.cat(parts)


def positions(rows: int = 2) -> torch.Tensor:
    return torch.arange(13).expand(rows, 13)


def inputs(rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, 13, 32, generator=torch.Generator().manual_seed(1))


def base(**more) -> Trunk:
    torch.manual_seed(0)
    trunk = Trunk(**({"dim": 32, "depth": 3, "heads": 4, "kv_heads": 2, "qk_norm": True} | more))
    return shaken(trunk, 2)


def shaken(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every weight moved, gains too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def dual(separation: str = "full", text_tower: str = "trained", **more) -> DualTrunk:
    """Towers that differ."""
    trunk = DualTrunk(base(**more), separation, text_tower)
    if trunk.image is not None:
        shaken(trunk.image, 3)
    return trunk


def close(a, b, tolerance: float = 1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def twin(trunk: DualTrunk, x: torch.Tensor, mask: Mask, towers=TOWERS) -> torch.Tensor:
    """One row and one token at a time, in float64: the definition in loops."""
    double = copy.deepcopy(trunk).double()
    towers = [(double.text, double.image)[tower] for tower, n in towers for _ in range(n)]
    own = trunk.separation == "full"
    out = []
    for row, allowed in zip(x.double(), mask.dense()[:, 0], strict=True):
        tokens = list(row)
        for layer in range(trunk.depth):
            blocks = [tower.blocks[layer] for tower in towers]
            readers = [b if own else double.text.blocks[layer] for b in blocks]
            heads = [project(r, token) for r, token in zip(readers, tokens, strict=True)]
            read = [attended(trunk, heads, allowed[q], q) for q in range(len(tokens))]
            tokens = [t + r.attention.out(a) for t, r, a in zip(tokens, readers, read, strict=True)]
            tokens = [t + b.mlp(b.norm2(t)) for t, b in zip(tokens, blocks, strict=True)]
        out.append(torch.stack([w.norm(t) for w, t in zip(towers, tokens, strict=True)]))
    return torch.stack(out)


def project(block, token: torch.Tensor):
    """q [H d], k [G d], v [G d] of one token [D]."""
    attention = block.attention
    heads = attention.qkv(block.norm1(token)).view(-1, attention.head_dim)
    q, k, v = heads.split([attention.heads, attention.kv_heads, attention.kv_heads])
    return attention.q_norm(q), attention.k_norm(k), v


def attended(trunk: DualTrunk, heads, allowed: torch.Tensor, q: int) -> torch.Tensor:
    """What query q reads, [H*d]."""
    keys = allowed.nonzero().flatten().tolist()
    shared, theta, sections = trunk.heads // trunk.text.kv_heads, trunk.text.rope_theta, [1]

    def turned(x: torch.Tensor, place: int) -> torch.Tensor:
        return rope(x[None, :, None], torch.tensor([[[place]]]), theta, sections)[0, :, 0]

    query = turned(heads[q][0], q)
    k = torch.stack([turned(heads[j][1], j) for j in keys], 1).repeat_interleave(shared, 0)
    v = torch.stack([heads[j][2] for j in keys], 1).repeat_interleave(shared, 0)  # [H keys d]
    share = torch.softmax((k * query[:, None]).sum(-1) / trunk.head_dim**0.5, -1)
    return (share[..., None] * v).sum(1).flatten()


@settings(max_examples=25, deadline=None)
@given(RUNS)
def test_copied_towers_equal_the_single_tower_for_any_routing(runs):
    left = 13 - sum(n for _, n in runs)
    towers = (*runs, (TEXT, left)) if left > 0 else ((IMAGE, 13),)
    trunk = base()
    expected = trunk(Tokens(inputs(), mask(), positions()))
    for separation in ("ffn", "full"):
        routed = DualTrunk(trunk, separation)(Tokens(inputs(), mask(), positions(), towers=towers))
        close(routed, expected)


@settings(max_examples=25, deadline=None)
@given(RUNS.filter(len))
def test_split_partitions_the_tokens_and_join_is_its_inverse(towers):
    runs, x = TowerRuns(tuple(towers)), torch.randn(2, sum(n for _, n in towers), 3)
    text, image = runs.split(x)
    assert torch.equal(runs.join([text, image]), x)
    assert text.shape[1] == sum(n for tower, n in towers if tower == TEXT)
    assert text.shape[1] + image.shape[1] == x.shape[1]


@pytest.mark.parametrize("separation", ["ffn", "full"])
@pytest.mark.parametrize("backend", ["sdpa", "flex"])
@torch.no_grad()
def test_grouped_equals_a_naive_twin_per_token(separation, backend):
    trunk = dual(separation)
    before = set_backend(backend)
    try:
        hidden = trunk(Tokens(inputs(), mask(), positions(), towers=TOWERS))
    finally:
        set_backend(before)
    close(hidden, twin(trunk, inputs(), mask()).float())


@torch.no_grad()
def test_text_alone_is_the_base_bit_for_bit_whatever_the_image_tower():
    trunk, text = base(), Mask.causal(torch.ones(2, 13, dtype=torch.bool))
    expected = trunk(Tokens(inputs(), text, positions()))
    for separation in ("none", "ffn", "full"):
        both = DualTrunk(trunk, separation)
        if both.image is not None:
            shaken(both.image, 5)
        for towers in ((), ((TEXT, 13),)):
            assert torch.equal(both(Tokens(inputs(), text, positions(), towers=towers)), expected)


def test_text_alone_equals_the_loaded_language_model_after_training_of_the_image_tower():
    import transformers

    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = transformers.Qwen2ForCausalLM(config).eval()
    text = Trunk(**llama_settings(config)).eval()
    embedding = load_llama(text, model.state_dict())["embed_tokens.weight"]
    trunk = DualTrunk(text, text_tower="frozen")
    close(
        trunk(Tokens(inputs(), mask(), positions(), towers=TOWERS)),
        text(Tokens(inputs(), mask(), positions())),
    )
    optimizer = torch.optim.AdamW((p for p in trunk.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        trunk(Tokens(inputs(), mask(), positions(), towers=TOWERS))[
            :, IMAGES
        ].square().mean().backward()
        optimizer.step()
    assert not torch.equal(trunk.image.norm.weight, text.norm.weight)
    ids = torch.randint(0, 50, (2, 13))
    causal = Mask.causal(torch.ones(2, 13, dtype=torch.bool))
    with torch.no_grad():
        hidden = trunk(Tokens(embedding[ids], causal, positions()))
        close(hidden, model.model(ids).last_hidden_state)


@torch.no_grad()
def test_separation_none_is_the_trunk():
    trunk = base()
    expected = trunk(Tokens(inputs(), mask(), positions()))
    assert torch.equal(
        DualTrunk(trunk, "none")(Tokens(inputs(), mask(), positions(), towers=TOWERS)), expected
    )
    assert {n for n, _ in DualTrunk(trunk, "none").named_parameters()} == {
        f"text.{n}" for n, _ in trunk.named_parameters()
    }


def test_what_is_separate_is_as_declared():
    trunk = base()
    block = {n for n, _ in trunk.blocks[0].named_parameters()}
    for separation, own in (
        ("full", block),
        ("ffn", {n for n in block if n.startswith(("norm2", "mlp"))}),
    ):
        image = DualTrunk(trunk, separation).image
        assert {n for n, _ in image.blocks[0].named_parameters()} == own
        assert image.norm is not trunk.norm


def reached(trunk: DualTrunk, hidden: torch.Tensor, x: torch.Tensor) -> set[str]:
    """What gets a gradient other than zero: parts of the trunk, and of the input."""
    trunk.zero_grad()
    x.grad = None
    if hidden.requires_grad:
        hidden.square().sum().backward(retain_graph=True)
    moved = {
        name.partition(".")[0]
        for name, parameter in trunk.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    for name, places in (("text input", TEXTS), ("image input", IMAGES)):
        if x.grad is not None and x.grad[:, places].any():
            moved.add(name)
    return moved


@pytest.mark.parametrize("separation", ["ffn", "full"])
def test_what_each_loss_trains_by_text_tower(separation):
    expected = {
        "trained": ({"text", "image"}, {"text", "image"}),
        "frozen": ({"image"}, {"image"}),
        "detached": (set(), {"image"}),
    }
    for text_tower, (of_text, of_image) in expected.items():
        trunk, x = dual(separation, text_tower), inputs().requires_grad_()
        hidden = trunk(Tokens(x, mask(), positions(), towers=TOWERS))
        ways = {"text input"} if text_tower != "detached" else set()
        caption = {"image input"} if text_tower != "detached" else set()
        assert reached(trunk, hidden[:, 10:], x) == of_text | caption | ways
        assert reached(trunk, hidden[:, IMAGES], x) == of_image | {"image input"} | ways
        before = hidden[:, :4]  # text that reads no image never trains the image tower
        assert "image" not in reached(trunk, before, x)
        alone = trunk(Tokens(x, mask(), positions()))  # the same without an image token
        assert "image" not in reached(trunk, alone, x)
        assert (reached(trunk, alone, x) == set()) == (text_tower == "detached")


@pytest.mark.parametrize("text_tower", ["trained", "frozen", "detached"])
def test_text_tower_changes_gradients_and_no_output(text_tower):
    expected = dual()(Tokens(inputs(), mask(), positions(), towers=TOWERS))
    assert torch.equal(
        dual("full", text_tower)(Tokens(inputs(), mask(), positions(), towers=TOWERS)), expected
    )


def test_frozen_weights_have_no_gradient_and_shared_ones_are_frozen_with_the_text():
    for separation in ("ffn", "full"):
        trunk = dual(separation, "frozen")
        trained = {n for n, p in trunk.named_parameters() if p.requires_grad}
        assert trained == {n for n, _ in trunk.named_parameters() if n.startswith("image.")}


def test_to_3_what_a_token_depends_on_is_what_the_mask_says():
    for separation in ("ffn", "full"):
        trunk, x = dual(separation), inputs(1).requires_grad_()
        hidden = trunk(Tokens(x, mask(1), positions(1), towers=TOWERS))
        depends = torch.stack(
            [
                torch.autograd.grad(h.sum(), x, retain_graph=True)[0][0].abs().sum(-1)
                for h in hidden[0]
            ]
        )
        assert torch.equal(depends > 0, mask(1).dense()[0, 0])


def test_an_isolated_copy_in_the_image_tower_is_read_by_no_one():
    ones = torch.ones(1, 4, dtype=torch.bool)
    layout = Mask.cat(
        [Mask.causal(ones), Mask.full(ones, 0, isolated=0), Mask.full(ones, 1), Mask.causal(ones)]
    )
    towers, trunk = ((TEXT, 4), (IMAGE, 8), (TEXT, 4)), dual()
    x, at = torch.randn(1, 16, 32), torch.arange(16).expand(1, 16)
    hidden = trunk(Tokens(x, layout, at, towers=towers))
    noised, clean = x.clone(), x.clone()
    noised[:, 4:8] += 1
    clean[:, 8:12] += 1
    other = trunk(Tokens(noised, layout, at, towers=towers))
    assert torch.equal(other[:, :4], hidden[:, :4])
    assert torch.equal(other[:, 8:], hidden[:, 8:])
    other = trunk(Tokens(clean, layout, at, towers=towers))
    assert torch.equal(other[:, :8], hidden[:, :8])
    assert ((other - hidden)[:, 12:].abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("sections", [None, [2, 1, 1]])
@torch.no_grad()
def test_decoding_with_a_cache_equals_the_full_forward(sections):
    trunk, x = dual(sections=sections), inputs()
    at = torch.randint(0, 9, (2, 13, trunk.axes))
    full = trunk(Tokens(x, mask(), at, towers=TOWERS))
    for cuts in ([0, 4, 10, 11, 12, 13], [0, 2, 11, 13]):  # no image is cut
        cache, seen = trunk.cache(), []
        for start, stop in pairwise(cuts):
            known = Mask(*(ids[:, :stop] for ids in mask().ids)).queries(start)
            runs = tuple((tower, 1) for tower in PLACES[start:stop])
            seen.append(
                trunk(Tokens(x[:, start:stop], known, at[:, start:stop], towers=runs), cache)
            )
        close(torch.cat(seen, 1), full)


@torch.no_grad()
def test_denoising_over_a_frozen_prefix_leaves_it_bit_identical():
    trunk, x = dual(), inputs()
    cache = trunk.cache()
    prefix = Mask(*(ids[:, :4] for ids in mask().ids))
    known = Mask(*(ids[:, :10] for ids in mask().ids)).queries(4)
    trunk(Tokens(x[:, :4], prefix, positions()[:, :4]), cache)
    kept = [t.clone() for t in (*cache.keys, *cache.values)]
    for step in range(3):
        noised = x.clone()
        noised[:, IMAGES] += step
        block = trunk(
            Tokens(noised[:, IMAGES], known, positions()[:, 4:10], towers=((IMAGE, 6),)),
            cache.view(),
        )
        full = trunk(Tokens(noised, mask(), positions(), towers=TOWERS))
        close(block, full[:, IMAGES])
    assert all(torch.equal(a, b) for a, b in zip(kept, (*cache.keys, *cache.values), strict=True))


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing():
    trunk, x = dual(), inputs(3)
    full = trunk(Tokens(x, mask(3), positions(3), towers=TOWERS))
    close(trunk(Tokens(x[1:2], mask(1), positions(1), towers=TOWERS)), full[1:2])
    filler = Mask.causal(torch.zeros(3, 5, dtype=torch.bool))
    padded = torch.cat([x, torch.randn(3, 5, 32)], 1)
    at = torch.nn.functional.pad(positions(3), (0, 5))
    hidden = trunk(Tokens(padded, Mask.cat([mask(3), filler]), at, towers=(*TOWERS, (IMAGE, 5))))
    assert hidden.isfinite().all()
    close(hidden[:, :13], full)


@pytest.mark.parametrize("separation", ["none", "ffn", "full"])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_flops_equal_those_counted_by_torch_and_those_of_one_tower(separation, kv_heads):
    trunk, single = dual(separation, kv_heads=kv_heads), base(kv_heads=kv_heads)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        trunk(Tokens(inputs(), mask(), positions(), towers=TOWERS))
    counted = counter.get_total_flops()
    assert counted == trunk.flops(26, 2 * 13 * 13) == single.flops(26, 2 * 13 * 13)
    size = sum(p.numel() for p in trunk.parameters())
    if separation == "full":
        assert size == 2 * sum(p.numel() for p in single.parameters())


def test_towers_start_alike_and_as_the_single_trunk_of_another_arm():
    one = torch.nn.ModuleDict({"trunk": Trunk(32, 2, 2), "head": Linear(32, 4)})
    initialise(one, 5)
    for separation in ("none", "ffn", "full"):
        two = torch.nn.ModuleDict({"trunk": DualTrunk(Trunk(32, 2, 2), separation)})
        initialise(shaken(two, 1), 5)
        for tower in (two["trunk"].text, two["trunk"].image):
            for name, tensor in tower.state_dict().items() if tower is not None else ():
                assert torch.equal(tensor, one["trunk"].state_dict()[name]), name


def test_a_trained_text_tower_is_copied_and_kept_by_initialisation():
    text = base()
    text.pretrained = True
    trunk = DualTrunk(text)
    initialise(torch.nn.ModuleDict({"trunk": trunk}), 0)
    for name, tensor in base().state_dict().items():
        assert torch.equal(trunk.text.state_dict()[name], tensor)
        assert torch.equal(trunk.image.state_dict()[name], tensor)
    assert trunk.image.norm.weight.data_ptr() != trunk.text.norm.weight.data_ptr()


def test_chosen_layers_are_in_the_order_of_the_sequence():
    trunk, x = dual(), inputs()
    hidden, chosen = trunk(Tokens(x, mask(), positions(), towers=TOWERS), layers=[0, 2, 3])
    assert sorted(chosen) == [0, 2, 3]
    assert torch.equal(chosen[0], x)
    close(trunk.text.norm(chosen[3][:, TEXTS]), hidden[:, TEXTS])
    close(trunk.image.norm(chosen[3][:, IMAGES]), hidden[:, IMAGES])
    close(hidden, trunk(Tokens(x, mask(), positions(), towers=TOWERS)))


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for checkpoint in (False, True):
        trunk = dual(checkpoint=checkpoint)
        trunk(Tokens(inputs(), mask(), positions(), towers=TOWERS)).square().mean().backward()
        gradients.append([p.grad for p in trunk.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        close(plain, recomputed, 1e-6)


def test_under_bfloat16_autocast_the_residual_stream_stays_in_full_precision():
    trunk = dual()
    expected = trunk(Tokens(inputs(), mask(), positions(), towers=TOWERS))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = trunk(Tokens(inputs(), mask(), positions(), towers=TOWERS))
    assert hidden.dtype == torch.float32
    close(hidden, expected, 0.15)
    hidden.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in trunk.parameters())


def test_wrong_settings_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match="time enters with the patches; make the text tower a"):
        DualTrunk(TimedTrunk(32, 1, 2))
    with pytest.raises(ValueError, match="only tower would be frozen; set text_tower to trained"):
        DualTrunk(base(), "none", "frozen")
    with pytest.raises(ValueError, match="does not fit 0 cached and 12 new tokens"):
        dual()(Tokens(inputs()[:, :12], mask(), positions()[:, :12], towers=((IMAGE, 12),)))
