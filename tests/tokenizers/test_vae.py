"""The VAE: diffusers' own numbers, per-row terms, scaling, pretrained folders."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from unify.batch import Batch
from unify.noise import Noise
from unify.tokenizers.vae import VAE, PretrainedDCAE, PretrainedVAE


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(**settings):
    return VAE(widths=[8, 8, 16], norm_groups=4, **settings)


def images(rows=4, size=16):
    return torch.rand(rows, 3, size, size) * 2 - 1


def batch_of(data):
    batch = Batch.image(data, [f"image/{i}" for i in range(len(data))])
    return batch, Noise.for_batch(0, 0, batch)


def test_encode_and_decode_equal_diffusers_on_the_same_weights():
    model, data = small().eval(), images()
    with torch.no_grad():
        posterior = model.net.encode(data).latent_dist
        assert torch.equal(model.encode(data), posterior.mode())
        copies = model.net.decode(posterior.mode()).sample.clamp(-1, 1)
    assert torch.equal(model.decode(model.encode(data)), copies)


def test_the_loss_equals_diffusers_forward_and_kl_with_the_same_sample():
    model, data = small(), images()
    batch, noise = batch_of(data)
    terms = model.loss(batch, noise)
    posterior = model.net.encode(data).latent_dist
    sample = posterior.mean + posterior.std * noise.normal("posterior", posterior.mean.shape[1:])
    copies = model.net.decode(sample).sample
    torch.testing.assert_close(terms["pixel"].value, (copies - data).square().mean((1, 2, 3)))
    per_number = posterior.kl() / posterior.mean[0].numel()
    torch.testing.assert_close(terms["kl"].value, per_number)
    assert terms.keys() == model.terms


def test_the_kl_is_zero_at_the_prior_and_only_there():
    model, (batch, noise) = small(), batch_of(images())
    for parameter in model.net.quant_conv.parameters():
        parameter.data.zero_()  # mean 0 and log-variance 0 everywhere
    assert torch.equal(model.loss(batch, noise)["kl"].value, torch.zeros(4))
    model.net.quant_conv.bias.data[:4] = 2.0  # mean 2: 2^2 / 2 nats for each number
    torch.testing.assert_close(model.loss(batch, noise)["kl"].value, torch.full((4,), 2.0))


def test_a_row_s_loss_does_not_depend_on_its_batch_mates():
    model = small().train()
    batch, _ = batch_of(images())
    terms = model.loss(batch, Noise.for_batch(0, 3, batch))
    row = batch.rows(slice(2, 3))
    alone = model.loss(row, Noise.for_batch(0, 3, row))
    for name in model.terms:
        torch.testing.assert_close(terms[name].value[2:3], alone[name].value, atol=1e-6, rtol=1e-5)


def test_training_reaches_every_parameter():
    model = small().train()
    terms = model.loss(*batch_of(images()))
    sum(term.value.mean() for term in terms.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_calibrated_latents_have_mean_zero_and_variance_one_and_decode_alike():
    model, data = small().eval(), images(32)
    copies = model.decode(model.encode(data))
    model.calibrate(data)
    latents = model.encode(data).transpose(0, 1).flatten(1)  # [C N]
    torch.testing.assert_close(latents.mean(1), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(1), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode(model.encode(data)), copies, atol=1e-4, rtol=0)


def test_calibration_is_a_function_of_the_images_alone():
    model, data = small().eval(), images(70)
    model.calibrate(data)
    first = model.scale.clone()
    model.calibrate(images(8))
    assert not torch.equal(model.scale, first)
    model.calibrate(data)
    assert torch.equal(model.scale, first)


def test_latents_and_images_do_not_depend_on_autocast():
    model, data = small().eval(), images()
    latents = model.encode(data)
    copies = model.decode(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.encode(data), latents)
        assert torch.equal(model.decode(latents), copies)
    assert not latents.requires_grad


def test_the_grid_follows_the_widths_and_other_sizes_are_refused():
    model = small()
    assert model.stride == 4
    assert model.encode(torch.zeros(1, 3, 16, 24)).shape == (1, 4, 4, 6)
    with pytest.raises(ValueError, match="multiple of 4"):
        model.encode(torch.zeros(1, 3, 18, 16))


def test_the_content_hash_follows_weights_and_scaling_and_survives_a_file(tmp_path):
    model = small().eval()
    before = model.content_hash()
    model.calibrate(images(8))
    name = model.content_hash()
    assert name != before
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = small().eval()
    assert other.content_hash() != name
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert other.content_hash() == name
    data = images()
    assert torch.equal(other.encode(data), model.encode(data))


def test_a_folder_saved_by_diffusers_loads_with_its_scaling(tmp_path):
    net = small().net
    net.register_to_config(scaling_factor=0.5, shift_factor=0.25)
    net.save_pretrained(tmp_path / "model" / "vae")
    model, data = PretrainedVAE(str(tmp_path / "model"), subfolder="vae").eval(), images()
    with torch.no_grad():
        mode = net.eval().encode(data).latent_dist.mode()
        copies = net.decode(mode).sample.clamp(-1, 1)
    torch.testing.assert_close(model.encode(data), (mode - 0.25) * 0.5)
    torch.testing.assert_close(model.decode(model.encode(data)), copies, atol=1e-5, rtol=1e-5)
    assert (model.channels, model.stride) == (4, 4)


def test_a_pretrained_config_with_statistics_per_channel_is_followed(tmp_path):
    small().net.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"latents_mean": [0.0, 1.0, 2.0, 3.0], "latents_std": [1.0, 2.0, 4.0, 8.0]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"scaling_factor": 2.0}))
    model = PretrainedVAE(str(tmp_path)).eval()
    assert model.shift.tolist() == [0, 1, 2, 3]
    assert model.scale.tolist() == [2, 1, 0.5, 0.25]


def test_a_pretrained_vae_keeps_single_precision_weights(tmp_path):
    small().net.to(torch.bfloat16).save_pretrained(tmp_path)
    model = PretrainedVAE(str(tmp_path))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.encode(images()).dtype == torch.float32


def test_patches_are_folded_into_channels_and_back():
    model, data = VAE(widths=[8, 16], norm_groups=4, patch=2).eval(), images()
    assert (model.stride, model.grid(16, 16)) == (4, (4, 4))
    folded = torch.nn.functional.pixel_unshuffle(data, 2)  # [4 12 8 8]
    with torch.no_grad():
        mean = model.net.encode(folded).latent_dist.mode()
        copies = torch.nn.functional.pixel_shuffle(model.net.decode(mean).sample, 2)
    assert torch.equal(model.encode(data), mean)
    assert torch.equal(model.decode(mean), copies.clamp(-1, 1))
    assert model.encode(data).shape == (4, 4, 4, 4)


@pytest.fixture
def dc_ae(tmp_path):
    """A folder as Sana's pipeline has it, and the bare model."""
    from diffusers import AutoencoderDC

    ends = {"block_types": "ResBlock", "block_out_channels": (8, 16, 16)}
    ends |= {"layers_per_block": (1, 1, 1), "qkv_multiscales": ((), (), ())}
    both = {f"{side}_{name}": v for side in ("encoder", "decoder") for name, v in ends.items()}
    net = AutoencoderDC(latent_channels=8, attention_head_dim=8, scaling_factor=0.41407, **both)
    net.to(torch.bfloat16).save_pretrained(tmp_path / "sana" / "vae")
    return str(tmp_path / "sana"), net.float().eval()


def test_a_dc_ae_gives_its_own_latents_times_the_scaling_factor(dc_ae):
    name, net = dc_ae
    model, data = PretrainedDCAE(name, subfolder="vae").eval(), images()
    with torch.no_grad():
        latents = net.encode(data).latent
        copies = net.decode(latents).sample.clamp(-1, 1)
    torch.testing.assert_close(model.encode(data), 0.41407 * latents)
    assert torch.equal(model.encode(data), model.encode(data))
    torch.testing.assert_close(model.decode(model.encode(data)), copies, atol=1e-5, rtol=1e-5)
    assert (model.channels, model.stride, model.grid(16, 8)) == (8, 4, (4, 2))
    assert model.encode(images(1, 8)).shape == (1, 8, 2, 2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_dc_ae_is_named_by_weights_and_scale_and_refuses_other_sizes(dc_ae):
    name, _ = dc_ae
    model, twin = (PretrainedDCAE(name, subfolder="vae") for _ in range(2))
    assert model.content_hash() == twin.content_hash()
    twin.scale = 1.0
    assert model.content_hash() != twin.content_hash()
    with pytest.raises(ValueError, match="multiple of 4"):
        model.encode(torch.zeros(1, 3, 18, 16))
