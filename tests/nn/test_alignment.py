"""An alignment term: what it is, whom it teaches, and that nothing changes without one."""

import pytest
import torch
from places import EXPERIMENTS
from small import DIM, PROMPTS, SIDE, awake, make_transfusion
from test_denoiser import JOINT, make
from torch import nn
from torch_flops import by_torch

from unify.batch import Batch
from unify.config import ConfigError, build_recipe, load_recipe
from unify.costs.step_cost import first_rows
from unify.flow import LogitNormalTime
from unify.nn.alignment import REPA, Drawn, states_of, terms_with
from unify.nn.denoiser import UNetDenoiser
from unify.nn.flow_head import FlowHead
from unify.nn.init import initialise
from unify.nn.latent_flow import FlowToImage
from unify.nn.masking import CosineMasking
from unify.nn.patches import LinearPatches
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.paradigms.crossflow_from_image import CrossFlowImages
from unify.paradigms.mar import MAR
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes

ROWS = 3


def alignment(layer=1, patch=4, dim=DIM, **settings):
    torch.manual_seed(0)
    return REPA(PatchEncoder(16, 1, 2, patch), dim, layer, **settings)


def transfusion(**settings):
    return make_transfusion(align=alignment(**settings))


def mar(**settings):
    model = MAR(
        Trunk(DIM, 2, 2),
        Bytes(),
        Pixels(),
        FlowHead(3, DIM, 4, width=32, depth=1),
        LogitNormalTime(),
        CosineMasking("sample"),
        size=SIDE,
        align=alignment(**settings),
    )
    initialise(model, 0)
    return model


def crossflow(**settings):
    model = CrossFlowImages(
        trunk=Trunk(DIM, 2, 2),
        image=Pixels(),
        patches=LinearPatches(3, DIM, 4),
        time=LogitNormalTime(),
        size=SIDE,
        align=alignment(**settings),
    )
    initialise(model, 0)
    return model


EACH = pytest.mark.parametrize("make", [transfusion, mar, crossflow])


def pictures(rows=ROWS):
    return torch.rand(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def batch_for(model, rows=ROWS):
    images, keys = pictures(rows), [str(row) for row in range(rows)]
    if isinstance(model, FlowToImage):
        return Batch.image_to_image(images.flip(0), images, keys, "depth")
    return Batch.text_to_image(PROMPTS[:rows], images, keys, 16)


def terms(model, batch):
    return model.loss(batch, Noise.for_batch(0, 0, batch))


def features(align, grid=(2, 2)):
    return align.encoder(pictures())


# The term


def test_it_is_zero_where_the_projection_says_the_features_and_two_where_the_opposite():
    align = alignment()
    said = features(align)
    for factor, expected in ((3.0, 0.0), (-0.1, 2.0)):
        align.project = nn.Identity()
        drawn = Drawn(factor * said, (2, 2), pictures(), torch.ones(ROWS, dtype=torch.bool))
        torch.testing.assert_close(align.term([drawn]).value, torch.full((ROWS,), expected))


def test_features_are_averaged_to_the_grid_of_the_tokens():
    align = alignment(patch=2)  # 4 x 4 features, 2 x 2 tokens
    fine = features(align).view(ROWS, 2, 2, 2, 2, 16)  # [B row in-row column in-column F]
    coarse = fine.mean((2, 4)).flatten(1, 2)
    align.project = nn.Identity()
    drawn = Drawn(coarse, (2, 2), pictures(), torch.ones(ROWS, dtype=torch.bool))
    torch.testing.assert_close(align.term([drawn]).value, torch.zeros(ROWS), atol=1e-6, rtol=0)


def test_a_row_is_the_mean_over_the_images_that_it_has():
    align = alignment()
    one = torch.randn(ROWS, 4, DIM)
    two = torch.randn(ROWS, 4, DIM)
    everyone, some = torch.ones(ROWS, dtype=torch.bool), torch.tensor([True, False, False])
    both = align.term(
        [Drawn(one, (2, 2), pictures(), some), Drawn(two, (2, 2), pictures(), everyone)]
    )
    first, second = (
        align.term([Drawn(each, (2, 2), pictures(), everyone)]).value for each in (one, two)
    )
    torch.testing.assert_close(both.value[0], (first[0] + second[0]) / 2)
    torch.testing.assert_close(both.value[1:], second[1:])
    nobody = align.term([Drawn(one, (2, 2), pictures(), ~everyone)])
    assert not nobody.value.any()


# In paradigms


@EACH
def test_the_other_terms_are_those_without_it_to_the_bit_and_it_names_its_own(make):
    model = awake(make())
    batch = batch_for(model)
    given = terms(model, batch)
    assert given.keys() - {"image_flow"} == {"alignment"}
    assert "alignment" in model.terms
    align, model.align = model.align, None
    assert torch.equal(terms(model, batch)["image_flow"].value, given["image_flow"].value)
    assert terms(model, batch).keys() == {"image_flow"}
    model.align = align


@EACH
@pytest.mark.parametrize("layer", [1, 2])
def test_it_teaches_the_blocks_up_to_its_layer_and_nothing_behind_nor_the_encoder(make, layer):
    model = awake(make(layer=layer)).train()
    terms(model, batch_for(model))["alignment"].value.sum().backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    blocks = {int(name.split(".")[2]) for name in learned if name.startswith("trunk.blocks.")}
    assert blocks == set(range(layer))
    assert any(name.startswith("align.project.") for name in learned)
    behind = ("align.encoder", "trunk.norm", "patches.outward", "flow_head", "to_text")
    assert not [name for name in learned if name.startswith(behind)]


@EACH
def test_what_is_aligned_is_the_place_of_the_image(make):
    model, drawn, states = awake(make()), [], []
    model.align.project.register_forward_hook(lambda m, args, out: drawn.append(args[0]))
    model.trunk.blocks[0].register_forward_hook(lambda m, args, out: states.append(out))
    terms(model, batch_for(model))
    assert drawn[0].shape == (ROWS, 4, DIM)
    # at the end of the row, before eoi where there is one
    end = states[0].shape[1] - (not isinstance(model, FlowToImage))
    assert torch.equal(drawn[0], states[0][:, end - 4 : end])


@EACH
def test_a_row_does_not_depend_on_its_batch_mates(make):
    model = awake(make())
    batch = batch_for(model)
    whole = terms(model, batch)["alignment"].value
    for row in range(ROWS):
        alone = terms(model, batch.rows(slice(row, row + 1)))["alignment"].value
        torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=1e-5)


@EACH
def test_its_flops_are_those_that_torch_counts(make):
    model = make().train()
    batch = batch_for(model)
    align = model.align
    with_it = model.flops(batch), by_torch(model, batch)
    model.align = None
    without = model.flops(batch), by_torch(model, batch)
    model.align = align
    own = with_it[0] - without[0]
    # a layer behind which nothing is left to learn costs the flow's own gradient: equal in both
    assert own == pytest.approx(with_it[1] - without[1], rel=0.02)


def test_a_null_row_is_aligned_with_the_image_that_it_goes_to():
    model = crossflow().train()
    model.dropout = 1.0
    batch = batch_for(model, 2)
    shown = []
    model.align.encoder.register_forward_hook(lambda m, args, out: shown.append(args[0]))
    terms(model, batch)
    rows, indicators = model.targets(batch, Noise.for_batch(0, 0, batch))
    assert indicators.tolist() == [0, 0]
    assert rows.tolist() == [1, 0]
    assert torch.equal(shown[0], batch.segments[-1].images[rows])


def test_it_is_the_same_where_activations_are_computed_again():
    model = transfusion()
    batch = batch_for(model)

    def gradients():
        model.zero_grad()
        found = terms(model, batch)
        sum(term.value.sum() for term in found.values()).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.trunk.checkpoint = True
    again = gradients()
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient)


def test_an_alignment_that_does_not_fit_is_refused_with_what_would():
    with pytest.raises(ValueError, match="but the network has 32; set it to 32"):
        transfusion(dim=16)
    for layer in (0, 3):
        with pytest.raises(ValueError, match=f"layer is {layer}; the network has 2"):
            transfusion(layer=layer)


ALIGN = "{class: unify.nn.alignment.REPA, dim: 32, layer: 1, encoder: {class: \
unify.nn.vision.PatchEncoder, dim: 16, depth: 1, heads: 2, patch: 8}}"


def test_an_external_denoiser_is_aligned_by_the_tokens_of_its_blocks():
    words = [f"model.align={ALIGN}", "loss_weights.alignment=0.5"]
    recipe = build_recipe(load_recipe(EXPERIMENTS / "queries_dit.yaml", words, tiny=True))
    model = recipe.model
    initialise(model, 0)
    awake(model).train()
    batch = first_rows(recipe, "text_to_image", 2)
    blocks, drawn = model.denoiser.model.transformer_blocks, []
    blocks[0].register_forward_hook(lambda m, args, out: drawn.append(out))
    model.align.project.register_forward_hook(lambda m, args, out: drawn.append(args[0]))
    terms(model, batch)["alignment"].value.sum().backward()
    assert torch.equal(*drawn)
    assert all(p.grad is None for p in blocks[1].parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.connector.parameters())
    align = model.align
    with_it = model.flops(batch)
    model.align = None
    assert with_it - model.flops(batch) == len(batch) * align.flops(batch.segments[-1], (4, 4))


@pytest.mark.parametrize("build", JOINT.values(), ids=JOINT)
def test_a_denoiser_of_joint_attention_is_aligned_by_the_tokens_of_its_latents(build):
    denoiser = make(build)
    config = denoiser.model.config
    width = config.num_attention_heads * config.attention_head_dim
    align = alignment(dim=width)
    assert terms_with(align, frozenset(), denoiser) == {"alignment"}
    x, conditions = torch.randn(2, 4, 4, 6), torch.randn(2, 5, denoiser.condition_dim)
    with states_of(denoiser, align) as states:
        denoiser.velocity(x, torch.tensor([0.2, 0.7]), conditions)
    assert states[0].shape == (2, denoiser.tokens((4, 6)), width)


def test_a_denoiser_without_blocks_of_tokens_is_refused():
    unet = UNetDenoiser(channels=4, condition_dim=8, widths=(8, 8), heads=2)
    with pytest.raises(ValueError, match="a UNetDenoiser has no blocks of tokens"):
        terms_with(alignment(), frozenset(), unet)


def test_the_weight_of_the_term_is_asked_for_where_there_is_an_alignment_and_only_there():
    for words, message in (
        ([f"model.align={ALIGN}"], r"loss_weights.alignment: missing"),
        (["loss_weights.alignment=0.5"], r"loss_weights.alignment: unknown term"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_recipe(EXPERIMENTS / "transfusion.yaml", words)
