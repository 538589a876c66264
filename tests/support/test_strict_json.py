"""JSON that every parser reads."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.runs.folder import write_json
from unify.runs.study_files import has_value
from unify.support.strict_json import read_strict_json, strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def refuse(word):
    raise AssertionError(word)


def with_null(value):
    """The value with None where a number is not finite."""
    if isinstance(value, dict):
        return {key: with_null(each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_null(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@settings(deadline=None)
@given(VALUES)
def test_numbers_that_are_not_finite_are_null_and_all_else_is_kept(value):
    assert json.loads(strict_json(value), parse_constant=refuse) == with_null(value)


@pytest.mark.parametrize("kind", [np.float64, np.float32, float])
def test_numbers_of_numpy_are_numbers(kind):
    written = strict_json({"a": [kind("nan"), kind("-inf"), kind(0.5)], "b": np.int64(3)})
    assert json.loads(written, parse_constant=refuse) == {"a": [None, None, 0.5], "b": 3}


def test_a_file_is_strict_json_and_null_reads_as_no_value(tmp_path):
    rows = [{"value": math.nan}, {"value": 0.5}, {"value": math.inf}]
    write_json(tmp_path / "scores.json", rows)
    read = json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse)
    assert [has_value(row) for row in read] == [False, True, False]
    assert [has_value(row) for row in rows] == [False, True, False], "before it is written, too"


def test_files_from_before_are_read_with_null_for_nan():
    assert read_strict_json('{"a": NaN, "b": [Infinity, -Infinity, 1.5]}') == {
        "a": None, "b": [None, None, 1.5],
    }  # fmt: skip
