"""Quality against cost: the front of the means, and what verdicts say of it."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_study import write_study

from unify.analysis.paired_differences import HIGHER, LOWER, SAME
from unify.answers.costs import FLOPS, OWN_FLOPS, SECONDS, costs, fronts, pareto
from unify.answers.score_lines import score_lines
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 0.5), (2, 0.4), (3, 0.9)], [(1, 0.5), (3, 0.9)]),
        ([(1, 0.5), (1, 0.7), (2, 0.7)], [(1, 0.7)]),
        ([(2, 0.1)], [(2, 0.1)]),
    ],
)
def test_the_front_has_what_nothing_cheaper_reaches(points, front):
    assert pareto(points, "higher") == front


def test_where_lower_is_better_the_front_falls():
    assert pareto([(1, 0.5), (2, 0.6), (3, 0.1)], "lower") == [(1, 0.5), (3, 0.1)]


POINTS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(POINTS, st.sampled_from(["higher", "lower"]))
def test_a_point_is_on_the_front_exactly_where_none_is_as_cheap_and_as_good(points, better):
    sign = 1 if better == "higher" else -1
    front = pareto(points, better)
    for cost, score in set(points):
        beaten = any(
            other <= cost and sign * value >= sign * score and (other, value) != (cost, score)
            for other, value in points
        )
        assert ((cost, score) in front) == (not beaten)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "three", seeds=(0, 1, 2), steps=20)
    return study_answers(load_study(folder))


def verdicts(line, verdict):
    return [SimpleNamespace(line=line, first="ar_vq", second="transfusion", verdict=verdict)]


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (HIGHER, {"transfusion": (True, True), "ar_vq": (True, True)}),
        (SAME, {"transfusion": (True, True), "ar_vq": (True, False)}),
        ("", {"transfusion": (True, True), "ar_vq": (True, False)}),
        (LOWER, {"transfusion": (True, True), "ar_vq": (True, False)}),
    ],
)
def test_a_place_is_told_where_the_tests_tell_it_from_all_that_cost_no_more(answers, verdict, told):
    """transfusion costs less and is worse: it is on the front whatever the tests say."""
    study, lines = answers.study, answers.lines
    line = next(line for line in lines if line.metric == "text_to_image/exact")
    flops = next(one for one in fronts(study, lines, verdicts(line, verdict)) if one.line is line)
    assert [place.mean.arm for place in flops.places] == ["transfusion", "ar_vq"]
    assert {p.mean.arm: (p.front, p.told) for p in flops.places} == told


@pytest.mark.parametrize(("verdict", "told"), [(HIGHER, True), (SAME, False), (LOWER, False)])
def test_an_arm_behind_is_told_so_where_a_cheaper_one_is_told_better(answers, verdict, told):
    """A text costs ar_vq less time per answer here, and it answers better."""
    study = answers.study
    rows = [
        {**row, "value": 500.0} if row["metric"] == "generate/texts_per_s" and cheap else row
        for row in study.rows
        for cheap in [row["arm"] == "ar_vq"]
    ]
    changed = SimpleNamespace(**{**vars(study), "rows": rows, "primary": study.primary})
    changed.compared_arms = study.compared_arms
    line = next(line for line in answers.lines if line.metric == "vqa/accuracy")
    made = fronts(changed, answers.lines, verdicts(line, verdict))
    seconds = next(one for one in made if one.line is line and one.cost == SECONDS)
    assert {p.mean.arm: (p.front, p.told) for p in seconds.places} == {
        "ar_vq": (True, True),
        "transfusion": (False, told),
    }


def test_costs_are_in_all_where_every_run_has_them_else_the_arms_own(answers):
    study = answers.study
    label, own = costs(study, "vqa")[OWN_FLOPS]
    assert "alone" in label
    assert own["ar_vq", 0] == study.runs_of("ar_vq")[0].flops
    for run in study.runs:
        run.info["needed"] = []
        run.info["parameters"] = {**run.info["parameters"], "frozen_tokenizers": 0}
    label, total = costs(study, "vqa")[FLOPS]
    assert "needed runs" in label
    assert total == own


def test_outcomes_that_are_not_primary_or_not_alike_have_no_front(answers):
    lines = score_lines(answers.study.rows)
    made = fronts(answers.study, lines, [])
    assert {one.line.metric for one in made} == set(answers.study.primary)
    for line in lines:
        line.note = "another prompt set"
    assert fronts(answers.study, lines, []) == []
