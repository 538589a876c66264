"""Pretrained language models as trunks.

    PretrainedTrunk   the decoder of a transformers causal language model, as it is
    LlamaTrunk        our own `Trunk` with weights of Llama, Qwen2 or Qwen3 type: equal outputs

B rows, S new tokens, D width, A position axes, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unify.nn.attention import Cache
from unify.nn.frozen import content_hash, freeze
from unify.nn.masks import Mask
from unify.nn.trunk import Backbone, Hidden, Tokens, Trunk, check_mask
from unify.support.ranges import Count

UNUSABLE = (
    "cannot be read and then asked: not all that it has read is in a key-value cache of attention; "
    "choose a model whose layers are all attention, of Llama or Qwen type for example"
)


class PretrainedTrunk(Backbone):
    """The decoder of a causal language model; `embedding` is its own table of input embeddings.

    `source` is a folder or a name on the Hugging Face hub. A frozen one is without gradient and in
    eval mode, whatever its parent does. Three tokens are read at first: ValueError for a model that
    keeps what it has read elsewhere than in keys and values, or takes no masks or positions.
    """

    pretrained = True

    def __init__(self, source: str, frozen: bool = True):
        from transformers import AutoModel

        super().__init__()
        model = AutoModel.from_pretrained(source, dtype=torch.float32, trust_remote_code=False)
        config = model.config
        self.dim, self.depth, self.axes = config.hidden_size, config.num_hidden_layers, 1
        self.embedding: nn.Module = model.get_input_embeddings()
        model.set_input_embeddings(nn.Identity())  # held once, under the name above
        self.model = model
        self._check(source)
        self.heads = config.num_attention_heads
        self.head_dim = getattr(config, "head_dim", None) or self.dim // self.heads
        self.source_hash = content_hash(self, source)
        if frozen:
            freeze(self)
        else:
            self.train()  # the library hands it out in eval mode

    @property
    def blocks(self) -> nn.ModuleList:  # type: ignore[override]
        return layers_of(self.model)

    @torch.no_grad()
    def _check(self, source: str) -> None:
        x, places = self.embedding(torch.arange(1, 4))[None], torch.arange(3)[None]
        valid = torch.ones(1, 3, dtype=torch.bool)
        name, causal = f"{source}: a {type(self.model).__name__}", Mask.causal(valid)

        def read(part: slice, cache: Cache) -> Any:
            mask = Mask.causal(valid[:, : part.stop]).queries(part.start)
            return self(Tokens(x[:, part], mask, places[:, part]), cache)

        check_cached(name, read, self.depth)
        plain = self(Tokens(x, causal, places))
        for other in (Tokens(x, Mask.full(valid), places), Tokens(x, causal, places**2)):
            if torch.equal(plain, self(other)):
                raise ValueError(f"{name} goes by masks or positions of its own: use another model")

    def forward(
        self, tokens: Tokens, cache: Cache | None = None, layers: Sequence[int] = ()
    ) -> Hidden:
        check_mask(tokens, cache)
        x, positions, allowed = tokens.x, tokens.positions, tokens.mask.dense()
        chosen = {0: x} if 0 in layers else {}
        if self.model.config._attn_implementation == "eager":  # which adds it to the scores
            allowed = torch.where(allowed, 0.0, torch.finfo(x.dtype).min)
        hooks = [
            self.blocks[count - 1].register_forward_hook(_keep(chosen, count))
            for count in layers
            if count
        ]
        try:
            hidden = self.model(
                inputs_embeds=x,
                attention_mask=allowed,
                position_ids=positions.reshape(*positions.shape[:2]),
                past_key_values=Past(cache) if cache is not None else None,
                use_cache=cache is not None,
            ).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return (hidden, chosen) if layers else hidden


def _keep(chosen: dict[int, Tensor], count: int):
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        chosen[count] = output[0] if isinstance(output, tuple) else output

    return hook


def layers_of(decoder: Any) -> nn.ModuleList:
    """Blocks of a decoder, by whatever name the library gives them. ValueError if it has none."""
    depth = getattr(decoder.config, "num_hidden_layers", None)
    for part in decoder.modules():
        if isinstance(part, nn.ModuleList) and len(part) == depth:
            return part
    raise ValueError(
        f"{type(decoder).__name__} has no layers: it is not a language model's decoder"
    )


def check_cached(name: str, read: Callable[[slice, Cache], Tensor], depth: int) -> None:
    """Raise ValueError unless three tokens, read in two pieces over a cache, are as read in one.

    `read` takes the tokens of a slice, after those that the cache holds, to hidden states [1 n D].
    """
    try:
        whole, cache = read(slice(0, 3), Cache(depth)), Cache(depth)
        pieces = torch.cat([read(slice(0, 2), cache), read(slice(2, 3), cache)], 1)
        wrong = (pieces - whole).abs().max() > 1e-3 * whole.abs().max()
    except Exception as error:
        raise ValueError(f"{name} {UNUSABLE} ({error})") from error
    if wrong:
        raise ValueError(f"{name} {UNUSABLE}")


class Past:
    """Our cache behind the interface of transformers' caches."""

    def __init__(self, cache: Cache):
        self.cache = cache

    def update(self, k: Tensor, v: Tensor, layer: int, *rest: Any, **more: Any) -> Any:
        return self.cache.extend(layer, k, v)

    def get_seq_length(self, layer: int = 0) -> int:
        return self.cache.lengths[layer]

    def get_query_offset(self, layer: int = 0) -> int:
        return self.cache.lengths[layer]

    def get_mask_sizes(self, new: int, layer: int = 0) -> tuple[int, int]:
        return self.cache.lengths[layer] + new, 0


def llama_settings(config: Any) -> dict[str, Any]:
    """`Trunk`'s arguments for a transformers config of Llama, Qwen2 or Qwen3 type.

    ValueError if the model has what our trunk has not.
    """
    kind = config.model_type
    if kind not in ("llama", "qwen2", "qwen3"):
        raise ValueError(
            f"a {kind} model is not of Llama, Qwen2 or Qwen3 type: use PretrainedTrunk"
        )
    rope = config.rope_parameters
    scaled = rope.get("rope_type", "default") != "default"
    biased = getattr(config, "mlp_bias", False) or (
        kind != "qwen2" and getattr(config, "attention_bias", False)
    )
    if scaled or biased or getattr(config, "use_sliding_window", False):
        raise ValueError(
            f"this {kind} model has scaled rotary positions, a sliding window or biases beyond "
            "qkv, which Trunk has not: use PretrainedTrunk"
        )
    return {
        "dim": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "hidden": config.intermediate_size,
        "head_dim": getattr(config, "head_dim", None),
        "qk_norm": kind == "qwen3",
        "qkv_bias": kind == "qwen2",
        "rope_theta": rope["rope_theta"],
        "norm_eps": config.rms_norm_eps,
    }


NAMES = {
    "attention.out.weight": ["self_attn.o_proj.weight"],
    "mlp.gate_up.weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    "mlp.down.weight": ["mlp.down_proj.weight"],
    "norm1.weight": ["input_layernorm.weight"],
    "norm2.weight": ["post_attention_layernorm.weight"],
    "attention.q_norm.weight": ["self_attn.q_norm.weight"],
    "attention.k_norm.weight": ["self_attn.k_norm.weight"],
    "attention.qkv.weight": [f"self_attn.{x}_proj.weight" for x in "qkv"],
    "attention.qkv.bias": [f"self_attn.{x}_proj.bias" for x in "qkv"],
}


def load_llama(trunk: Trunk, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy a transformers state dict into `trunk`, in place; returns what is not the trunk's.

    That is the input embedding (`embed_tokens.weight`) and the head (`lm_head.weight`). ValueError
    names what is missing, superfluous or of another shape.
    """
    left = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    ours = {}
    for name in trunk.state_dict():
        if ".adaln." in name:  # a time-conditioned block has it beyond the plain one
            continue
        theirs = _their_names(name)
        missing = [n for n in theirs if n not in left]
        if missing:
            raise ValueError(f"load_llama: the weights have no {', '.join(missing)} for {name}")
        ours[name] = torch.cat([left.pop(n) for n in theirs])
    outside = {n: t for n, t in left.items() if n in ("embed_tokens.weight", "lm_head.weight")}
    if superfluous := sorted(left.keys() - outside.keys()):
        raise ValueError(f"load_llama: the trunk has no place for {', '.join(superfluous)}")
    for name, tensor in ours.items():
        place = trunk.get_parameter(name)
        if place.shape != tensor.shape:
            raise ValueError(
                f"load_llama: {name} is {tuple(place.shape)}, the weights {tuple(tensor.shape)}"
            )
        with torch.no_grad():
            place.copy_(tensor)
    return outside


def _their_names(name: str) -> list[str]:
    if name == "norm.weight":
        return [name]
    _, index, part = name.split(".", 2)
    return [f"layers.{index}.{theirs}" for theirs in NAMES[part]]


class LlamaTrunk(Trunk):
    """`source` is a folder or a name on the Hugging Face hub; `sections`, `checkpoint` as in Trunk.

    `words` are the model's input embedding and head, [V D] each, until whoever embeds and predicts
    has taken them (`take_words`).
    """

    pretrained = True

    def __init__(self, source: str, sections: list[Count] | None = None, checkpoint: bool = False):
        from transformers import AutoConfig, AutoModelForCausalLM

        settings = llama_settings(AutoConfig.from_pretrained(source, trust_remote_code=False))
        super().__init__(**settings, sections=sections, checkpoint=checkpoint)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, trust_remote_code=False
        )
        outside = load_llama(self, model.state_dict())
        self.words = [outside[f"{name}.weight"] for name in ("embed_tokens", "lm_head")]
        self.source_hash = content_hash(self, source)

    def take_words(self) -> list[Tensor]:
        words, self.words = self.words, []
        return words


@torch.no_grad()
def fill_rows(table: nn.Parameter, rows: Tensor, own: int) -> None:
    """Rows of a pretrained table [V D], of the first `own` tokens, into ours, in place.

    Rows of our table beyond those are drawn around their mean, with their standard deviation, and
    alike every time: they count as pretrained.
    """
    kept = rows[:own]
    new = table[len(kept) :]
    table[: len(kept)] = kept
    noise = torch.randn(new.shape, generator=torch.Generator().manual_seed(0))
    new.copy_(kept.mean(0) + kept.std(0) * noise)
