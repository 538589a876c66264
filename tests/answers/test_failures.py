"""Failures by kind: what the kinds add up to, from the outcomes of each picture."""

import numpy as np
import pytest
from failing_study import KINDS_THERE, failing_study
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unify.answers.failures import KINDS, failures, split_by_kind
from unify.answers.score_lines import score_lines
from unify.answers.study_records import load_study
from unify.metrics import shapes_outcomes


def test_the_kinds_are_those_of_the_metric():
    assert set(KINDS) == set(shapes_outcomes.KINDS)


@settings(max_examples=300, deadline=None)
@given(arrays(bool, st.tuples(st.just(len(KINDS)), st.integers(1, 12))))
def test_the_kinds_add_up_to_what_is_not_right(table):
    wrong = dict(zip(KINDS, table, strict=True))
    wrong["count"] = wrong["count"] | wrong["extra"]  # as the metric has it
    shares = split_by_kind(wrong)
    assert sum(shares.values()) == pytest.approx(np.any(list(wrong.values()), axis=0).mean())
    assert all(0 <= share <= wrong[kind].mean() for kind, share in shares.items())
    assert shares["extra"] <= wrong["extra"].mean()


def test_a_picture_with_several_counts_for_each_in_equal_parts():
    wrong = {"shape": [1, 1, 0, 0], "place": [1, 0, 0, 0], "count": [0, 0, 1, 0]}
    shares = split_by_kind({kind: np.array(row, bool) for kind, row in wrong.items()})
    assert shares == {"shape": 0.375, "place": 0.125, "count": 0.25}
    more = {"count": np.array([True, True]), "extra": np.array([True, False])}
    assert split_by_kind(more) == {"count": 0.5, "extra": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return failing_study(tmp_path_factory.mktemp("runs") / "fails")


def test_of_a_study_they_add_up_to_one_minus_the_nearest_reading(folder):
    study = load_study(folder)
    found = failures(study, score_lines(study.rows))
    assert [one.arm for one in found] == study.arms
    for one in found:
        assert (one.n, one.seeds) == (512, [0, 1, 2])
        assert list(one.shares) == [kind for kind in KINDS if kind in KINDS_THERE]
        assert one.total == pytest.approx(1 - one.right.estimate)
        low, high = one.right.interval
        assert low < 1 - one.total < high


def test_they_are_left_out_without_outcomes_or_where_measured_in_two_ways(folder):
    study = load_study(folder)
    for row in study.rows:
        if row["metric"] == "text_to_image/errors/shape" and row["arm"] == "ar_vq":
            row["passport"] = {**row["passport"], "prompt_set": "another"}
    assert failures(study, score_lines(study.rows)) == []
    next(folder.glob("ar_vq-s1-*/eval/outcomes.npz")).unlink()
    for path in folder.glob("transfusion-*/eval/outcomes.npz"):
        path.unlink()
    study = load_study(folder)
    (one,) = failures(study, score_lines(study.rows))
    assert (one.arm, one.seeds) == ("ar_vq", [0, 2])
