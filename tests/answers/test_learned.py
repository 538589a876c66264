"""An arm that was still learning gets no verdict against it: a rule that knows no test."""

import json
from types import SimpleNamespace

import pytest
from report_study import edit_json, write_study

from unify.answers.answers_json import answers_content
from unify.answers.learned import learning_of, learning_sentences
from unify.answers.score_lines import Cell, Line
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.report.page import render

METRIC = "text_to_image/exact"
RULE = {"gain": 0.05, "ratio": 0.5}


def learned(finals, ends=((0.5, 0.52),), better="higher", rule=RULE, steps=400, part=""):
    """What the rule says of one arm: final scores by seed, (half, end) of each seed or of all."""
    ends = list(ends) * (len(finals) if len(ends) == 1 else 1)
    rows = {
        seed: {"metric": METRIC, "value": value, "n": 100, "better": better}
        for seed, value in enumerate(finals)
    }
    runs = [
        SimpleNamespace(
            seed=seed,
            planned=steps,
            config={},
            curve=[{"step": 200, METRIC: half}, {"step": 400, METRIC: end}] if half else [],
        )
        for seed, (half, end) in enumerate(ends)
    ]
    study = SimpleNamespace(info={"learned": rule}, runs_of=lambda arm: runs, seeds=[*rows])
    return learning_of(study, Line(METRIC + part, {"a": Cell(rows)}), "a")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"finals": [0.5, 0.6]}, ""),
        ({"finals": [0.5, 0.6], "ends": [(0.5, 0.55)]}, ""),
        ({"finals": [0.5], "ends": [(0.3, 0.36)]}, "+0.060 from half to all of its steps"),
        ({"finals": [0.5, 0.6], "ends": [(0.3, 0.45), (0.5, 0.45)]}, ""),
        ({"finals": [0.5], "ends": [(0.6, 0.4)]}, ""),
        ({"finals": [0.3, 0.61]}, "replicates from 0.300 to 0.610"),
        ({"finals": [0.3, 0.6]}, ""),
        ({"finals": [0.0, 0.0]}, ""),
        ({"finals": [9.0, 5.0], "better": "lower"}, ""),
        ({"finals": [9.0, 4.0], "better": "lower"}, "replicates from 4.000 to 9.000"),
        (
            {"finals": [9.0, 5.0], "better": "lower", "ends": [(9.0, 8.0)]},
            "+1.000 better from half to all of its steps",
        ),
        ({"finals": [0.5, 0.6], "ends": [(0.5, 0.5), (None, None)]}, "no score at half"),
        ({"finals": [0.5], "ends": [(0.3, 0.36)], "rule": {"gain": 0.1, "ratio": 0.5}}, ""),
        ({"finals": [0.5], "ends": [(0.3, 0.31)], "steps": 600}, "no score at half"),
        ({"finals": [0.5], "part": "/heldout"}, ""),
    ],
)
def test_what_the_rule_says(given, why):
    found = learned(**given)
    assert found.why.startswith(why)
    assert bool(found.why) == bool(why)


def test_half_of_a_run_that_cooled_down_is_the_run_that_cooled_down_there():
    trunk = {"cooldown": {"start": 1, "trunk": {"name": "a,trunk", "steps": 300}}}
    row = {"metric": METRIC, "value": 0.5, "n": 100, "better": "higher"}
    points = {"a": (400, [(200, 0.1), (400, 0.5)]), "a,half": (200, [(200, 0.48)])}
    runs = [
        SimpleNamespace(
            arm=arm, seed=0, planned=steps, config=trunk,
            curve=[{"step": step, METRIC: value} for step, value in curve],
        )
        for arm, (steps, curve) in points.items()
    ]  # fmt: skip
    study = SimpleNamespace(info={"learned": RULE}, runs=runs, runs_of=lambda arm: runs[:1])
    line = Line(METRIC, {"a": Cell({0: row})})
    assert learning_of(study, line, "a").gain == pytest.approx(0.02)
    runs.pop()
    assert learning_of(study, line, "a").gain == pytest.approx(0.4), "on the way, at a high rate"


def test_without_the_rule_a_direction_or_scores_nothing_is_said():
    assert learned([0.1, 0.9], rule=None) is None
    assert learned([0.1, 0.9], better=None) is None
    assert learned([]) is None


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Eight seeds; ar_vq is better than transfusion, without a rule."""
    return write_study(tmp_path_factory.mktemp("runs") / "eight", seeds=tuple(range(8)), steps=20)


@pytest.fixture
def judged(eight):
    """judged(a=gain of ar_vq, ...): the first primary comparison under the rule, and its study."""
    journals = {path: path.read_text() for path in eight.glob("*/journal.jsonl")}

    def judge(**gains):
        for path, text in journals.items():
            gain = gains.get(path.parent.name.partition("-")[0])
            points = [] if gain is None else [(10, 0.5), (20, 0.5 + gain)]
            more = [json.dumps({"step": s, "kind": "curve", METRIC: v}) for s, v in points]
            path.write_text(text + "".join(f"{line}\n" for line in more))
        edit_json(eight / "study.json", learned=RULE, primary=[METRIC])
        answers = study_answers(load_study(eight))
        (one,) = answers.primary
        return one, answers

    yield judge
    for path, text in journals.items():
        path.write_text(text)


def test_arms_that_have_learned_are_told_apart(judged):
    one, answers = judged(ar_vq=0.01, transfusion=0.02)
    assert (one.first, one.words, one.notes) == ("ar_vq", "higher", [])
    assert [entry["learned"] for entry in answers_content(answers)["learning"]] == [True, True]


def test_no_verdict_against_an_arm_that_was_still_learning(judged):
    one, answers = judged(ar_vq=0.01, transfusion=0.2)
    assert one.verdict == ""
    assert one.words == "no verdict against transfusion, which has not learned yet"
    assert one.notes == ["transfusion has not learned yet: +0.200 from half to all of its steps"]
    assert one.adjusted is not None, "its test counts in the correction of the others"
    page = render(answers.study)
    assert "Not learned yet: transfusion." in page
    assert "Scores over training" in page
    entries = answers_content(answers)["learning"]
    assert [(e["arm"], e["learned"]) for e in entries] == [("ar_vq", True), ("transfusion", False)]
    assert entries[1]["gain"] == pytest.approx(0.2)
    curves = answers_content(answers)["score_curves"]
    assert curves[0]["points"][0] == {"step": 10, "scores": {METRIC: 0.5}}
    assert len(curves) == 16


def test_a_verdict_in_its_favour_stands(judged):
    one, _ = judged(ar_vq=0.2, transfusion=0.01)
    assert one.verdict == "higher"
    assert one.notes == ["ar_vq has not learned yet: +0.200 from half to all of its steps"]


def test_two_that_have_not_learned_are_not_told_apart(judged):
    one, answers = judged(ar_vq=0.2, transfusion=0.2)
    assert one.words == "no verdict: neither ar_vq nor transfusion has learned yet"
    assert learning_sentences(answers.study, answers.lines)[0].startswith(
        f"{METRIC}: not learned yet, so that no verdict is given against it: ar_vq (+0.200"
    )


def test_what_was_not_recorded_speaks_for_no_arm(judged):
    one, _ = judged(ar_vq=0.01)
    assert one.verdict == ""
    assert "no score at half of its steps" in one.notes[0]


def test_a_control_that_is_there_to_lose_is_tried_all_the_same(judged, eight):
    control = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    edit_json(eight / "study.json", controls=[control])
    judged_study = load_study(eight)
    judged_study.info["learned"], judged_study.info["primary"] = RULE, [METRIC]
    (tried,) = study_answers(judged_study).controls
    edit_json(eight / "study.json", controls=[])
    assert tried.came_out is True
    assert tried.one.unlearned == {}
