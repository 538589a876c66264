"""The connector: published sizes, what reads what, its output's norm, other libraries' blocks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.nn.connector import Connector, HeadNorm, PlainEncoder, RotaryEncoder
from unify.nn.init import initialise
from unify.nn.masks import Mask
from unify.nn.trunk import Tokens, Trunk

WIDTH, OUT = 32, 24


def millions(*parts):
    return round(sum(p.numel() for part in parts for p in part.parameters()) / 1e6, 2)


def awake(module):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def make(encoder=None, **settings):
    connector = Connector(WIDTH, OUT, encoder or RotaryEncoder(WIDTH, 2, 2), **settings)
    initialise(connector, 0)
    return awake(connector)


@pytest.fixture
def hidden():
    return torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(0))


ENCODERS = [
    RotaryEncoder(WIDTH, 2, 2),
    RotaryEncoder(WIDTH, 2, 2, positions="none"),
    PlainEncoder(WIDTH, 2, 2),
]
NAMES = ["rotary", "rotary without positions", "plain"]
each_encoder = pytest.mark.parametrize("encoder", ENCODERS, ids=NAMES)


@pytest.mark.parametrize(
    ("dim", "heads", "encoder_size", "size"),
    [(896, 14, 308.43, 315.81), (2048, 32, 1610.96, 1620.99), (3584, 56, 4933.10, 4946.68)],
    ids=["B", "L", "XL"],
)
def test_metaquery_has_its_published_size(dim, heads, encoder_size, size):
    """Fact sheet: 315.81 M, 1.62 B and 4.95 B, of which 7.38, 10.03 and 13.57 M project."""
    with torch.device("meta"):
        encoder = RotaryEncoder(dim, 24, heads)
        connector = Connector(dim, 2304, encoder, output_rms=5.5**0.5)
    assert (millions(encoder), millions(connector)) == (encoder_size, size)


@pytest.mark.parametrize(
    ("dim", "heads", "hidden", "encoder_size", "size"),
    [(896, 14, 3072, 52.36, 54.66), (1536, 24, 8960, 221.91, 225.84)],
    ids=["B", "L"],
)
def test_openuni_has_its_published_size(dim, heads, hidden, encoder_size, size):
    with torch.device("meta"):
        encoder = PlainEncoder(dim, 6, heads, hidden)
        connector = Connector(dim, 2304, encoder, "linear", output_rms=None)
        queries = torch.nn.Embedding(256, dim)
    assert (millions(encoder), millions(connector, queries)) == (encoder_size, size)


def test_metaquerys_proj_enc_is_the_larger_one():
    """Fact sheet: an encoder as wide as the output, 2304, has 2038.8 M."""
    with torch.device("meta"):
        encoder = RotaryEncoder(2304, 24, 36)
        connector = Connector(896, 2304, encoder)
    assert round(millions(encoder), 1) == 2038.8
    assert connector.inward[0].in_features == 896
    assert isinstance(connector.outward, torch.nn.Identity)


@pytest.mark.parametrize(
    ("width", "before", "after"), [(WIDTH, False, True), (OUT, True, False), (16, True, True)]
)
def test_the_encoders_width_says_what_is_projected(hidden, width, before, after):
    connector = make(RotaryEncoder(width, 1, 2))
    assert connector(hidden).shape == (3, 7, OUT)
    present = [not isinstance(p, torch.nn.Identity) for p in (connector.inward, connector.outward)]
    assert present == [before, after]


def test_equal_widths_still_have_a_projection():
    assert isinstance(Connector(WIDTH, WIDTH, PlainEncoder(WIDTH, 1, 2)).outward, torch.nn.Module)
    assert len(Connector(WIDTH, WIDTH, PlainEncoder(WIDTH, 1, 2)).outward) == 3


@each_encoder
def test_without_positions_the_order_of_the_queries_does_not_matter(encoder, hidden):
    """Permutation-equivariant without positions, and not with rotary ones."""
    connector, order = make(copy.deepcopy(encoder)), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    same = torch.allclose(connector(hidden[:, order]), connector(hidden)[:, order], atol=1e-5)
    assert same == (getattr(encoder, "positions", "none") == "none")


@each_encoder
def test_every_token_reads_every_other(encoder, hidden):
    connector = make(copy.deepcopy(encoder))
    x = hidden.clone().requires_grad_(True)
    out = connector(x)
    for place in range(7):
        (gradient,) = torch.autograd.grad(out[0, place].sum(), x, retain_graph=True)
        assert (gradient[0].abs().amax(-1) > 0).all()
        assert gradient[1:].abs().max() == 0, "a row depends on its batch mate"


@each_encoder
def test_invalid_tokens_are_never_read(encoder, hidden):
    """Whatever they hold, and however many there are, on either side."""
    connector = make(copy.deepcopy(encoder))
    alone = connector(hidden[:, :5])
    valid = torch.arange(7) < 5
    after = connector(hidden, valid.expand(3, 7))
    torch.testing.assert_close(after[:, :5], alone, atol=1e-5, rtol=1e-5)
    before = connector(hidden.roll(2, 1), valid.roll(2).expand(3, 7))
    torch.testing.assert_close(before[:, 2:], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(connector(hidden)[:, :5], alone)


@pytest.mark.parametrize("scale", [5.5**0.5, 1.0])
def test_at_first_every_token_has_the_asked_root_mean_square(hidden, scale):
    connector = Connector(WIDTH, OUT, RotaryEncoder(WIDTH, 2, 2), output_rms=scale)
    initialise(connector, 0)
    rms = connector(hidden).square().mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, scale), rtol=1e-3, atol=0)


def test_without_output_norm_the_scale_is_the_projections_own(hidden):
    connector = make(output_rms=None)
    with torch.no_grad():
        single = connector(hidden)
        connector.outward[2].weight *= 2
        connector.outward[2].bias *= 2
        double = connector(hidden)
    torch.testing.assert_close(double, 2 * single)


def test_the_plain_encoder_is_siglips():
    """Equal to transformers' encoder on the same weights."""
    from transformers import SiglipVisionConfig
    from transformers.models.siglip.modeling_siglip import SiglipEncoder

    config = SiglipVisionConfig(
        hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    theirs, ours = awake(SiglipEncoder(config)), PlainEncoder(WIDTH, 2, 2, 48).eval()
    for layer, other in zip(ours.layers, theirs.layers, strict=True):
        attention = other.self_attn
        qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
        parts = {
            "self_attn.in_proj_weight": torch.cat([p.weight for p in qkv]),
            "self_attn.in_proj_bias": torch.cat([p.bias for p in qkv]),
        }
        for mine, name in {
            "self_attn.out_proj": "self_attn.out_proj",
            "linear1": "mlp.fc1",
            "linear2": "mlp.fc2",
            "norm1": "layer_norm1",
            "norm2": "layer_norm2",
        }.items():
            part = other.get_submodule(name)
            parts |= {f"{mine}.weight": part.weight, f"{mine}.bias": part.bias}
        layer.load_state_dict(parts)
    x, valid = torch.randn(2, 5, WIDTH), torch.ones(2, 5, dtype=torch.bool)
    wanted = theirs(inputs_embeds=x, attention_mask=None).last_hidden_state
    torch.testing.assert_close(ours(x, valid), wanted, atol=1e-5, rtol=1e-5)
    with torch.no_grad():  # torch's inference kernels
        torch.testing.assert_close(ours(x, valid), wanted.detach(), atol=1e-5, rtol=1e-5)


def released_layer(x, layer, rotary):
    """MetaQuery's layer in the order of its release, from transformers' Qwen2 parts: rotary
    positions first, then unit length x weight per head and number x sqrt(d); full attention."""
    from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

    attention = layer.attention
    heads, size = attention.heads, attention.head_dim

    def norm(x, weight):
        return F.rms_norm(x, x.shape[-1:], weight, eps=1e-6)

    q, k, v = attention.qkv(norm(x, layer.norm1.weight)).unflatten(-1, (3, heads, size)).unbind(2)
    q, k = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), *rotary)
    q = F.normalize(q, dim=-1) * attention.q_rotated_norm.weight * size**0.5
    k = F.normalize(k, dim=-1) * attention.k_rotated_norm.weight * size**0.5
    mixed = F.scaled_dot_product_attention(q, k, v.transpose(1, 2)).transpose(1, 2).flatten(2)
    x = x + attention.out(mixed)
    return x + layer.mlp(norm(x, layer.norm2.weight))


@pytest.mark.parametrize("away", [0.0, 0.3])
def test_the_rotary_encoder_norms_after_rotating_as_metaquery_does(hidden, away):
    """Equal to the release's order with weights of q and k that are far from 1."""
    from transformers import Qwen2Config
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

    ours = awake(RotaryEncoder(WIDTH, 2, 2))
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            if "rotated_norm" in name:
                weight.normal_(1, away)
    config = Qwen2Config(hidden_size=WIDTH, num_attention_heads=2)
    valid = torch.ones(3, 7, dtype=torch.bool)
    rotary = Qwen2RotaryEmbedding(config)(hidden, torch.arange(7).expand(3, 7))
    wanted = hidden
    for layer in ours.trunk.blocks:
        wanted = released_layer(wanted, layer, rotary)
    torch.testing.assert_close(ours(hidden, valid), wanted, atol=1e-4, rtol=1e-4)


def test_the_rotary_encoder_is_a_trunk_that_reads_both_ways(hidden):
    """With one weight for all numbers of q and k, up to the trunk's last norm."""
    ours = RotaryEncoder(WIDTH, 2, 2)
    trunk = awake(Trunk(WIDTH, 2, 2, hidden=4 * WIDTH, qk_norm=True, qkv_bias=True))
    state = dict(trunk.state_dict())
    del state["norm.weight"]
    for name in [name for name in state if "q_norm" in name or "k_norm" in name]:
        scale = state.pop(name).fill_(1.3).expand(2, 1, -1)
        state[name.replace("_norm", "_rotated_norm")] = scale
    ours.trunk.load_state_dict(state)
    valid = torch.ones(3, 7, dtype=torch.bool)
    _, wanted = trunk(Tokens(hidden, Mask.full(valid), torch.arange(7).expand(3, 7)), layers=[2])
    torch.testing.assert_close(ours(hidden, valid), wanted[2], atol=1e-5, rtol=1e-5)


def test_a_heads_norm_is_unit_length_times_root_d():
    norm, x = awake(HeadNorm(2, 8)), torch.randn(3, 2, 5, 8)
    unit = F.normalize(x, dim=-1)
    torch.testing.assert_close(norm(x), unit * 8**0.5 * norm.weight, atol=1e-4, rtol=1e-4)


def test_checkpointing_changes_neither_loss_nor_gradients(hidden):
    result = []
    for checkpoint in (False, True):
        connector = make(RotaryEncoder(WIDTH, 2, 2, checkpoint=checkpoint))
        loss = connector(hidden).square().mean()
        result.append((loss, *torch.autograd.grad(loss, list(connector.parameters()))))
    for plain, recomputed in zip(*result, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-5)


@each_encoder
def test_flops_are_those_that_are_counted(encoder, hidden):
    connector = make(copy.deepcopy(encoder))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        connector(hidden)
    assert 3 * connector.flops(7) == pytest.approx(counter.get_total_flops())


def test_two_builds_start_equal():
    one, two = (Connector(WIDTH, OUT, PlainEncoder(16, 1, 2)) for _ in range(2))
    initialise(one, 0)
    initialise(two, 0)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
