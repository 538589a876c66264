"""Language and vision-language models of transformers, read once and asked (see language.py).

    row = template( images, instruction with the prompt in it )        then queries, or the answer

Template, image processor, vision encoder, masks and positions (mRoPE too) are the model's own; only
the key-value cache is ours. So its logits are those of the bare model, bit for bit. Rows are padded
on the left, as the library does for generation: then a row's tokens and its queries are neighbours.

B rows, S tokens of a context, N queries, D width.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unify.batch import Text
from unify.nn.attention import Cache
from unify.nn.flops import after_keys, causal, counted
from unify.nn.frozen import content_hash, freeze
from unify.nn.language import Context, LanguageModel
from unify.nn.pretrained import UNUSABLE, Past, check_cached, layers_of
from unify.paradigm import TextRequest
from unify.sampling import TextSampler, decode_text

DESCRIBE = "Describe the image."  # the question that asks for a caption


class PretrainedVLM(LanguageModel):
    """`source` is a folder or a name on the Hugging Face hub.

    Any architecture will do whose layers are all attention; ValueError for one that keeps its state
    elsewhere than in keys and values. Special tokens that a user writes into a prompt are removed.

    Args:
        instruction: the text that the template gets in `read`; `{}` is replaced by the prompt
            (empty for the unconditional one).
        frozen: no gradient, and eval mode whatever the parent does.
    """

    pretrained = True

    def __init__(
        self, source: str, instruction: str = "Generate an image: {}", frozen: bool = True
    ):
        import transformers as hf

        super().__init__()
        if "{}" not in instruction:
            raise ValueError(f"instruction {instruction!r} has no {{}}, where the prompt belongs")
        safe: dict[str, Any] = {"trust_remote_code": False}  # else it asks, and waits for an answer
        self.sees = hasattr(hf.AutoConfig.from_pretrained(source, **safe), "vision_config")
        kind: Any = hf.AutoModelForImageTextToText if self.sees else hf.AutoModelForCausalLM
        self.model: Any = kind.from_pretrained(source, dtype=torch.float32, **safe)
        reader: Any = hf.AutoProcessor if self.sees else hf.AutoTokenizer
        self.processor: Any = reader.from_pretrained(source, **safe)
        self.tokenizer: Any = self.processor.tokenizer if self.sees else self.processor
        self.instruction = instruction
        self.depth = getattr(self.decoder.config, "num_hidden_layers", 0)
        self._check(source)
        self.dim = self.decoder.config.hidden_size
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        added = self.tokenizer.added_tokens_decoder.values()
        self.special = re.compile("|".join(re.escape(t.content) for t in added if t.special) or "$")
        self.source_hash = content_hash(self.model, source)
        if frozen:
            freeze(self)
        else:
            self.train()  # the library hands it out in eval mode

    def _check(self, source: str) -> None:
        name = f"{source}: a {type(self.model).__name__}"
        usable = {"full_attention", "sliding_attention"}
        if strange := set(getattr(self.decoder.config, "layer_types", None) or ()) - usable:
            raise ValueError(f"{name} {UNUSABLE} (it has layers of {', '.join(strange)})")
        if self.sees and self.processor.chat_template is None:
            raise ValueError(
                f"{source} has no chat template; choose a model that is tuned on instructions"
            )
        ids = torch.arange(1, 4)[None]

        def read(part: slice, cache: Cache) -> Any:
            valid, places = torch.ones(1, part.stop), torch.arange(part.start, part.stop)[None]
            return self._run(self.decoder, {"input_ids": ids[:, part]}, valid, places, cache)[0]

        with torch.no_grad():
            check_cached(name, read, self.depth)

    @property
    def decoder(self) -> Any:
        """The part that reads embeddings."""
        return self.model.get_decoder()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def read(
        self,
        prompts: Sequence[Text] | None,
        images: Sequence[Tensor] = (),
        length: int | None = None,
    ) -> Context:
        if prompts is None and not images:
            raise ValueError("read needs prompts, images, or both")
        rows = [None] * len(images[0]) if prompts is None else prompts
        texts = [self.instructed(text, length) for text in rows]
        inputs, valid, positions = self._inputs(texts, images)
        cache = Cache(self.depth)
        hidden = self._run(self.model.base_model, inputs, valid, positions, cache)[0]
        return Context(cache, hidden, valid, _next(positions, valid))

    def ask(self, context: Context, queries: Tensor) -> Tensor:
        rows, n = len(context.hidden), queries.shape[-2]
        steps = torch.arange(n, device=self.device)
        return self._run(
            self.decoder,
            {"inputs_embeds": queries.expand(rows, -1, -1)},  # [N D] -> [B N D]
            torch.cat([context.valid, context.valid.new_ones(rows, n)], 1),
            context.state[:, None] + steps,
            context.cache.view(),
        )[0]

    def _run(
        self, part: Any, inputs: dict[str, Any], valid: Tensor, positions: Tensor, cache: Cache
    ) -> Any:
        """One forward pass over new tokens: `valid` is of all tokens, `positions` of the new."""
        return part(
            **inputs,
            attention_mask=valid.long(),
            position_ids=positions,
            past_key_values=Past(cache),
            use_cache=True,
        )

    def _inputs(
        self, texts: Sequence[str], images: Sequence[Tensor]
    ) -> tuple[dict[str, Any], Tensor, Tensor]:
        """Inputs of the model by name; valid [B S]; positions [B S] or, by axis, [3 B S]."""
        pictures = {}
        if images:
            pixels = [((image + 1) * 127.5).round().clamp(0, 255).byte().cpu() for image in images]
            pictures["images"] = [list(row) for row in zip(*pixels, strict=True)]
        inputs = self.processor(
            text=[self.render(text, len(images)) for text in texts],
            **pictures,
            padding=True,
            padding_side="left",
            add_special_tokens=False,  # the template has them
            return_tensors="pt",
        ).to(self.device)
        base, mask = self.model.base_model, inputs["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        if hasattr(base, "get_rope_index"):
            positions = base.get_rope_index(**inputs)[0]
        return {k: v for k, v in inputs.items() if k != "attention_mask"}, mask.bool(), positions

    def render(self, text: str, images: int) -> str:
        """The template around a text after so many images, up to where the answer begins."""
        if images and not self.sees:
            raise ValueError(f"{type(self.model).__name__} reads no images")
        if self.processor.chat_template is None:
            return (self.tokenizer.bos_token or "") + text
        parts = [{"type": "image"}] * images + [{"type": "text", "text": text}]
        message = {"role": "user", "content": parts if self.sees else text}
        return self.processor.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )

    def instructed(self, prompt: Text, length: int | None) -> str:
        """The instruction with the prompt's first `length` tokens; the rest is never cut."""
        prompt = self._plain(prompt)
        encoded = self.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        if length is not None and len(offsets) > length:
            prompt = prompt[: offsets[length - 1][1]]
        return self.instruction.replace("{}", prompt)

    def _plain(self, text: Text) -> str:
        return self.special.sub("", text or "")

    @torch.no_grad()
    def sample_text(self, request: TextRequest, sampler: TextSampler) -> list[str]:
        """Answers to the prompts as they are; penalties in the model's own settings do not act."""
        questions = [self._plain(text) for text in request.prompts or [DESCRIBE] * len(request)]
        images = [] if request.images is None else [request.images]
        inputs, valid, positions = self._inputs(questions, images)
        cache, place = Cache(self.depth), _next(positions, valid)
        inputs["logits_to_keep"] = 1
        first = self._run(self.model, inputs, valid, positions, cache).logits[:, -1]  # [B V]

        def advance(ids: Tensor, alive: Tensor) -> Tensor:
            nonlocal valid, place
            valid = torch.cat([valid, torch.ones_like(valid[:, :1])], 1)
            step = {"input_ids": ids[:, None]}
            logits = self._run(self.model, step, valid, place[:, None], cache).logits[:, -1]
            place = place + 1
            return logits.float()

        uniforms = request.noise(self.device).uniform("text", (sampler.max_length,))
        ends = self._ends()
        ids = decode_text(first.float(), advance, uniforms, ends[0], sampler)
        answers = [_until(row, ends) for row in ids.tolist()]
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in answers]

    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = self.tokenizer.eos_token_id
        return list(ends) if isinstance(ends, (list, tuple)) else [ends]

    def context_tokens(self, length: int, sizes: Sequence[tuple[int, int]] = ()) -> int:
        text = self.instructed(_wordy(length), length)
        return self._inputs([text], _blank(sizes))[1].shape[1]

    def flops_read(self, length: int, sizes: Sequence[tuple[int, int]] = ()) -> float:
        """Counted in a pass."""
        return counted(lambda: self.read([_wordy(length)], _blank(sizes), length))

    def flops_ask(self, context: int, queries: int) -> float:
        weights = sum(p.numel() for p in layers_of(self.decoder).parameters() if p.ndim == 2)
        pairs = causal(queries, context)
        return 2.0 * weights * queries + 4.0 * pairs * self._width() * self.depth

    def flops_unlearned(self, context: int) -> float:
        last = layers_of(self.decoder)[-1]
        return after_keys(last, context, causal(context), self._width())

    def _width(self) -> int:
        """Numbers of all query heads together."""
        config = self.decoder.config
        heads = config.num_attention_heads
        return heads * (getattr(config, "head_dim", None) or self.dim // heads)


def _next(positions: Tensor, valid: Tensor) -> Tensor:
    """[B]: one more than the furthest position of a row, on any axis."""
    furthest = positions.amax(0) if positions.ndim == 3 else positions
    return furthest.masked_fill(~valid, -1).amax(1) + 1


def _until(ids: list[int], ends: list[int]) -> list[int]:
    for place, one in enumerate(ids):
        if one in ends:
            return ids[:place]
    return ids


def _wordy(length: int) -> str:
    """A text of at least so many tokens."""
    return " ".join("a" * length)


def _blank(sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    return [torch.zeros(1, 3, *size) for size in sizes]
