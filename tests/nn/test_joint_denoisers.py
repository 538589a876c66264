"""Joint-attention backbones: equal to diffusers' pipelines; what does not count changes nothing.

What they share with the other denoisers is in test_denoiser.py.
"""

import functools

import pytest
import torch
from test_denoiser import JOINT, awake, make, random

from unify.assembly.sharding import units_of
from unify.flow import integrate, interpolate
from unify.nn.init import initialise
from unify.nn.layers import patchify, unpatchify
from unify.nn.packed_denoisers import PretrainedFlux, PretrainedQwenImage
from unify.nn.sd3_denoiser import PretrainedSD3

SD3, SD35, FLUX, QWEN = JOINT.values()
PRETRAINED = {"sd3": PretrainedSD3, "flux": PretrainedFlux, "qwen": PretrainedQwenImage}
each_joint = pytest.mark.parametrize("build", JOINT.values(), ids=JOINT)
each_folder = pytest.mark.parametrize("kind", PRETRAINED)


@pytest.fixture
def given():
    """x_t on a grid that is not square, t, condition."""
    return random(3, 4, 4, 6), torch.tensor([0.2, 0.5, 0.9]), random(3, 5, 16, seed=1)


def saved(kind, folder, guidance=False):
    """A model of the library in the layout of its pipeline, awake, as its folder has it."""
    from diffusers import (
        FluxTransformer2DModel,
        QwenImageTransformer2DModel,
        SD3Transformer2DModel,
    )

    sizes = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    torch.manual_seed(0)
    if kind == "sd3":
        model = SD3Transformer2DModel(
            **sizes,
            sample_size=8,
            in_channels=4,
            out_channels=4,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pooled_projection_dim=12,
            pos_embed_max_size=6,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
    elif kind == "flux":
        model = FluxTransformer2DModel(
            **sizes,
            in_channels=16,
            num_single_layers=1,
            joint_attention_dim=16,
            pooled_projection_dim=12,
            axes_dims_rope=(4, 2, 2),
            guidance_embeds=guidance,
        )
    else:
        model = QwenImageTransformer2DModel(
            **sizes,
            in_channels=16,
            out_channels=4,
            joint_attention_dim=16,
            axes_dims_rope=(4, 2, 2),
        )
    awake(model).save_pretrained(folder / "transformer")
    return model


def pipeline(kind, model, shift):
    """The library's pipeline around a model, without encoders and autoencoder."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        QwenImagePipeline,
        StableDiffusion3Pipeline,
    )

    absent = {"vae", "text_encoder", "tokenizer"}
    absent |= {"flux": {"text_encoder_2", "tokenizer_2"}, "qwen": set()}.get(
        kind, {"text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3"}
    )
    cls = {"sd3": StableDiffusion3Pipeline, "flux": FluxPipeline, "qwen": QwenImagePipeline}[kind]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    pipe = cls(transformer=model, scheduler=scheduler, **dict.fromkeys(absent))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(kind, model, noise, condition, steps, shift, valid=None):
    """Latents that the library's pipeline draws from `noise`, without guidance."""
    settings = {"pooled_prompt_embeds": condition.new_zeros(len(condition), 12)}
    packed = kind != "sd3"
    if kind == "qwen":
        settings = {"true_cfg_scale": 1.0, "prompt_embeds_mask": valid}
    (latents,) = pipeline(kind, model, shift)(
        prompt_embeds=condition,
        latents=patchify(noise, 2) if packed else noise,
        height=8 * noise.shape[-2],  # in pixels
        width=8 * noise.shape[-1],
        sigmas=[1 - i / steps for i in range(steps)],
        num_inference_steps=steps,
        guidance_scale=1.0,
        output_type="latent",
        return_dict=False,
        **settings,
    )
    return unpatchify(latents, noise.shape[-2:], 2) if packed else latents


@each_folder
@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (4, 3.0)])
def test_sampling_equals_diffusers_own_pipeline(kind, steps, shift, given, tmp_path):
    """From the folder of a pipeline; zeros stand for the pooled text."""
    noise, _, condition = given
    model = saved(kind, tmp_path)
    denoiser = PRETRAINED[kind](str(tmp_path)).eval()
    with torch.no_grad():
        flow = functools.partial(denoiser.velocity, condition=condition)
        ours = integrate(flow, noise, steps, shift)
    wanted = drawn(kind, model, noise, condition, steps, shift)
    torch.testing.assert_close(ours, wanted, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(ours, noise, atol=1e-2)


@each_folder
def test_a_folder_keeps_its_weights_and_starts_a_source_at_nothing(kind, given, tmp_path):
    saved(kind, tmp_path)
    plain, wide = (PRETRAINED[kind](str(tmp_path), source_channels=n).eval() for n in (0, 4))
    assert (plain.channels, plain.condition_dim, plain.patch) == (4, 16, 2)
    assert plain.source_hash == wide.source_hash
    before = [p.clone() for p in plain.parameters()]
    initialise(plain, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, plain.parameters(), strict=True))
    torch.testing.assert_close(
        wide.velocity(*given, source=given[0]), plain.velocity(*given), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_a_flux_that_embeds_a_scale_of_guidance_is_given_the_scale_one(scale, given, tmp_path):
    xt, t, condition = given
    model = saved("flux", tmp_path, guidance=True)
    index = torch.arange(6)
    wanted = -model(
        patchify(xt, 2),
        encoder_hidden_states=condition,
        pooled_projections=torch.zeros(3, 12),
        timestep=1 - t,
        guidance=torch.full((3,), scale),
        img_ids=torch.stack([0 * index, index // 3, index % 3], -1).float(),
        txt_ids=torch.zeros(5, 3),
    ).sample
    ours = patchify(PretrainedFlux(str(tmp_path)).eval().velocity(*given), 2)
    assert torch.allclose(ours, wanted, atol=1e-5) == (scale == 1)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("sd3", {"in_channels": 33}, "reads 33 numbers of a patch and makes 4: .* source_channels"),
        ("flux", {"in_channels": 96}, "reads 96 numbers of a patch and makes 16"),
        ("qwen", {"in_channels": 64}, "reads 64 numbers of a patch and makes 16"),
        ("qwen", {"guidance_embeds": True}, "has guidance_embeds, which"),
        ("qwen", {"use_layer3d_rope": True}, "has use_layer3d_rope, which"),
        ("qwen", {"use_additional_t_cond": True}, "has use_additional_t_cond, which"),
    ],
)
def test_a_folder_that_wants_what_no_flow_gives_is_refused(kind, changes, message, tmp_path):
    model = saved(kind, tmp_path)
    config = {key: value for key, value in model.config.items() if key[0] != "_"}
    changed = type(model)(**config | {"out_channels": model.out_channels} | changes)
    changed.save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match=message):
        PRETRAINED[kind](str(tmp_path))


def oracle(denoiser, x0, x1, asked):
    """The library's model answers as one that knows noise and data, in its own packing."""

    def forward(hidden_states, timestep, **_):
        asked.append(timestep)
        answer = x0 - x1
        packed = hidden_states.ndim == 3
        return (patchify(answer, denoiser.patch) if packed else answer,)

    denoiser.model.forward = forward
    return denoiser


@each_joint
@pytest.mark.parametrize("steps", [1, 7])
def test_an_oracle_recovers_the_data_in_one_step_and_in_many(build, steps):
    x0, x1, asked = random(3, 4, 4, 6), random(3, 4, 4, 6, seed=1), []
    denoiser = oracle(make(build), x0, x1, asked)
    flow = functools.partial(denoiser.velocity, condition=random(3, 5, 16))
    torch.testing.assert_close(integrate(flow, x0, steps, shift=3.0), x1)
    xt, velocity = interpolate(x0, x1, torch.tensor([0.1, 0.5, 0.9]))
    asked.clear()
    assert torch.equal(flow(xt, torch.tensor([0.25, 0.5, 1.0])), velocity)
    scale = 1000 if build in (SD3, SD35) else 1
    assert asked[0].tolist() == [0.75 * scale, 0.5 * scale, 0]


@each_joint
def test_conditions_that_do_not_count_change_nothing_wherever_they_stand(build, given):
    """In the middle, at the end, in a row without any: to the last bit whatever they are."""
    xt, t, condition = given
    denoiser = make(build)
    counts = torch.tensor([[1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    with torch.no_grad():
        result = denoiser.velocity(xt, t, condition, counts)
        other = torch.where(counts[..., None], condition, 50.0)
        assert torch.equal(result, denoiser.velocity(xt, t, other, counts))
        longer = torch.cat([condition, 9 * random(3, 4, 16)], 1)
        padded = denoiser.velocity(xt, t, longer, torch.nn.functional.pad(counts, (0, 4)))
        torch.testing.assert_close(padded, result, atol=1e-5, rtol=1e-4)
        for row in range(2):
            parts = xt[row : row + 1], t[row : row + 1], condition[row : row + 1, counts[row]]
            alone = denoiser.velocity(*parts)
            torch.testing.assert_close(alone, result[row : row + 1], atol=1e-5, rtol=1e-4)


@each_joint
def test_all_conditions_that_count_are_as_none_that_is_masked(build, given):
    denoiser = make(build)
    masked = denoiser.velocity(*given, torch.ones(3, 5, dtype=torch.bool))
    torch.testing.assert_close(masked, denoiser.velocity(*given), atol=1e-6, rtol=1e-5)


@each_joint
def test_what_is_not_trained_is_what_nothing_reads(build, given):
    denoiser = make(build)
    still = {name: p for name, p in denoiser.named_parameters() if not p.requires_grad}
    assert bool(still) == (build is not FLUX)
    assert all(name.startswith("model.transformer_blocks.1.") for name in still)
    before = denoiser.velocity(*given)
    for parameter in still.values():
        parameter += 1.0
    assert torch.equal(denoiser.velocity(*given), before)


@each_joint
def test_a_validation_before_training_leaves_nothing_behind_that_cannot_be_trained_with(
    build, given
):
    """Tables of positions are kept by the library; Lightning validates in inference mode."""
    denoiser = make(build)
    tables = getattr(denoiser.model.pos_embed, "pos_freqs", None)
    if tables is not None:
        tables.to = lambda device: tables.clone()  # a copy, as it makes on an accelerator
    with torch.inference_mode():
        before = denoiser.velocity(*given)
    after = denoiser.velocity(*given)
    after.square().mean().backward()
    torch.testing.assert_close(after.detach(), before.clone(), atol=1e-6, rtol=1e-5)


@each_joint
def test_blocks_are_cut_into_shards_one_by_one(build):
    model = make(build).model
    units = list(units_of(model))
    assert units == [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", ())]


@each_joint
def test_flops_of_joint_attention_are_quadratic_in_all_tokens(build):
    """4 width for each pair of tokens in a layer; the dual attention is among cells alone."""
    denoiser = make(build)
    conditions = [denoiser.flops((4, 6), n) for n in (5, 10, 15)]
    cells = [denoiser.flops((4, 4 * n), 5) for n in (1, 2, 3)]
    pair, layers, dual = 4 * 16, 2, build is SD35
    assert conditions[2] - 2 * conditions[1] + conditions[0] == layers * pair * 2 * 5**2
    assert cells[2] - 2 * cells[1] + cells[0] == (layers + dual) * pair * 2 * 4**2


@each_joint
def test_every_place_of_the_grid_is_told_from_every_other(build):
    """The same cell everywhere: only positions tell the patches apart, and they do."""
    denoiser, t = make(build), torch.tensor([0.5])
    xt = random(1, 4, 2, 2).repeat(1, 1, 2, 3)
    velocity = patchify(denoiser.velocity(xt, t, random(1, 5, 16)), 2)[0]  # [6 16]
    gaps = torch.cdist(velocity, velocity) + torch.eye(6)
    assert gaps.min() > 1e-4


@each_joint
def test_sizes_that_do_not_divide_are_named(build, given):
    with pytest.raises(ValueError, match="width 16 does not divide into 3 heads"):
        build(heads=3)
    with pytest.raises(ValueError, match="5x6 cells do not divide into patches of 2"):
        build().velocity(random(3, 4, 5, 6), *given[1:])


@pytest.mark.parametrize("build", [FLUX, QWEN], ids=["flux", "qwen"])
def test_heads_too_small_for_positions_by_row_and_column_are_named(build):
    with pytest.raises(ValueError, match="even number of at least 6 for each head, not 4"):
        build(heads=4)
