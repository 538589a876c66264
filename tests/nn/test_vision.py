"""Vision encoders: what a feature depends on, its place, and that timm's are timm's own."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.nn.init import initialise
from unify.nn.layers import patchify, sincos_2d
from unify.nn.trunk import Tokens
from unify.nn.vision import PatchEncoder, TimmEncoder
from unify.schema.experiment import Optimizer
from unify.training.optimizer import parameter_groups

VIT = "test_vit"  # 160 pixels, 6 blocks of width 64 on a grid of 10 x 10


def picture(rows=2, height=16, width=16):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, 3, height, width, generator=generator) * 2 - 1


@pytest.fixture
def patches():
    encoder = PatchEncoder(dim=32, depth=2, heads=2, patch=4)
    initialise(encoder, 0)
    return encoder


@pytest.fixture(scope="module")
def vit():
    return TimmEncoder(VIT, pretrained=False)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 20), (4, 4)])
def test_features_lie_on_the_grid_of_any_image(patches, height, width):
    h, w = patches.grid(height, width)
    assert (h, w) == (height // 4, width // 4)
    assert patches(picture(2, height, width)).shape == (2, h * w, 32)


def test_every_patch_reads_every_other_of_its_own_image(patches):
    images = picture().requires_grad_()
    features = patches(images)
    for place in (0, 7, 15):
        (gradient,) = torch.autograd.grad(features[0, place].sum(), images, retain_graph=True)
        seen = patchify(gradient, 4).abs().amax(-1) > 0  # [B 16]
        assert seen[0].all()
        assert not seen[1].any()


@torch.no_grad()
def test_positions_are_row_and_column(patches):
    """Rotations are relative: the same patches a few rows further give the same features."""
    called = []
    patches.trunk.register_forward_pre_hook(lambda module, args: called.append(args[0]))
    wanted = patches(picture(1, 8, 12))
    x, mask, positions = called[0].x, called[0].mask, called[0].positions
    assert positions[0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    plain = patches.inward(patchify(picture(1, 8, 12), 4))
    torch.testing.assert_close(x, plain + sincos_2d(2, 3, 32))
    shifted = patches.trunk(Tokens(x, mask, positions + torch.tensor([5, 0])))
    torch.testing.assert_close(shifted, wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(patches.trunk(Tokens(x, mask, positions.flip(-1))), wanted, atol=1e-3)


def test_an_image_that_does_not_divide_is_named(patches):
    with pytest.raises(ValueError, match="10x16 pixels does not divide into patches of 4"):
        patches(picture(1, 10, 16))


@torch.no_grad()
def test_flops_are_those_of_a_pass(patches, vit):
    for encoder in (patches, vit):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            encoder(picture(1))
        assert encoder.flops(16, 16) == counter.get_total_flops() > 0


def test_an_encoder_trains_at_a_rate_of_its_own(patches):
    model = torch.nn.ModuleDict({"vision": patches, "head": torch.nn.Linear(32, 2)})
    groups = parameter_groups(model, Optimizer(lr=1.0, lr_ratio={"vision": 0.1}))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in patches.parameters()} == {0.1}


@torch.no_grad()
def test_the_last_layer_is_timms_own_output(vit):
    import timm

    bare = timm.create_model(VIT, pretrained=False).eval()
    bare.load_state_dict(vit.eval().model.state_dict(), strict=False)
    images = picture(2, 160, 160)
    features = bare.forward_features((images + 1) / 2 * 2 - 1)[:, 1:]  # without the class token
    torch.testing.assert_close(vit(images), features)
    assert vit.grid(160, 160) == (10, 10)
    small = picture(2, 32, 48)
    resized = F.interpolate(small, (160, 160), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(vit(small), vit(resized))


@torch.no_grad()
def test_an_inner_layer_is_the_output_of_its_block_and_the_rest_is_dropped():
    import timm

    torch.manual_seed(0)
    bare = timm.create_model(VIT, pretrained=False).eval()
    encoder = TimmEncoder(VIT, pretrained=False, layer=-3).eval()
    encoder.model.load_state_dict(
        {k: v for k, v in bare.state_dict().items() if k in encoder.model.state_dict()}
    )
    seen = []
    bare.blocks[3].register_forward_hook(lambda module, args, out: seen.append(out))
    bare(picture(2, 160, 160))
    torch.testing.assert_close(encoder(picture(2, 160, 160)), seen[0][:, 1:])
    assert len(encoder.model.blocks) == 4
    assert not any(name.startswith("head") for name, _ in encoder.named_parameters())


@torch.no_grad()
def test_pixels_are_normalised_as_the_model_says():
    encoder = TimmEncoder("test_resnet", pretrained=False).eval()
    seen = []
    encoder.model.register_forward_pre_hook(lambda module, args: seen.append(args))
    encoder.model.forward_intermediates = lambda x, **more: [seen.append(x) or x]
    encoder(torch.full((1, 3, 160, 160), 0.2))
    mean, std = encoder.model.pretrained_cfg["mean"], encoder.model.pretrained_cfg["std"]
    wanted = (0.6 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(seen[0][0, :, 0, 0], wanted)


@pytest.mark.parametrize("name", [VIT, "test_resnet", "test_convnext"])
def test_every_parameter_that_is_left_gets_a_gradient(name):
    encoder = TimmEncoder(name, pretrained=False, layer=1)
    features = encoder(picture(2, 160, 160))
    h, w = encoder.grid(160, 160)
    assert features.shape == (2, h * w, encoder.dim)
    features.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_another_size_resamples_the_positions():
    encoder = TimmEncoder(VIT, pretrained=False, size=64)
    assert encoder.grid(32, 32) == (4, 4)
    assert encoder(picture(1)).shape == (1, 16, 64)


def test_random_weights_follow_the_seed_and_pretrained_ones_stay(tmp_path):
    one, other = (TimmEncoder(VIT, pretrained=False) for _ in range(2))
    initialise(one, 0)
    initialise(other, 0)
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert one.model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    import timm

    bare = timm.create_model(VIT, pretrained=False).requires_grad_(False)
    torch.save(bare.state_dict(), tmp_path / "weights.pth")
    loaded = TimmEncoder(VIT, pretrained=str(tmp_path / "weights.pth"))
    initialise(loaded, 0)
    assert torch.equal(loaded.model.blocks[5].mlp.fc1.weight, bare.blocks[5].mlp.fc1.weight)
    timm.models.save_for_hf(bare, tmp_path / "folder", model_config=bare.pretrained_cfg)
    again = TimmEncoder(f"local-dir:{tmp_path / 'folder'}")
    assert torch.equal(again.model.pos_embed, bare.pos_embed)


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"test_vit has 6 layers, so there is no layer 6"):
        TimmEncoder(VIT, pretrained=False, layer=6)
