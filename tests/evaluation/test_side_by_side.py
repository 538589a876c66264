"""What is said of paradigms side by side, read off the built objects."""

import pytest
from places import EXPERIMENTS

from unify.config import load_recipe
from unify.evaluation.side_by_side import ASKED, described, facts_of
from unify.paradigms.ar_vq import ArVQ
from unify.paradigms.crossflow import CrossFlow
from unify.report.side_by_side import markdown, svg


def facts(name, *overrides):
    found = facts_of(load_recipe(EXPERIMENTS / f"{name}.yaml", overrides, tiny=True))
    assert found is not None
    return found


def test_a_decoder_that_is_a_flow_is_counted_with_what_it_decodes():
    steps = "model.image.steps"
    two, three, four = (facts("ar_semantic_codes", f"{steps}={n}") for n in (2, 3, 4))
    assert two.passes == {"trunk": 4, "image.denoiser": 2}
    assert two.image == "1 x 4 codes of 240"
    assert three.drawn - two.drawn == four.drawn - three.drawn > 0


@pytest.mark.parametrize("steps", [3, 7])
def test_a_flow_reads_its_prefix_once_and_its_picture_at_every_step(steps):
    found = facts("transfusion", f"image_sampling.steps={steps}")
    assert found.passes == {"trunk": 1 + steps}


def test_codes_are_drawn_one_at_a_time_and_hidden_ones_in_so_many_passes():
    assert facts("ar_vq").passes == {"trunk": 16}, "4 x 4 codes"
    masked = facts("masked", "image_sampling.steps=5")
    assert masked.passes == {"trunk": 1 + 5}
    assert (masked.image, masked.bits) == (facts("ar_vq").image, facts("ar_vq").bits)


def test_the_flops_of_a_step_are_the_difference_of_two_numbers_of_steps():
    three, four, five = (facts("transfusion", f"image_sampling.steps={n}").drawn for n in (3, 4, 5))
    assert four - three == five - four > 0


def test_a_frozen_part_is_counted_as_not_trained_and_reads_for_the_whole():
    found = facts("queries_dit")
    assert found.trained < found.parameters
    assert found.read > 0, "the language model answers"
    assert found.cannot == ("text",)
    assert found.text_terms == "none", "nothing is learned on text"


def test_what_cannot_be_read_has_no_flops_and_every_task_is_listed():
    found = facts("crossflow")
    assert found.read is None
    assert set(found.cannot) | CrossFlow.tasks == set(ASKED)


def test_title_and_loss_are_those_of_the_docstring():
    title, objective = described(ArVQ)
    assert title == "Text and image codes in one vocabulary, next-token prediction"
    assert objective == "L = CE(text) + w CE(codes) (+ z log^2 Z)"


def test_the_table_and_the_picture_have_every_experiment_and_every_mask():
    both = [facts("transfusion"), facts("crossflow")]
    text, picture = markdown(both), svg(both)
    for found in both:
        assert text.count(f"| `{found.name}` |") == 2, "its loss, and its numbers"
        assert picture.count(f">{found.name}<") == len(found.masks)
    # every token of a causal sequence reads itself: no mask is without ink
    assert picture.count("<path") >= sum(len(found.masks) for found in both)


def test_a_tokenizer_is_no_paradigm():
    config = load_recipe(EXPERIMENTS / "tokenizers/shapes_vae.yaml", tiny=True)
    assert facts_of(config) is None
