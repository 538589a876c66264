"""Cards: what a built paradigm says of itself is what it is."""

import pytest
from places import EXPERIMENTS

from unify.config import build_recipe, load_recipe
from unify.evaluation.paradigm_card import card

FIVE = ("ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow")


def made(name):
    recipe = build_recipe(load_recipe(EXPERIMENTS / f"{name}.yaml", tiny=True))
    return recipe, card(recipe)


@pytest.mark.parametrize("name", FIVE)
def test_parts_add_up_to_the_model_and_frozen_ones_are_told(name):
    recipe, printed = made(name)
    model = recipe.model
    assert sum(p["total"] for p in printed["parts"].values()) == sum(
        p.numel() for p in model.parameters()
    )
    assert {k for k, p in printed["parts"].items() if not p["trainable"]} == (
        {"llm"} if name == "queries_dit" else set()
    )
    assert printed["tasks"].keys() == recipe.data.tasks.keys()


@pytest.mark.parametrize("name", FIVE)
def test_every_task_shows_the_mask_of_each_backbone(name):
    _, printed = made(name)
    for task in printed["tasks"].values():
        assert task["masks"]
        for mask in task["masks"].values():
            count = len(mask["tokens"])
            assert len(mask["rows"]) == count
            assert all(int(row, 16) < 2**count for row in mask["rows"])
            for place, row in enumerate(mask["rows"]):
                assert int(row, 16) >> (count - 1 - place) & 1, "every token reads itself"


def test_transfusion_reads_text_causally_and_patches_both_ways():
    _, printed = made("transfusion")
    mask = printed["tasks"]["text_to_image"]["masks"]["trunk"]
    tokens = mask["tokens"]
    rows = [f"{int(row, 16):0{len(tokens)}b}" for row in mask["rows"]]
    patches = [i for i, kind in enumerate(tokens) if kind == "b"]
    assert len(patches) > 1
    assert all(rows[i][j] == "1" for i in patches for j in patches)
    assert all(rows[i][j] == "0" for i in range(patches[0]) for j in range(i + 1, len(tokens)))
