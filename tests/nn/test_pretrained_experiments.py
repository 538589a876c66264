"""The experiments with pretrained parts, on folders in the real format with tiny weights."""

from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDPMScheduler,
    SanaTransformer2DModel,
    UNet2DConditionModel,
)
from tiny_llms import save_tiny

from unify.assembly.assemble import open_run
from unify.batch import Batch
from unify.config import load_recipe
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest
from unify.paradigms.queries_dit import QueriesDiT
from unify.training.train_run import train

PRETRAINED = Path(__file__).parents[2] / "experiments" / "pretrained"
WIDTH = 32  # of the tiny language models


def save_sana(folder):
    transformer = SanaTransformer2DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=24,
        sample_size=4,
    )
    transformer.save_pretrained(folder / "transformer")
    ends = {"block_types": "ResBlock", "block_out_channels": (8, 16)}
    ends |= {"layers_per_block": (1, 1), "qkv_multiscales": ((), ())}
    both = {f"{side}_{name}": v for side in ("encoder", "decoder") for name, v in ends.items()}
    AutoencoderDC(latent_channels=8, attention_head_dim=8, **both).save_pretrained(folder / "vae")
    return str(folder)


def save_stable_diffusion(folder):
    unet = UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=24,
        attention_head_dim=2,
    )
    unet.save_pretrained(folder / "unet")
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).save_pretrained(folder / "scheduler")
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
    )
    vae.save_pretrained(folder / "vae")
    return str(folder)


KINDS = {
    "metaquery": ("qwen2_5_vl", save_sana),
    "metaquery_sd15": ("llava_onevision", save_stable_diffusion),
    "openuni": ("internvl", save_sana),
}


@pytest.fixture(params=KINDS)
def trained(request, tmp_path):
    """(the run's folder, its model) of an experiment whose names are those of local folders."""
    family, save = KINDS[request.param]
    diffusion = save(tmp_path / "diffusion")
    encoder = "model.connector.encoder"
    words = [
        f"model.llm.source={save_tiny(family, tmp_path / family)}",
        f"model.denoiser.name={diffusion}",
        f"model.image.name={diffusion}",
        f"model.connector.dim={WIDTH}",
        "model.connector.out=24",
        *(f"{encoder}.{key}={n}" for key, n in {"dim": WIDTH, "depth": 1, "heads": 2}.items()),
        "model.queries=4",
        "data.source={class: unify.data.shapes.Shapes}",
        "data.tasks={text_to_image: 2, image: null}",
        "optimizer.warmup=1",
        "evaluation=[]",
        "steps=2",
        f"machine.runs={tmp_path / 'runs'}",
        "machine.tracker=none",
    ]
    config = load_recipe(PRETRAINED / f"{request.param}.yaml", words)
    run = train(config, lambda text: None)
    return run, open_run(run.folder)[2].model


def test_it_trains_is_stored_and_draws_from_text_and_from_images(trained):
    run, model = trained
    assert isinstance(model, QueriesDiT)
    stored = (run.folder / "export" / "model.safetensors").stat().st_size
    assert stored < 4 * sum(p.numel() for p in model.parameters()), "frozen parts are not stored"
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert model.llm.sees
    for prompts, sources in ((["a red circle"] * 2, ()), (None, [images]), (["b"] * 2, [images])):
        drawn = model.generate_image(
            ImageRequest(prompts, sources=sources), steps=2, guidance=2, image_guidance=1.5
        )
        assert drawn.shape == (2, 3, 32, 32)
        assert torch.isfinite(drawn).all()
    assert len(model.generate_text(TextRequest(images, ["what?", "where?"]), max_length=3)) == 2


def test_an_edit_reaches_the_queries_through_the_encoder_of_the_language_model(trained):
    _, model = trained
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    batch = Batch.edit([images], ["make it red", "move it"], images.flip(0), ["a", "b"], 8)
    value = model.loss(batch, Noise.for_batch(0, 0, batch))["image_flow"].value
    value.sum().backward()
    assert model.queries.grad.abs().amax(-1).min() > 0
    assert all(p.grad is None for p in model.llm.parameters())
