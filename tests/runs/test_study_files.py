"""What a score's row says, and what is read from files that do not say it yet."""

import json

import pytest

from unify.runs.study_files import better, read_tuning


@pytest.mark.parametrize("stated", ["higher", "lower", None])
def test_a_row_states_which_of_its_values_are_better(stated):
    assert better({"metric": "text/perplexity", "better": stated}) == stated


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("text/perplexity", "lower"),
        ("text_to_image/unreadable", "lower"),
        ("inpaint/abs_error/gray", "lower"),
        ("tokenizer/perplexity", None),
        ("vqa/chance/color", None),
        ("text_to_image/exact", "higher"),
        ("score", "higher"),
    ],
)
def test_an_older_row_is_read_by_the_name_of_its_measure(metric, expected):
    assert better({"metric": metric, "value": 1.0}) == expected


def test_an_older_tuning_says_what_was_better(tmp_path):
    entries = {"a": {"lower": True}, "b": {"lower": False}, "c": {"better": "lower"}}
    (tmp_path / "tuning.json").write_text(json.dumps(entries))
    read = read_tuning(tmp_path)
    assert {arm: entry["better"] for arm, entry in read.items()} == {
        "a": "lower", "b": "higher", "c": "lower",
    }  # fmt: skip
