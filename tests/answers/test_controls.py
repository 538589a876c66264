"""Controls: they come out, or the report says what it means that they did not."""

import json

import numpy as np
import pytest
from report_study import write_study

from unify.analysis.paired_differences import paired
from unify.answers import controls
from unify.answers.comparison import Comparison
from unify.answers.score_lines import Cell, Line, score_lines
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.report.page import render
from unify.report.table_files import markdown
from unify.schema.study import Control


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "eight", seeds=tuple(range(8)), steps=20)


def test_controls_come_out_or_the_page_says_that_the_study_is_blind(eight):
    apart = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    study, held = with_controls(eight, apart)
    assert study.pairs == [], "a control is compared with no other arm"
    assert [(h.metric, h.came_out) for h in held] == [
        ("text_to_image/exact", True),
        ("vqa/accuracy", False),
    ]
    assert held[0].outcome == "worse, p < 0.001"
    assert held[1].outcome.startswith("no difference found, p 0.")
    page = render(study)
    assert "did not come out (vqa/accuracy, transfusion: worse than ar_vq)" in page
    assert "could not tell arms apart" in page


def test_what_a_control_that_did_not_come_out_means(eight):
    apart = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    _, (told, *_) = with_controls(eight, apart)
    untold = made("again", {"expect": "worse", "than": "ar_vq"}, [0.1, -0.1, 0.12, -0.09])
    (seeing,) = controls.control_sentences([told, untold])
    assert seeing.endswith("not shown here, in a study that did tell transfusion from ar_vq.")
    study, held = with_controls(eight, {**apart, "arm": "ar_vq", "than": "transfusion"})
    assert held[0].outcome == "better, p < 0.001"
    assert "the other way round" in sentences(study)[0]
    study, held = with_controls(eight, {**apart, "expect": "same"})
    assert [h.came_out for h in held] == [False, True]
    assert "seeds alone make such a difference" in sentences(study)[0]


def test_a_control_is_tried_on_the_metric_that_it_names(eight):
    apart = {"arm": "transfusion", "expect": "worse", "than": "ar_vq", "metric": "edit/exact"}
    study, (held,) = with_controls(eight, apart)
    assert held.came_out is None
    assert held.outcome == "not measured: ar_vq has no score", "of one of the two"
    study, (held,) = with_controls(eight, {**apart, "metric": "caption/exakt"})
    assert sentences(study) == [
        "A control was not tried (caption/exakt, transfusion: worse than ar_vq): not measured: "
        "transfusion and ar_vq have no score."
    ]
    assert "not measured" in markdown(study_answers(study), "")
    assert "not measured" in render(study)


@pytest.mark.parametrize(
    ("better", "result"), [("lower", "worse"), ("higher", "better"), (None, "higher")]
)
def test_more_is_worse_where_lower_is_better(better, result):
    metric, stated = "x/score", {"n": 9, "better": better}
    rows = [{s: {"value": v + s, "seed": s, **stated} for s in range(3)} for v in (5.0, 1.0)]
    line = Line(metric, {arm: Cell(own) for arm, own in zip("ab", rows, strict=True)})
    one = Comparison(line, "a", "b", paired([5.0, 6.1, 7.0], [1.0, 2.0, 3.0]))
    one.adjusted = one.p
    held = controls.TriedControl({"arm": "a", "expect": "worse", "than": "b"}, metric, one)
    assert held.outcome.startswith(result)
    assert held.came_out is {"worse": True, "better": False, "higher": None}[result]


def made(arm, control, differences, metric="text_to_image/exact"):
    """A control tried on differences of seeds, both arms near one half."""
    than = [0.5] * len(differences)
    a = [0.5 + d for d in differences]
    cells = {
        name: Cell({s: {"value": v, "n": None} for s, v in enumerate(values)})
        for name, values in ((arm, a), (control["than"], than))
    }
    one = Comparison(Line(metric, cells), arm, control["than"], paired(a, than))
    one.adjusted = one.p
    return controls.TriedControl({"arm": arm, **control}, metric, one)


def test_a_control_of_the_same_arm_is_a_yardstick_and_never_equal():
    held = made("again", {"expect": "same", "than": "a"}, [0.05, -0.05, 0.06, -0.04])
    reach = max(map(abs, held.one.interval))
    assert held.came_out
    assert held.is_yardstick
    assert held.outcome.startswith(
        f"no difference found: two draws of one arm differ by {reach:.3f} at most"
    )
    assert "equal" not in held.outcome


@pytest.mark.parametrize(
    ("differences", "margin", "came_out", "words"),
    [
        ([0.01, -0.01, 0.02, -0.02], 0.05, True, "within the margin of 0.050: 90% interval [−0.0"),
        ([0.05, -0.05, 0.06, -0.04], 0.05, None, "not shown to be within the margin"),
        ([0.30, 0.31, 0.29, 0.30], 0.05, False, "beyond the margin of 0.050: 90% interval [+0.29"),
        ([-0.30, -0.31, -0.29, -0.3], 0.05, False, "beyond the margin"),
        ([0.03, 0.05, 0.035, 0.03], 0.04, None, "not shown to be within the margin"),  # p < 0.05
        ([0.021, 0.02, 0.019, 0.02], 0.05, True, "within the margin"),
        ([0.02, 0.02, 0.02, 0.02], 0.05, None, "every seed gave exactly the same"),
        ([0.01, -0.01], 0.05, None, "two seeds cannot tell"),
    ],
)
def test_equivalence_is_said_only_by_a_margin(differences, margin, came_out, words):
    held = made("again", {"expect": "same", "than": "a", "margin": margin}, differences)
    assert held.came_out is came_out
    assert words in held.outcome
    if came_out is not None:
        low, high = held.one.difference.interval_at(0.9)
        assert held.within_margin == (-margin < low <= high < margin)


def test_arms_that_are_within_the_margin_seldom_fail_it():
    """A true difference of three quarters of the margin, which every study tells from 0."""
    generator, failed = np.random.default_rng(0), 0
    for _ in range(200):
        d = 0.03 + 0.015 * generator.standard_normal(8)
        held = made("again", {"expect": "same", "than": "a", "margin": 0.04}, d.tolist())
        failed += held.came_out is False
    assert failed / 200 <= 0.05


def test_without_a_known_direction_no_arm_is_worse(monkeypatch):
    monkeypatch.setattr(Line, "better", property(lambda line: None))
    far = [0.30, 0.31, 0.29, 0.32]
    assert made("again", {"expect": "worse", "than": "a"}, far).came_out is None
    assert made("again", {"expect": "worse", "than": "a"}, far).outcome.startswith("higher, p ")
    assert made("again", {"expect": "same", "than": "a"}, far).came_out is False


def test_two_one_sided_tests_are_wrong_5_percent_of_the_time():
    """Arms that differ by exactly the margin are called equal in 5% at most."""
    generator, equal = np.random.default_rng(0), 0
    for _ in range(400):
        d = 0.1 + 0.02 * generator.standard_normal(5)
        control = {"expect": "same", "than": "a", "margin": 0.1}
        equal += made("again", control, d.tolist()).came_out is True
    assert equal / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"expect": "worse", "margin": 0.1}, "again has a margin"),
        ({"margin": -1}, "again has the margin -1"),
    ],
)
def test_a_margin_that_says_nothing_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        Control(**{"arm": "again", "expect": "same", "than": "a", **change})


def with_controls(folder, *asked):
    path = folder / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"controls": asked}))
    study = load_study(folder)
    return study, controls.controls(study, score_lines(study.rows))


def sentences(study):
    return controls.control_sentences(controls.controls(study, score_lines(study.rows)))


def test_one_seed_says_nothing_of_a_control(tmp_path):
    folder = write_study(tmp_path / "one", steps=20)
    worse = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    study, held = with_controls(folder, worse)
    assert [h.came_out for h in held] == [None, None]
    assert sentences(study) == []
    assert "one seed cannot tell" in render(study)
