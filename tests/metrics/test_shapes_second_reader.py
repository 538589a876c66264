"""The second reader beside the checker, on the pictures that were drawn for the checker."""

import pytest
import torch
from parts import recipe_of
from picture_readers import Knowing, tiny_reader
from places import EXPERIMENTS
from shapes_oracle import HARD, WORLD, Broken, Oracle, measured, subject

from unify.config import load_recipe, needed_runs
from unify.data.world.checker import Checker
from unify.evaluation.score_run import subject_of
from unify.metrics.shapes_images import TextToImage
from unify.metrics.shapes_second_reader import SecondReader


def test_a_reader_that_agrees_has_the_checkers_nearest_score():
    metric = SecondReader(Knowing(WORLD, Checker(WORLD)), prompts=20, heldout=10)
    scores, grids = measured(metric, Oracle(WORLD))
    assert {s.value for n, s in scores.items()} == {1.0}
    assert scores["text_to_image/second_reader/heldout"].n == 10
    assert scores["text_to_image/readers_agree"].better is None
    assert grids == {}
    broken, _ = measured(metric, Broken(WORLD))
    assert broken["text_to_image/second_reader"].value == 0
    assert broken["text_to_image/readers_agree"].value == 1, "both say that it is not the scene"


def test_it_says_where_the_two_differ():
    class Blank(Knowing):
        def scenes(self, images):
            return [type(near.scene)(()) for near in self.checker.nearest(images)]

    scores, grids = measured(SecondReader(Blank(WORLD, Checker(WORLD)), 20, 0), Oracle(WORLD))
    assert scores["text_to_image/second_reader"].value == 0
    assert scores["text_to_image/readers_agree"].value == 0
    assert set(grids["text_to_image/readers_differ"].verdicts) == {False}


def test_pictures_are_drawn_once_for_both_readers():
    model, metrics = (
        Oracle(WORLD),
        [TextToImage(30, 10, 0), SecondReader(tiny_reader(WORLD), 20, 10)],
    )
    made = subject(model)
    for metric in metrics:
        metric.measure(made)
    prompts = sum(n for n, _, _ in model.calls)
    assert prompts == 40
    alone = measured(metrics[1], Oracle(WORLD))[0]["text_to_image/second_reader"]
    after = {s.metric: s for s in metrics[1].measure(made)[0]}["text_to_image/second_reader"]
    assert (after.outcomes, after.passport) == (alone.outcomes, alone.passport)


def test_the_reader_is_in_the_passport_and_another_world_is_refused_before_training():
    metric = SecondReader(tiny_reader(WORLD), prompts=4, heldout=0)
    scores, _ = measured(metric, Broken(WORLD))
    name = f"SceneReader {tiny_reader(WORLD).content_hash()}"
    assert {score.passport["reader"] for score in scores.values()} == {name}
    with torch.no_grad(), pytest.raises(ValueError, match="trained on a world of pixels 32"):
        metric.check(subject(Broken(HARD), HARD))


def test_the_world_with_two_readers_scores_in_its_tiny_form_without_a_needed_run(tmp_path):
    files = [str(EXPERIMENTS / name) for name in ("ar_vq.yaml", "data/shapes2_two_readers.yaml")]
    (tmp_path / "arm.yaml").write_text(f"base: {files}\n")
    config = load_recipe(tmp_path / "arm.yaml", tiny=True)
    assert needed_runs(config) == {}
    full = needed_runs(load_recipe(tmp_path / "arm.yaml"))
    names = {key.rpartition("/")[2]: needed.trains for key, needed in full.items()}
    assert names == {"shapes_text.yaml": True, "shapes_vq.yaml": True, "shapes2_reader.yaml": False}
    recipe = recipe_of(tmp_path / "arm.yaml")
    for metric in recipe.evaluation:
        made = subject_of(recipe, 0)
        metric.check(made)
        assert metric.measure(made)[0]
