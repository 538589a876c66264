"""The order of sample grids on the page."""

from hypothesis import given, settings
from hypothesis import strategies as st

from unify.report.sample_order import in_order

TASKS = ["caption/exact", "vqa", "text_to_image/heldout", "text_to_image/two_objects", "own/grid"]


def test_grids_of_primary_outcomes_come_first():
    names = in_order(TASKS, ["text_to_image/exact/two_objects", "vqa/accuracy"])
    assert names[:2] == ["text_to_image/two_objects", "vqa"]


def test_of_an_outcome_without_pictures_of_its_own_all_of_its_task_come_first():
    names = in_order(TASKS, ["text_to_image/nearest", "vqa/accuracy"])
    assert names[:3] == ["text_to_image/two_objects", "text_to_image/heldout", "vqa"]


@settings(max_examples=50)
@given(st.permutations(TASKS), st.lists(st.text("ab/", max_size=5)))
def test_every_grid_is_shown_once(names, primary):
    assert sorted(in_order(names, primary)) == sorted(TASKS)
