"""Language models of transformers with a few thousand random weights, saved to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

IMAGE = {  # what the chat template writes for an image
    "qwen2": "",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "llava_onevision": "<image>",
    "internvl": "<IMG_CONTEXT>",
}
FAMILIES = list(IMAGE)
SEEING = FAMILIES[1:]
BLIND = ["gpt2", "falcon", "gemma2", "bloom"]  # each with names and attention of its own
SIDE = 16  # pixels of an image
TEMPLATE = (
    "{%% for m in messages %%}<|im_start|>{{ m['role'] }}\n"
    "{%% if m['content'] is string %%}{{ m['content'] }}{%% else %%}"
    "{%% for part in m['content'] %%}"
    "{%% if part['type'] == 'image' %%}%s{%% else %%}{{ part['text'] }}{%% endif %%}"
    "{%% endfor %%}{%% endif %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
NAMED = {
    "qwen2_5_vl": {
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
    },
    "llava_onevision": {"image_token": "<image>", "video_token": "<video>"},
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
}


def make_tokenizer(family: str) -> Any:
    """Byte-level BPE with a few merges; its first ids are the special tokens."""
    from transformers import PreTrainedTokenizerFast

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    named = NAMED.get(family, {})
    special = [*SPECIAL, *named.values()]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + 256 + 30,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    words = ["a red circle and a blue square", "Generate an image: a green triangle"]
    backend.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE % IMAGE.get(family, ""),
        **({"extra_special_tokens": named} if named else {}),
    )


def text_settings(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def make_model(family: str, tokenizer: Any) -> tuple[Any, Any]:
    """The model, and its processor (the tokenizer of one that reads no images)."""
    import transformers as hf

    text = text_settings(tokenizer)
    if family == "qwen2":
        return hf.Qwen2ForCausalLM(hf.Qwen2Config(**text)), tokenizer
    if family not in SEEING:
        own = {"head_dim": 8} if family == "gemma2" else {}
        config = hf.AutoConfig.for_model(family, **text, **own)
        return hf.AutoModelForCausalLM.from_config(config), tokenizer
    return {"qwen2_5_vl": _qwen, "llava_onevision": _llava, "internvl": _internvl}[family](
        hf, tokenizer, text
    )


def _qwen(hf: Any, tokenizer: Any, text: dict[str, Any]) -> tuple[Any, Any]:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
    config = hf.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    size = {"shortest_edge": 8 * 8, "longest_edge": 32 * 32}
    images = hf.Qwen2VLImageProcessor(patch_size=4, size=size)
    videos = hf.Qwen2VLVideoProcessor(patch_size=4, size=size)
    processor = hf.Qwen2_5_VLProcessor(images, tokenizer, videos, tokenizer.chat_template)
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def _llava(hf: Any, tokenizer: Any, text: dict[str, Any]) -> tuple[Any, Any]:
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
        "vision_use_head": False,
    }
    pinpoints = [[8, 8], [8, 16], [16, 8], [16, 16]]
    config = hf.LlavaOnevisionConfig(
        text_config=text | {"model_type": "qwen2"},
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
    )
    size = {"height": 8, "width": 8}
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer,
        hf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


def _internvl(hf: Any, tokenizer: Any, text: dict[str, Any]) -> tuple[Any, Any]:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": [16, 16],
        "patch_size": [4, 4],
    }
    config = hf.InternVLConfig(
        text_config=text | {"model_type": "qwen2"},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    size = {"height": 16, "width": 16}
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size=size, max_patches=1),
        tokenizer,
        hf.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    return hf.InternVLForConditionalGeneration(config), processor


def save_tiny(family: str, folder: Path) -> str:
    """Every weight random, biases and gains too, so that nothing is silent."""
    torch.manual_seed(0)
    model, processor = make_model(family, make_tokenizer(family))
    for parameter in model.parameters():
        flat = parameter.ndim == 1
        torch.nn.init.normal_(parameter, mean=float(flat), std=0.15 if flat else 0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
