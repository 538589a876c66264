"""Language models of transformers as trunks, and their weights in ours: equal outputs."""

import pytest
import torch

from unify.nn.masks import Mask
from unify.nn.pretrained import PretrainedTrunk, llama_settings, load_llama
from unify.nn.trunk import Tokens, Trunk

SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_theta": 1e4,
}
KINDS = ["Llama", "Qwen2", "Qwen3"]


def random_model(kind: str, **more):
    """A causal language model with every weight random, biases and gains too."""
    import transformers

    if kind == "Qwen3":
        more = {"head_dim": 24} | more
    config = getattr(transformers, f"{kind}Config")(**(SIZES | more))
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        gain = float(parameter.ndim == 1)
        torch.nn.init.normal_(parameter, mean=gain, std=0.1)
    return model


def loaded(model) -> tuple[Trunk, dict[str, torch.Tensor]]:
    trunk = Trunk(**llama_settings(model.config)).eval()
    return trunk, load_llama(trunk, model.state_dict())


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return random_model(request.param)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    return str(path)


def sequence(rows: int = 2, tokens: int = 11):
    x = torch.randn(rows, tokens, 64, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(rows, tokens, dtype=torch.bool)
    return x, Mask.causal(valid), torch.arange(tokens).expand(rows, tokens)


def with_image() -> Mask:
    ones = torch.ones(2, 4, dtype=torch.bool)
    return Mask.cat([Mask.causal(ones), Mask.full(ones), Mask.causal(ones[:, :3])])


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_our_trunk_with_loaded_weights_gives_equal_logits(model):
    trunk, outside = loaded(model)
    ids = torch.randint(0, 50, (2, 11))
    _, mask, positions = sequence()
    hidden = trunk(Tokens(outside["embed_tokens.weight"][ids], mask, positions))
    close(hidden, model.model(ids).last_hidden_state)
    close(hidden @ outside["lm_head.weight"].T, model(ids).logits)


@torch.no_grad()
def test_axes_that_agree_leave_a_loaded_model_as_it_is(model):
    settings = llama_settings(model.config) | {"sections": [2, 1, 1]}
    trunk = Trunk(**settings)
    load_llama(trunk, model.state_dict())
    x, mask, positions = sequence()
    close(trunk(Tokens(x, mask, positions)), loaded(model)[0](Tokens(x, mask, positions)))


@torch.no_grad()
def test_a_pretrained_trunk_equals_transformers_and_ours_under_any_mask(model, folder):
    trunk, (x, mask, positions) = PretrainedTrunk(folder), sequence()
    close(trunk(Tokens(x, mask, positions)), model.model(inputs_embeds=x).last_hidden_state)
    ours = loaded(model)[0]
    close(trunk(Tokens(x, with_image(), positions)), ours(Tokens(x, with_image(), positions)))
    assert (trunk.dim, trunk.depth, trunk.axes) == (ours.dim, ours.depth, ours.axes)
    assert trunk.flops(22, 132) == ours.flops(22, 132)
    ids = torch.arange(5)
    assert torch.equal(trunk.embedding(ids), model.get_input_embeddings()(ids))


@torch.no_grad()
def test_a_pretrained_trunk_with_a_cache_equals_its_full_forward(folder):
    trunk, (x, _, positions), mask = PretrainedTrunk(folder), sequence(), with_image()
    full, cache, seen = trunk(Tokens(x, mask, positions)), trunk.cache(), []
    for part in (slice(0, 4), slice(4, 8), slice(8, 9), slice(9, 11)):
        known = Mask(*(ids[:, : part.stop] for ids in mask.ids)).queries(part.start)
        frozen = trunk(Tokens(x[:, part] + 1, known, positions[:, part]), cache.view())
        seen.append(trunk(Tokens(x[:, part], known, positions[:, part]), cache))
        assert not torch.equal(frozen, seen[-1])
        assert cache.length == part.stop
    close(torch.cat(seen, 1), full)


@torch.no_grad()
def test_chosen_layers_of_a_pretrained_trunk_are_those_of_ours(model, folder):
    x, mask, positions = sequence()
    hidden, chosen = PretrainedTrunk(folder)(Tokens(x, mask, positions), layers=[0, 1, 3])
    expected, ours = loaded(model)[0](Tokens(x, mask, positions), layers=[0, 1, 3])
    close(hidden, expected)
    assert sorted(chosen) == sorted(ours) == [0, 1, 3]
    for count in chosen:
        torch.testing.assert_close(chosen[count], ours[count], rtol=1e-4, atol=1e-4)


def test_a_frozen_one_stays_in_eval_without_gradients_but_passes_them_on(folder):
    trunk = PretrainedTrunk(folder)
    torch.nn.ModuleDict({"trunk": trunk}).train()
    assert not any(part.training for part in trunk.modules())
    x, mask, positions = sequence()
    x.requires_grad_()
    trunk(Tokens(x, mask, positions)).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in trunk.parameters())


def test_one_that_is_not_frozen_trains(folder):
    trunk, (x, mask, positions) = PretrainedTrunk(folder, frozen=False), sequence()
    assert trunk.train().training
    assert not trunk.eval().training
    trunk(Tokens(x, mask, positions)).square().sum().backward()
    assert all(p.grad is not None for p in trunk.model.parameters())


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("Llama", {"attention_bias": True}, "biases beyond qkv"),
        ("Llama", {"mlp_bias": True}, "biases beyond qkv"),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "scaled rotary positions",
        ),
        ("Gemma", {}, "gemma model is not of Llama, Qwen2 or Qwen3 type"),
    ],
)
def test_what_our_trunk_has_not_is_refused(kind, more, words):
    import transformers

    sizes = {k: v for k, v in SIZES.items() if k != "rope_theta" or "rope_parameters" not in more}
    with pytest.raises(ValueError, match=words):
        llama_settings(getattr(transformers, f"{kind}Config")(**(sizes | more)))


def test_weights_that_do_not_fit_are_named():
    model = random_model("Qwen2")
    settings = llama_settings(model.config)
    for change, words in (
        ({"depth": 4}, "no layers.3.input_layernorm.weight"),
        ({"qkv_bias": False}, "no place for layers.0.self_attn.k_proj.bias"),
        ({"qk_norm": True}, "no layers.0.self_attn.q_norm.weight"),
        ({"hidden": 64}, r"gate_up.weight is \(128, 64\), the weights \(192, 64\)"),
    ):
        with pytest.raises(ValueError, match=words):
            load_llama(Trunk(**(settings | change)), model.state_dict())
