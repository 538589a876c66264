"""How fast pictures are drawn, against references of the same shape, that `unify bench` compares.

    codes    64 codes of 32 prompts by `ar_vq` against transformers' `generate` on a Llama of the
             same width, depth, heads and vocabulary, with a cache, drawing 64 tokens
    flow     20 Euler steps of 32 prompts by `transfusion` against 20 bare calls of its network
             over a prefix that is cached already

Neither side is guided. Prompts have one length, and what tokenizers compute is left out.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unify.flow import LogitNormalTime
from unify.nn.init import initialise
from unify.nn.patches import LinearPatches
from unify.nn.trunk import Trunk
from unify.paradigm import ImageRequest
from unify.paradigms.ar_vq import ArVQ
from unify.paradigms.transfusion import Transfusion
from unify.tokenizer import DiscreteTokenizer
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes

ROWS, WIDTH, DEPTH, HEADS, SIDE, PATCH, CODES, STEPS = 32, 128, 4, 4, 32, 4, 512, 20
PROMPTS = ["a red circle at the top"] * ROWS

Run = Callable[[], object]


class Cells(DiscreteTokenizer):
    """8 x 8 codes of 512 for 32 x 32 pixels, whose pictures are gray: decoding costs nothing."""

    stride, vocab_size = PATCH, CODES

    def settings(self) -> dict[str, object]:
        return {}

    def encode(self, images: Tensor) -> Tensor:
        h, w = self.grid(*images.shape[-2:])
        return torch.zeros(len(images), h * w, dtype=torch.long, device=images.device)

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        return torch.zeros(len(codes), 3, *(PATCH * side for side in grid), device=codes.device)


def codes_pair(device: torch.device) -> tuple[Run, Run]:
    """Drawing codes by `ar_vq`, and as many tokens by transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = ArVQ(Trunk(WIDTH, DEPTH, HEADS), Bytes(), Cells(), size=SIDE)
    initialise(model, 0)
    model.to(device).eval()
    shape = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=model.trunk.hidden,  # type: ignore[arg-type]
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        vocab_size=model.vocab_size,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    reference = LlamaForCausalLM(shape).to(device).eval()
    length = len(PROMPTS[0]) + 2  # bytes, between a bos and an eos
    ids, valid = model.text.encode(PROMPTS, length)
    assert valid.all()
    ids = torch.cat([ids, ids[:, :1]], 1).to(device)  # and a token that begins the image
    count = (SIDE // PATCH) ** 2

    def theirs() -> None:
        with torch.no_grad():
            reference.generate(  # type: ignore[operator]
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=True,
                top_k=0,
            )

    return lambda: model.generate_image(ImageRequest(PROMPTS)), theirs


def flow_pair(device: torch.device) -> tuple[Run, Run]:
    """Drawing by `transfusion`, and the calls of its network alone."""
    patches, time = LinearPatches(3, WIDTH, PATCH), LogitNormalTime()
    trunk = Trunk(WIDTH, DEPTH, HEADS)
    model = Transfusion(trunk, Bytes(), Pixels(), patches, time, size=SIDE)
    initialise(model, 0)
    model.to(device).eval()
    x, t = torch.zeros(ROWS, 3, SIDE, SIDE, device=device), torch.zeros(ROWS, device=device)
    with torch.no_grad():
        prefix, cache = model.prefix([(PROMPTS, [])]), trunk.cache()
        prefix.run(trunk, cache)

    def bare() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                model.denoise(prefix.branch(), cache.view(), x, t)

    def drawn() -> None:
        model.generate_image(ImageRequest(PROMPTS), steps=STEPS, guidance=1.0)

    return drawn, bare
