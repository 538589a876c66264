"""Scores of drawn images: 1 for an oracle, near 0 for a broken model."""

import pytest
import torch
from shapes_oracle import HARD, WORLD, Broken, Oracle, measured, subject

from unify.data.shapes import Shapes
from unify.data.source import images, to_tensor
from unify.metrics.metric import first_records
from unify.metrics.shapes_compositions import Compositions
from unify.metrics.shapes_images import (
    Depths,
    Edits,
    SuperResolutions,
    TextToImage,
)
from unify.metrics.shapes_texts import Captions, VisualQuestions

ALL = [
    TextToImage(prompts=40, heldout=10, geneval=12),
    VisualQuestions(questions=80, heldout=20),
    Captions(images=30, heldout=10),
    Edits(20),
    SuperResolutions(20),
]

PERFECT = ("exact", "accuracy", "changed", "kept", "geneval")


@pytest.mark.parametrize(
    "world", [pytest.param(WORLD, id="default"), pytest.param(HARD, id="hard")]
)
@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_an_oracle_scores_one(metric, world):
    scores, _ = measured(metric, Oracle(world), world)
    perfect = {n: s.value for n, s in scores.items() if any(part in n for part in PERFECT)}
    assert perfect
    assert set(perfect.values()) == {1.0}, perfect


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_a_broken_model_scores_nothing(metric):
    scores, _ = measured(metric, Broken(WORLD))
    for name, score in scores.items():
        if any(part in name for part in PERFECT) and not name.endswith("/ceiling"):
            assert score.value == 0, name


def test_the_scores_of_text_to_image_by_name_number_and_interval():
    scores, grids = measured(ALL[0], Oracle(WORLD))
    n = {name: score.n for name, score in scores.items()}
    assert n["text_to_image/exact"] == 40
    assert n["text_to_image/exact/one_object"] == n["text_to_image/exact/two_objects"] == 20
    assert n["text_to_image/exact/heldout"] == 10
    names = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
    assert all(n[f"text_to_image/geneval/{name}"] == 12 for name in names)
    assert scores["text_to_image/unreadable"].value == 0
    headline = scores["text_to_image/exact/two_objects"]
    assert headline.low == pytest.approx(0.839, abs=1e-3)  # Wilson, 20 of 20 prompts, all distinct
    assert headline.high == 1
    assert set(grids) >= {"text_to_image/two_objects", "text_to_image/heldout"}
    grid = grids["text_to_image/two_objects"]
    assert len(grid.images) == len(grid.titles) == len(grid.verdicts) == 16
    assert all(grid.verdicts)
    assert WORLD.parse(grid.titles[0]) is not None


def test_a_wrong_object_is_wrong_only_where_it_is_asked_about():
    class OneRed(Oracle):
        def sample_image(self, request, sampler):
            scenes = [self.scene(prompt) for prompt in request.prompts]
            red = [s.changing(s.things[0], color="red", shape="circle") for s in scenes]
            return torch.stack([to_tensor(self.world.render(scene)) for scene in red])

    scores, _ = measured(TextToImage(prompts=80, heldout=0, geneval=0), OneRed(WORLD))
    right = [
        p.scene.things[0].pair == ("red", "circle")
        for category in ("one_object", "two_objects")
        for p in WORLD.prompts(category, 40, 0)
    ]
    assert 0 < scores["text_to_image/exact"].value == sum(right) / 80 < 0.3


def test_variety_is_one_for_all_options_and_zero_for_one():
    class Stuck(Oracle):
        """For each text, always the same picture."""

        def scene(self, prompt):
            return self.world.parse(prompt) or self.scenes[prompt][0]

    metric = TextToImage(prompts=2, heldout=0, geneval=64)
    free, _ = measured(metric, Oracle(WORLD))
    stuck, _ = measured(metric, Stuck(WORLD))
    assert "text_to_image/variety/size" not in free
    for name in ("text_to_image/variety/color", "text_to_image/variety/place"):
        assert free[name].n == 64
        assert free[name].value > 0.9
        assert stuck[name].value == 0
    broken, _ = measured(metric, Broken(WORLD))
    assert broken["text_to_image/variety/color"].n == 0
    assert broken["text_to_image/variety/color"].value is None, "no NaN that nobody sees"


def test_images_are_drawn_in_chunks_with_distinct_seeds_and_the_sampler_of_the_run():
    oracle = Oracle(WORLD)
    measured(TextToImage(prompts=40, heldout=0, geneval=0), oracle)
    assert [n for n, _, _ in oracle.calls] == [16, 4, 16, 4]
    seeds = [seed for _, some, _ in oracle.calls for seed in some]
    assert len(set(seeds)) == 40
    assert all(sampling == {"steps": 4} for _, _, sampling in oracle.calls)


def test_passports_name_prompts_and_sampler_and_differ_with_them():
    first = measured(ALL[0], Oracle(WORLD))[0]["text_to_image/exact"].passport
    again = measured(ALL[0], Oracle(Shapes(caption_noise=0.3, scenes=9)))[0]["text_to_image/exact"]
    other = measured(ALL[0], Oracle(Shapes(seed=1)), Shapes(seed=1))[0]["text_to_image/exact"]
    assert first["sampler"] == {"steps": 4}
    assert first == again.passport  # training knobs change no test prompt
    assert first["prompt_set"] != other.passport["prompt_set"]


def test_an_edit_that_does_nothing_keeps_everything_and_changes_nothing():
    class Lazy(Oracle):
        def sample_image(self, request, sampler):
            return request.sources[0]

    scores, grids = measured(Edits(40), Lazy(WORLD))
    assert scores["edit/kept"].value == 1
    assert scores["edit/changed"].value == scores["edit/exact"].value == 0
    assert grids["edit"].titles[0] == "before"
    assert grids["edit"].verdicts[:2] == [None, False]


def test_depth_error_is_zero_for_the_truth_and_the_mean_nearness_for_black():
    class Black(Oracle):
        def sample_image(self, request, sampler):
            return torch.full((len(request), 3, *request.size), -1.0)

    assert measured(Depths(20), Oracle(WORLD))[0]["depth/abs_error"].value == 0
    truth = images(first_records(WORLD, "depth", "test", 20), "image")
    score = measured(Depths(20), Black(WORLD))[0]["depth/abs_error"]
    assert score.value == pytest.approx(float((truth + 1).mean() / 2), rel=1e-4)
    assert score.low < score.value < score.high


def test_super_resolution_psnr_is_that_of_the_error():
    class Off(Oracle):
        def sample_image(self, request, sampler):
            return super().sample_image(request, sampler) + 0.02

    scores, _ = measured(SuperResolutions(20), Off(WORLD))
    assert scores["super_resolution/psnr"].value == pytest.approx(40, abs=1e-3)  # 4 / 0.02^2
    assert scores["super_resolution/exact"].value == 1


def test_another_source_is_refused_by_name():
    class Other:
        pass

    with pytest.raises(ValueError, match="Other"):
        TextToImage().measure(subject(Oracle(WORLD), source=Other()))


def test_metrics_say_what_a_run_must_have_trained_on():
    assert [next(iter(metric.tasks)) for metric in (*ALL, Depths(), Compositions())] == [
        "text_to_image",
        "vqa",
        "caption",
        "edit",
        "super_resolution",
        "depth",
        "compose",
    ]
