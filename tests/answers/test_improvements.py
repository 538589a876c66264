"""How often an arm does better: the direction of the scores, seeds and prompts, and intervals."""

import numpy as np
import pytest
from outcome_simulation import outcomes
from report_study import write_study

from unify.answers.answers_json import answers_content
from unify.answers.improvements import Improvement
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study

A, B = outcomes(np.random.default_rng(0), 1, (0.8, 0.5), 4, 64, 0.2)[0]
SCORES = A.mean(1).tolist(), B.mean(1).tolist()


def test_lower_scores_are_better_where_they_say_so():
    more = Improvement.of("higher", SCORES, (A, B, None))
    less = Improvement.of("lower", SCORES, (A, B, None))
    assert more.over_prompts.mean == pytest.approx(1 - less.over_prompts.mean)
    assert (more.over_seeds, less.over_seeds, more.pairs) == (1.0, 0.0, 16)
    assert more.interval()[0] > 0.5 > less.interval()[1]
    assert Improvement.of(None, SCORES, (A, B, None)) is None


def test_without_outcomes_seeds_alone_are_told():
    told = Improvement.of("higher", ([0.5, 0.7, 0.9], [0.5, 0.6, 0.6]))
    assert told.over_prompts is told.interval() is None
    assert told.over_seeds == pytest.approx((0.5 + 3 + 3) / 9)


def test_the_interval_of_a_family_is_the_wider_and_ends_at_probabilities():
    told = Improvement.of("higher", SCORES, (A, B, None))
    low, high = told.interval(10)
    assert low < told.interval()[0] < told.over_prompts.mean < told.interval()[1] < high
    sure = np.ones((3, 6))
    sure[0, 0] = 0
    told = Improvement.of("higher", ([1, 1, 1], [0, 0, 0]), (sure, np.zeros((3, 6)), None))
    assert told.interval(10)[1] == 1


def test_answers_say_it_of_each_difference(tmp_path):
    answers = study_answers(load_study(write_study(tmp_path / "four", (0, 1, 2, 3), 5)))
    for one, said in zip(answers.primary, answers_content(answers)["differences"], strict=False):
        told = said["improvement"]
        assert told["probability"] == pytest.approx((1 + said["estimate"]) / 2)
        assert told["interval"] == pytest.approx([(1 + end) / 2 for end in said["interval"]])
        assert told["simultaneous"] == pytest.approx(one.improvement.interval(2))
        assert told["pairs_of_seeds"] == 16
    by_metric = {one["metric"]: one for one in answers_content(answers)["differences"]}
    caption = by_metric["caption/exact"]["improvement"]
    assert caption["probability"] is caption["interval"] is None
    assert 0 <= caption["over_seeds"] <= 1
    unknown = by_metric["text_to_image/variety/color"]
    assert unknown["improvement"] is None
