"""External backbones in our convention: equal to diffusers' models, schedulers and samplers."""

import functools

import pytest
import torch
from torch.nn import functional as F

from unify.flow import LogitNormalTime, integrate, interpolate, shift_time
from unify.nn.adopt import WiderConv, WiderLinear
from unify.nn.denoiser import PretrainedSana, PretrainedUNet, SanaDenoiser, UNetDenoiser
from unify.nn.init import initialise
from unify.nn.packed_denoisers import FluxDenoiser, QwenImageDenoiser
from unify.nn.sd3_denoiser import SD3Denoiser

SMALL = {"condition_dim": 16}
SANA = functools.partial(SanaDenoiser, **SMALL, width=16, depth=2, heads=2, size=4)
SANA15 = functools.partial(SANA, qk_norm=True, xavier=True)
UNET = functools.partial(UNetDenoiser, **SMALL, widths=(16, 16), heads=2, norm_groups=4)
VUNET = functools.partial(UNET, prediction="v_prediction")
JOINT = {
    "sd3": functools.partial(SD3Denoiser, **SMALL, width=16, depth=2, heads=2),
    "sd3.5": functools.partial(SD3Denoiser, **SMALL, width=16, depth=2, heads=2, dual=1),
    "flux": functools.partial(FluxDenoiser, **SMALL, width=16, depth=1, single=1, heads=2),
    "qwen": functools.partial(QwenImageDenoiser, **SMALL, width=16, depth=2, heads=2),
}
FLOWS = {"sana": SANA, "sana15": SANA15} | JOINT
MODELS = FLOWS | {"unet": UNET, "v": VUNET}
each_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
each_flow = pytest.mark.parametrize("build", FLOWS.values(), ids=FLOWS)
each_unet = pytest.mark.parametrize("build", [UNET, VUNET], ids=["epsilon", "v"])


def awake(module):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def make(build, **settings):
    denoiser = build(**settings)
    initialise(denoiser, 0)
    return awake(denoiser)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def given():
    """x_t, t, condition."""
    return random(3, 4, 4, 4), torch.tensor([0.2, 0.5, 0.9]), random(3, 5, 16, seed=1)


class Oracle(torch.nn.Module):
    """Answers as a model of the library that knows data and noise, whatever it is shown."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked = answer, []

    def forward(self, x, timestep, **_):
        self.asked.append((x, timestep))
        return (self.answer(timestep),)


def sana_oracle(x0, x1):
    denoiser = make(SANA)
    denoiser.model = Oracle(lambda timestep: x0 - x1)
    return denoiser


def test_sana_is_asked_at_1000_sigma_and_answers_noise_minus_data(given):
    """t = 1000 s; v* = e - x there, x - e here: the time runs the other way."""
    xt, t, condition = given
    denoiser = make(SANA)
    (wanted,) = denoiser.model(
        xt,
        encoder_hidden_states=condition,
        timestep=torch.tensor([800.0, 500.0, 100.0]),
        return_dict=False,
    )
    torch.testing.assert_close(denoiser.velocity(xt, t, condition), -wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 7])
def test_an_oracle_recovers_the_data_in_one_step_and_in_many(steps):
    x0, x1 = random(3, 4, 4, 4), random(3, 4, 4, 4, seed=1)
    denoiser = sana_oracle(x0, x1)
    flow = functools.partial(denoiser.velocity, condition=None)
    torch.testing.assert_close(integrate(flow, x0, steps, shift=3.0), x1)
    times = torch.cat([timestep for _, timestep in denoiser.model.asked])
    assert times[0] == 1000
    assert (times[::3].diff() < 0).all()


def test_an_oracles_loss_is_zero():
    x0, x1, t = random(3, 4, 4, 4), random(3, 4, 4, 4, seed=1), torch.tensor([0.1, 0.5, 0.9])
    xt, velocity = interpolate(x0, x1, t)
    assert torch.equal(sana_oracle(x0, x1).velocity(xt, t, None), velocity)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sampling_with_sana_equals_diffusers_own_loop(given, shift):
    """FlowMatchEulerDiscreteScheduler with the same noise levels, shifted by its own formula."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    noise, _, condition = given
    denoiser, steps = make(SANA), 5
    flow = functools.partial(denoiser.velocity, condition=condition)
    with torch.no_grad():
        ours = integrate(flow, noise, steps, shift)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
        theirs = noise
        for timestep in scheduler.timesteps:
            output = denoiser.model(
                theirs, encoder_hidden_states=condition, timestep=timestep.expand(3)
            ).sample
            theirs = scheduler.step(output, timestep, theirs).prev_sample
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_shift_of_three_moves_uniform_times_to_a_mean_noise_of_two_thirds():
    u = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    means = [1 - shift_time(u, shift).mean().item() for shift in (1.0, 3.0)]
    assert means[0] == pytest.approx(0.5, abs=5e-3)
    assert means[1] == pytest.approx(0.676, abs=5e-3)
    logit = LogitNormalTime(0, 1).quantile(u)
    assert 1 - logit.mean().item() == pytest.approx(0.5, abs=5e-3)


def ddpm(build):
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=make(build).prediction,
    )


@each_unet
def test_our_path_at_the_grids_times_is_the_ddpms(build):
    """z = x_t (a + s), and the model is asked at the timestep that the time stands for."""
    x0, x1 = random(3, 4, 4, 4), random(3, 4, 4, 4, seed=1)
    denoiser, scheduler, timesteps = make(build), ddpm(build), torch.tensor([0, 500, 999])
    t = denoiser.grid.flip(0)[timesteps]
    denoiser.model = Oracle(lambda timestep: torch.zeros_like(x1))
    denoiser.velocity(interpolate(x0, x1, t)[0], t, None)
    z, asked = denoiser.model.asked[0]
    torch.testing.assert_close(z, scheduler.add_noise(x1, x0, timesteps), atol=1e-5, rtol=1e-5)
    assert torch.equal(asked, timesteps.float())


@each_unet
def test_the_weighted_error_of_the_velocity_is_the_ddpms_own(build):
    """|output - target|^2 = w |v - v*|^2 for every time of the grid."""
    x0, x1, wrong = (random(3, 4, 4, 4, seed=seed) for seed in range(3))
    denoiser, scheduler, timesteps = make(build), ddpm(build), torch.tensor([3, 500, 999])
    targets = {"epsilon": x0, "v_prediction": scheduler.get_velocity(x1, x0, timesteps)}
    target = targets[denoiser.prediction]
    t = denoiser.grid.flip(0)[timesteps]
    xt, velocity = interpolate(x0, x1, t)
    result = []
    for output in (target, target + wrong):
        denoiser.model = Oracle(lambda timestep, output=output: output)
        error = (denoiser.velocity(xt, t, None) - velocity).square().flatten(1).mean(1)
        result.append(denoiser.weight(t) * error)
    assert result[0].max() < 1e-8
    torch.testing.assert_close(result[1], wrong.square().flatten(1).mean(1), atol=0, rtol=1e-3)


@each_unet
def test_an_euler_step_of_our_flow_is_a_step_of_ddim(build, given):
    from diffusers import DDIMScheduler

    z, _, condition = given
    denoiser = make(build)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=denoiser.prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(10)
    first, then = scheduler.timesteps[3:5]  # 600, 500
    with torch.no_grad():
        output = denoiser.model(z, first, encoder_hidden_states=condition).sample
        wanted = scheduler.step(output, first, z).prev_sample
        now, later = denoiser.grid.flip(0)[torch.stack([first, then])]
        scale = (now**2 + (1 - now) ** 2).sqrt(), (later**2 + (1 - later) ** 2).sqrt()
        xt = z * scale[0]
        ours = xt + (later - now) * denoiser.velocity(xt, now.expand(3), condition)
    torch.testing.assert_close(ours / scale[1], wanted, atol=1e-4, rtol=1e-4)


def test_a_ddpm_trains_on_every_timestep_equally_often():
    u = (torch.arange(4000) + 0.5) / 4000
    unet = make(UNET)
    timesteps = unet.timestep(unet.own_times(u)).round().long()
    assert (timesteps.bincount(minlength=1000) == 4).all()
    assert (timesteps.diff() <= 0).all(), "a larger uniform number is nearer the data"
    assert unet.has_times
    assert not make(SANA).has_times
    assert torch.equal(make(SANA).weight(u), torch.ones(4000))


def test_timesteps_between_those_of_the_grid_are_interpolated_and_beyond_it_the_ends():
    unet = make(UNET)
    assert torch.equal(unet.timestep(unet.grid), torch.arange(1000).flip(0).float())
    middle = (unet.grid[1:] + unet.grid[:-1]) / 2
    wanted = torch.arange(999).flip(0) + 0.5
    torch.testing.assert_close(unet.timestep(middle), wanted, atol=2e-2, rtol=0)
    seen = []
    unet.model = Oracle(lambda timestep: seen.append(timestep) or torch.zeros(2, 4, 4, 4))
    assert torch.isfinite(unet.velocity(random(2, 4, 4, 4), torch.tensor([0.0, 1.0]), None)).all()
    assert seen[0].tolist() == [999, 0]


@each_flow
def test_at_first_a_flow_says_zero(build, given):
    denoiser = build()
    initialise(denoiser, 0)
    assert denoiser.velocity(*given).abs().max() == 0


def test_at_first_the_unet_says_that_there_is_no_noise(given):
    xt, t, condition = given
    unet = UNET()
    initialise(unet, 0)
    torch.testing.assert_close(unet.velocity(xt, t, condition), xt / t[:, None, None, None])


@each_model
def test_every_parameter_is_drawn_by_name(build):
    one, two, other = (build(source_channels=4) for _ in range(3))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.fill_(7.0)
    initialise(one, 0)
    initialise(two, 0)
    initialise(other, 1)
    pairs = list(zip(one.named_parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for (_, a), b in pairs)
    assert all(not (a == 7).any() for (_, a), _ in pairs)
    assert not torch.equal(next(iter(one.parameters())), next(iter(other.parameters())))


def test_sanas_tables_of_gates_are_drawn_as_the_library_draws_them():
    denoiser = SanaDenoiser(width=512, depth=2, heads=4)
    theirs = denoiser.model.transformer_blocks[0].scale_shift_table.std().item()
    initialise(denoiser, 0)
    ours = denoiser.model.transformer_blocks[0].scale_shift_table.std().item()
    assert ours == pytest.approx(theirs, rel=0.1)
    assert torch.equal(denoiser.model.caption_norm.weight, torch.ones(512))


def test_xavier_starts_linear_layers_as_sanas_own_code_does():
    denoiser = SanaDenoiser(width=512, depth=1, heads=4, xavier=True)
    initialise(denoiser, 0)
    attention = denoiser.model.transformer_blocks[0].attn2
    assert attention.to_q.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert not attention.to_q.bias.any()
    assert not denoiser.model.proj_out.weight.any(), "the last layer still starts at zero"


def test_norms_of_queries_and_keys_bound_the_attention_to_conditions(given):
    xt, t, condition = given
    denoiser = SANA(qk_norm=True)
    initialise(denoiser, 0)
    seen = {}
    attention = denoiser.model.transformer_blocks[0].attn2
    for name in ("norm_q", "norm_k"):
        part = getattr(attention, name)
        part.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o))
    denoiser.velocity(xt, t, condition)
    for out in seen.values():
        torch.testing.assert_close(
            out.square().mean(-1), torch.ones(out.shape[:-1]), atol=1e-3, rtol=0
        )
    assert len(seen) == 2


@each_model
def test_every_parameter_gets_a_gradient_and_so_does_the_condition(build, given):
    xt, t, condition = given
    denoiser = make(build, source_channels=4)
    condition.requires_grad_(True)
    v = denoiser.velocity(xt, t, condition, source=random(3, 4, 4, 4, seed=5))
    v.square().mean().backward()
    trained = [(n, p) for n, p in denoiser.named_parameters() if p.requires_grad]
    for name, parameter in [*trained, ("condition", condition)]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@each_model
def test_invalid_condition_tokens_are_never_read(build, given):
    xt, t, condition = given
    denoiser, valid = make(build), torch.arange(5).expand(3, 5) < 3
    changed = torch.where(valid[..., None], condition, 9.0)
    masked = denoiser.velocity(xt, t, condition, valid)
    alone = denoiser.velocity(xt, t, condition[:, :3])
    torch.testing.assert_close(masked, denoiser.velocity(xt, t, changed, valid))
    torch.testing.assert_close(masked, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(masked, denoiser.velocity(xt, t, condition), atol=1e-4)


@each_model
def test_a_row_does_not_depend_on_its_batch_mates(build, given):
    denoiser = make(build)
    together = denoiser.velocity(*given)
    for row in range(3):
        alone = denoiser.velocity(*(part[row : row + 1] for part in given))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)


@each_model
def test_other_sizes_than_the_training_size_are_fine(build, given):
    _, t, condition = given
    denoiser = make(build)
    for size in ((8, 4), (4, 12)):
        assert denoiser.velocity(random(3, 4, *size), t, condition).shape == (3, 4, *size)


@each_model
def test_source_latents_start_without_effect_and_can_learn_to_have_one(build, given):
    plain, wide = build(), build(source_channels=8)
    for denoiser in (plain, wide):
        initialise(denoiser, 0)
        for part in denoiser.modules():
            if isinstance(part, WiderConv | WiderLinear):
                assert part.weight[:, -part.extra :].abs().max() == 0
    awake(plain)
    state = plain.state_dict()
    widened = [k for k, v in wide.state_dict().items() if v.shape != state[k].shape]
    assert len(widened) == 1
    weight = state[widened[0]]  # [out in] of a linear layer, [out in k k] of a convolution
    extra = wide.state_dict()[widened[0]].shape[1] - weight.shape[1]
    state[widened[0]] = F.pad(weight, (0, 0) * (weight.ndim - 2) + (0, extra))
    wide.load_state_dict(state)
    wide.eval()
    source = random(3, 8, 4, 4, seed=5)
    wanted = plain.velocity(*given)
    for shown in (None, source):
        torch.testing.assert_close(
            wide.velocity(*given, source=shown), wanted, atol=1e-5, rtol=1e-5
        )
    with torch.no_grad():
        dict(wide.named_parameters())[widened[0]][:, -extra:] += random(
            *weight.shape[:1], extra, *weight.shape[2:]
        )
    assert not torch.allclose(wide.velocity(*given, source=source), wanted, atol=1e-3)
    torch.testing.assert_close(
        wide.velocity(*given), wide.velocity(*given, source=0 * source), atol=1e-6, rtol=1e-6
    )


@each_model
def test_checkpointing_changes_neither_loss_nor_gradients(build, given):
    result = []
    for checkpoint in (False, True):
        denoiser = make(build, checkpoint=checkpoint).train()
        loss = denoiser.velocity(*given).square().mean()
        trained = [p for p in denoiser.parameters() if p.requires_grad]
        result.append((loss, *torch.autograd.grad(loss, trained)))
    for plain, recomputed in zip(*result, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-5)


def test_sanas_flops_grow_linearly_with_cells_and_condition_tokens():
    """Its self-attention is linear; cross-attention is a product of the two."""
    flops = make(SANA).flops
    cells = [flops((4, 4 * n), 5) for n in (1, 2, 3)]
    tokens = [flops((4, 4), n) for n in (5, 10, 15)]
    for first, second, third in (cells, tokens):
        assert third - second == second - first > 0
    crossed = flops((4, 8), 10) - flops((4, 8), 5) - (flops((4, 4), 10) - flops((4, 4), 5))
    assert crossed == 2 * (4 * 16 * 16 * 5)  # 2 layers: 4 * width for each pair of 16 and 5 more


def test_a_sana_folder_loads_as_its_pipeline_saves_it(given, tmp_path):
    model = awake(SANA().model)
    model.save_pretrained(tmp_path / "transformer")
    denoiser = PretrainedSana(str(tmp_path)).eval()
    xt, t, condition = given
    wanted = -model(xt, encoder_hidden_states=condition, timestep=1000 * (1 - t)).sample
    torch.testing.assert_close(denoiser.velocity(xt, t, condition), wanted)
    assert (denoiser.channels, denoiser.condition_dim, denoiser.patch) == (4, 16, 1)
    before = [p.clone() for p in denoiser.parameters()]
    initialise(denoiser, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, denoiser.parameters(), strict=True))
    wide = PretrainedSana(str(tmp_path), source_channels=4).eval()
    torch.testing.assert_close(
        wide.velocity(xt, t, condition, source=xt), wanted, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("scale", [1.0, 0.001])
def test_a_sana_reads_times_by_the_scale_of_its_own_configuration(given, tmp_path, scale):
    """As diffusers' pipeline: timestep = 1000 sigma * timestep_scale."""
    model = awake(SANA().model)
    model.register_to_config(timestep_scale=scale)
    model.save_pretrained(tmp_path / "transformer")
    xt, t, condition = given
    timestep = 1000 * (1 - t) * scale
    wanted = -model(xt, encoder_hidden_states=condition, timestep=timestep).sample
    torch.testing.assert_close(PretrainedSana(str(tmp_path)).eval().velocity(*given), wanted)


def test_a_sana_that_wants_a_scale_of_guidance_is_refused(tmp_path):
    model = SANA().model
    model.register_to_config(guidance_embeds=True)
    model.save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match="embeds a scale of guidance"):
        PretrainedSana(str(tmp_path))


@each_unet
def test_a_stable_diffusion_folder_loads_with_its_noise_and_prediction(build, given, tmp_path):
    source = make(build)
    source.model.save_pretrained(tmp_path / "unet")
    ddpm(build).save_pretrained(tmp_path / "scheduler")
    denoiser = PretrainedUNet(str(tmp_path)).eval()
    torch.testing.assert_close(denoiser.grid, source.grid, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        denoiser.velocity(*given), source.velocity(*given), atol=1e-3, rtol=1e-3
    )


def test_a_model_that_predicts_the_data_is_refused_by_name(tmp_path):
    scheduler = ddpm(UNET)
    scheduler.register_to_config(prediction_type="sample")
    make(UNET).model.save_pretrained(tmp_path / "unet")
    scheduler.save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ValueError, match=r"predicts 'sample'.*epsilon and v_prediction"):
        PretrainedUNet(str(tmp_path))


def test_heads_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match="width 16 does not divide into 3 heads"):
        SANA(heads=3)


@each_flow
def test_noise_levels_stay_exact_under_autocast(build, given):
    """The timestep is computed in single precision: bf16 would round 1 - t to 3 digits."""
    from diffusers.models.embeddings import Timesteps

    denoiser, seen = make(build), []
    (sines,) = (part for part in denoiser.modules() if isinstance(part, Timesteps))
    sines.register_forward_pre_hook(lambda m, args: seen.append(args[0] * m.scale))
    t = torch.tensor([0.12345, 0.5, 0.99876])
    with torch.autocast("cpu", torch.bfloat16):
        denoiser.velocity(given[0], t, given[2]).square().mean().backward()
    assert seen[0].dtype == torch.float32
    torch.testing.assert_close(seen[0], 1000 * (1 - t), atol=1e-4, rtol=1e-6)
