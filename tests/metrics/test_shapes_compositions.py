"""Scores of compositions: exact only with every source where the words say."""

from dataclasses import replace

import pytest
import torch
from shapes_oracle import HARD, WORLD, Broken, Composer, measured

from unify.data.world.language import ORDINALS
from unify.metrics.shapes_compositions import Compositions


@pytest.mark.parametrize(
    "world", [pytest.param(WORLD, id="default"), pytest.param(HARD, id="hard")]
)
def test_who_puts_each_thing_where_the_words_say_composes_exactly(world):
    scores, grids = measured(Compositions(40, heldout=10), Composer(world), world)
    best = {name: scores.pop(name) for name in list(scores) if name.endswith("/ceiling")}
    assert list(best) == [f"{name}/ceiling" for name in scores]
    assert {score.value for score in best.values()} == {1.0}, "it draws pixels"
    assert {score.value for score in scores.values()} == {1.0}
    for measure in ("exact", "nearest"):
        assert scores.pop(f"compose/{measure}").n == 40
        assert scores.pop(f"compose/{measure}/heldout").n == 10
        names = [name for name in scores if name.startswith(f"compose/{measure}/")]
        assert names == [f"compose/{measure}/{name}" for name in world.complete]
        assert sum(scores.pop(name).n for name in names) == 40
    assert scores == {}
    grid = grids["compose"]
    ends = [i for i, verdict in enumerate(grid.verdicts) if verdict is not None]
    assert all(grid.titles[i].startswith("put the first at") for i in ends)
    assert grid.titles[: ends[0]] == list(ORDINALS[: ends[0]])
    assert "compose/exact/heldout" not in measured(Compositions(4, 0), Composer(world), world)[0]


def test_a_composition_is_wrong_with_the_sources_swapped_or_one_left_out():
    class Swapped(Composer):
        def sample_image(self, request, sampler):
            both = request.present[0] & request.present[1]
            order = [
                torch.where(both[:, None, None, None], s, t)
                for s, t in zip(request.sources[::-1], request.sources, strict=True)
            ]
            return super().sample_image(replace(request, sources=order), sampler)

    class First(Composer):
        def sample_image(self, request, sampler):
            alone = [prompt.partition(" and ")[0] for prompt in request.prompts]
            everyone = [torch.ones(len(request), dtype=torch.bool)]
            first = replace(request, prompts=alone, sources=request.sources[:1], present=everyone)
            return super().sample_image(first, sampler)

    for model in (Swapped(WORLD), First(WORLD)):
        scores, _ = measured(Compositions(60, heldout=0), model)
        assert scores["compose/exact/one_object"].value == 1
        assert scores["compose/exact/two_objects"].value < 0.1
    assert measured(Compositions(20), Broken(WORLD))[0]["compose/exact"].value == 0
