"""Controls: they come out, or the report says what it means that they did not."""

import json

import pytest
from report_study import write_study

from unify.analysis.paired_differences import paired
from unify.answers import controls
from unify.answers.differences import Comparison
from unify.answers.score_lines import Cell, Line, score_lines
from unify.answers.study_records import load_study
from unify.report.page import render
from unify.report.table_files import markdown


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
    study, _ = with_controls(eight, apart, {**apart, "arm": "ar_vq"})
    (seeing,) = [s for s in sentences(study) if "text_to_image/exact" in s]
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
    assert (held.came_out, held.outcome) == (None, "not measured"), "of one of the two"
    study, (held,) = with_controls(eight, {**apart, "metric": "caption/exakt"})
    assert sentences(study) == [
        "A control has no score (caption/exakt, transfusion: worse than ar_vq)."
    ]
    assert "not measured" in markdown(study, score_lines(study.rows), "")
    assert "not measured" in render(study)


@pytest.mark.parametrize(
    ("better", "result"), [("lower", "worse"), ("higher", "better"), (None, "different")]
)
def test_more_is_worse_where_lower_is_better(better, result):
    metric, stated = "x/score", {"n": 9, "better": better}
    rows = [{s: {"value": v + s, "seed": s, **stated} for s in range(3)} for v in (5.0, 1.0)]
    line = Line(metric, {arm: Cell(own) for arm, own in zip("ab", rows, strict=True)})
    one = Comparison(line, "a", "b", paired([5.0, 6.1, 7.0], [1.0, 2.0, 3.0]))
    one.adjusted = one.p
    held = controls.TriedControl({"arm": "a", "expect": "worse", "than": "b"}, metric, one)
    assert held.outcome.startswith(result)
    assert held.came_out == (result == "worse")


def with_controls(folder, *asked):
    path = folder / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"controls": asked}))
    study = load_study(folder)
    return study, controls.controls(study, score_lines(study.rows))


def sentences(study):
    return controls.control_sentences(study, score_lines(study.rows))


def test_one_seed_says_nothing_of_a_control(tmp_path):
    folder = write_study(tmp_path / "one", steps=20)
    worse = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    study, held = with_controls(folder, worse)
    assert [h.came_out for h in held] == [None, None]
    assert sentences(study) == []
    assert "one seed cannot tell" in render(study)
