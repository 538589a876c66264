"""Construction: completed configs become objects, and only those that a place expects."""

from pathlib import Path
from typing import Any

import pytest
from config_parts import built

from unify.config import build, build_recipe, load_recipe
from unify.schema.experiment import Optimizer, Recipe


def test_built_recipe_has_parts_and_dataclasses_and_no_config(folder):
    recipe = build_recipe(load_recipe(folder / "good.yaml"))
    assert isinstance(recipe, Recipe)
    assert isinstance(recipe.optimizer, Optimizer)
    assert recipe.optimizer.betas == (0.9, 0.95)
    assert type(recipe.model).__name__ == "Model"
    assert (recipe.model.trunk.dim, recipe.model.trunk.act) == (16, max)
    assert recipe.model.head.pair == (1, 0.5)
    assert recipe.model.codec.widths == (8, 16)
    assert recipe.tiny == {"steps": 2, "model": {"trunk": {"dim": 4}}}
    assert sorted(built(folder)) == ["Codec", "Model", "Plain", "Speed", "World"]
    assert built(folder).index("Plain") < built(folder).index("Model")


def test_constructor_keywords_pass_to_the_next_class_up(folder):
    node = load_recipe(
        folder / "good.yaml",
        [f"model.trunk={{class: {folder}/parts.py:Wide, dim: 2, folder: a/b}}"],
    )["model"]["trunk"]
    part = build(node)
    assert (part.dim, part.factor, part.folder) == (2, 2.0, Path("a/b"))


def test_build_refuses_what_was_not_checked(folder):
    load_recipe(folder / "good.yaml")
    with pytest.raises(ValueError, match="is not built"):
        build({"class": "os.system", "command": "true"})
    with pytest.raises(ValueError, match="is not a Optimizer"):
        build({"class": f"{folder}/parts.py:Stranger"}, expect=Optimizer)
    assert build({"x": {"class": "os.system"}}, expect=dict[str, Any]) == {
        "x": {"class": "os.system"}
    }
    assert built(folder) == []
