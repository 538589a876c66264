"""The FLOPs that a paradigm states, against those that torch counts in forward and backward."""

import pytest
from places import EXPERIMENTS
from torch_flops import by_torch

from unify.config import build_recipe, load_recipe
from unify.costs.step_cost import first_rows, tasks_of
from unify.nn.flops import dense
from unify.nn.init import initialise
from unify.paradigm import Fitted, Paradigm
from unify.study.jobs import StudyRequest
from unify.study.width_matching import study_and_arms

CONV = "{class: unify.nn.patches.ConvPatches, channels: 4, dim: 32, patch: 2}"
TIMED = "model.trunk={class: unify.nn.trunk.TimedTrunk, dim: 32, depth: 2, heads: 2}"
MAR_LAW = "{class: unify.nn.unmasking.TruncatedNormalMasking}"
UNDERSTAND = (
    "model.understand={class: unify.nn.vision.PatchEncoder, dim: 32, depth: 1, heads: 2, patch: 8}"
)
SELF_FLOW = (
    "model.align={class: unify.nn.alignment.SelfFlow, dim: 32, layer: 1, teacher_layer: 2}",
    "loss_weights.alignment=0.5",
)
LAYERS = (
    "model.trunk={class: unify.nn.image_layers.ImageLayers, trunk: {class: unify.nn.trunk.Trunk, "
    "dim: 32, depth: 2, heads: 2}}"
)
SHAPES = "data.source.class=unify.data.shapes.Shapes"  # in place of pictures that need a font
VARIANTS = {  # classes of part that no shipped YAML has, or has in one place only
    "transfusion/patches": ["transfusion", f"model.patches={CONV}"],
    "transfusion/noised": ["transfusion", f"model.patches={CONV}", "model.condition_on=noised"],
    "transfusion/timed": ["transfusion", TIMED],
    "dual_tower/patches": ["dual_tower", f"model.patches={CONV}"],
    "dual_tower/editing": ["editing/dual_tower", f"model.patches={CONV}"],
    "dual_tower/eyes": ["dual_tower_llm", "model.understand=vision"],
    "crossflow/patches": ["crossflow", f"model.patches={CONV}"],
    "crossflow/timed": ["crossflow", TIMED],
    "masked/full": ["masked", "model.attention=full"],
    "ar_vq/image_layers": ["ar_vq", LAYERS],
    "masked/image_layers": ["masked", LAYERS],
    "mar/image_layers": ["mar", LAYERS, "model.flow_head.dim=32"],
    "transfusion/image_layers": ["transfusion", LAYERS, "model.patches.dim=32"],
    "semantic_first/image_layers": ["semantic_first", LAYERS],
    "dual_tower/self_flow": ["dual_tower_llm", *SELF_FLOW],
    "masked/full_decoupled": ["masked", UNDERSTAND, "model.attention=full"],
    "masked_text/decoupled": ["masked_text", UNDERSTAND, "model.attention=causal_text"],
    "masked_text/causal": ["masked_text", "model.attention=causal_text"],
    "ar_vq/from_llm": ["pretrained_track/ar_vq"],
    "transfusion/from_llm": ["pretrained_track/transfusion"],
    "crossflow/features": ["pretrained_track/crossflow"],
    "mar/encoder": [
        "mar",
        "model.encoder={class: unify.nn.trunk.Trunk, dim: 32, depth: 1, heads: 2}",
    ],
    "mar/raster": ["mar", "model.order=raster", "model.repeats=1", "model.masking=" + MAR_LAW],
    "emoji/ar_vq": ["emoji/ar_vq", SHAPES],
    "emoji/transfusion": ["emoji/transfusion", SHAPES],
    "emoji/dual_tower": ["emoji/dual_tower", SHAPES],
    "emoji/queries_dit": ["emoji/queries_dit", SHAPES],
    "emoji/crossflow": ["emoji/crossflow", SHAPES],
    "emoji/judge": ["readers/emoji_judge", SHAPES],
    "emoji/vq": ["tokenizers/emoji_vq", SHAPES],
    "emoji/vae": ["tokenizers/emoji_vae", SHAPES],
    **{
        f"tokenizers/{name}": [f"tokenizers/{name}"]
        for name in (
            *("shapes_vq", "shapes_vq_64", "shapes_vq_1024", "shapes_fsq", "shapes_lfq"),
            *("shapes_simvq", "shapes_vae", "shapes64_vq", "shapes2_vq", "shapes2_vae"),
            *("shapes_vae_codes", "shapes_semantic_codes"),
        )
    },
}


def assert_counted(recipe, rows=4):
    """`flops` and the frozen tokenizers' encoding are within 2% of torch's counter in each task."""
    recipe.data.tasks = dict.fromkeys(recipe.data.tasks, rows)
    with dense():
        costs = tasks_of(recipe)
    for task, cost in costs.items():
        measured = by_torch(recipe.model, first_rows(recipe, task, rows))
        assert cost.training + cost.encoding == pytest.approx(measured, rel=0.02), task


def built(config):
    recipe = build_recipe(config, lambda part, weights: None)  # no product depends on weights
    model = recipe.model
    parts = model.tokenizers() if isinstance(model, Paradigm) else vars(model)
    for part in parts.values():
        if isinstance(part, Fitted):
            part.fit(recipe.data.texts(500))
    initialise(recipe.model.train(), 0)
    return recipe


def test_stated_flops_are_within_2_percent_of_those_counted(subject):
    if not subject.model.flops(subject.batch(subject.tasks[0])):
        pytest.skip("states no FLOPs")
    subject.model.train()
    assert_counted(subject.recipe, 2 * subject.model.group)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_of_every_class_of_part(name):
    file, *overrides = VARIANTS[name]
    assert_counted(built(load_recipe(EXPERIMENTS / f"{file}.yaml", overrides, tiny=True)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", sorted((EXPERIMENTS / "ablations").glob("*.yaml")), ids=lambda f: f.stem
)
def test_the_same_of_every_arm_of_an_ablation(file):
    for config in study_and_arms(StudyRequest(str(file), [], tiny=True))[1].values():
        recipe = built(config)
        if isinstance(recipe.model, Paradigm):
            assert_counted(recipe)
