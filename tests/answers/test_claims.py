"""Claims: each gets a verdict, where the study can test it."""

import json
from pathlib import Path

import pytest
from report_study import write_study

from unify.analysis.paired_differences import paired
from unify.answers import claims
from unify.answers.comparison import Comparison
from unify.answers.score_lines import Cell, Line, score_lines
from unify.answers.study_records import StudyRecord, load_study
from unify.report.findings import findings
from unify.report.page import render


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "eight", seeds=tuple(range(8)), steps=20)


def test_claims_get_a_verdict_each(eight):
    info = json.loads((eight / "study.json").read_text())
    claim = {"paper": "A et al. <b>", "says": "codes draw better", "better": "ar_vq",
             "worse": "transfusion", "metric": "text_to_image/exact"}  # fmt: skip
    turned = {**claim, "better": "transfusion", "worse": "ar_vq"}
    info["claims"] = [
        claim,
        turned,
        {**claim, "metric": "vqa/accuracy"},
        {**claim, "metric": "nothing"},
    ]
    (eight / "study.json").write_text(json.dumps(info))
    study = load_study(eight)
    result = claims.claims(study, score_lines(study.rows), [])
    assert [claim.judgement for claim in result] == [
        "agrees", "disagrees", "not distinguishable at this budget",
        "not measured: ar_vq and transfusion have no score",
    ]  # fmt: skip
    page = render(study)
    table = findings(eight.parent)
    assert table.count("\n| A et al") == 4
    assert "| agrees |" in table
    assert "| not measured: ar_vq and transfusion have no score |" in table
    assert "8 seeds per arm" in table
    assert "A et al. &lt;b&gt;: codes draw better" in page
    assert page.count("agrees</b>") == 2


def of_scores(better, first=(5.0, 6.1, 7.0), second=(1.0, 2.0, 3.0), metric="x/error"):
    """A line of two arms, `a` with the higher scores."""
    return Line(
        metric,
        {
            arm: Cell({s: {"value": v, "seed": s, "n": 9, "better": better} for s, v in rows})
            for arm, rows in (("a", enumerate(first)), ("b", enumerate(second)))
        },
    )


def judged(line, first, second):
    values = [line.cells[arm].values for arm in (first, second)]
    one = Comparison(line, first, second, paired(*values), adjusted=0.001)
    return claims.TriedClaim("paper", "says", line.metric, first, second, one).judgement


@pytest.mark.parametrize(("better", "arm"), [("higher", "a"), ("lower", "b")])
def test_a_claim_agrees_in_the_direction_that_its_metric_states(better, arm):
    line, other = of_scores(better), {"a": "b", "b": "a"}[arm]
    assert judged(line, arm, other) == "agrees"
    assert judged(line, other, arm) == "disagrees"


def test_a_metric_that_states_no_direction_makes_no_arm_better():
    assert judged(of_scores(None), "a", "b") == (
        "not testable: x/error states no direction (`better` of its score)"
    )


@pytest.mark.parametrize(("metric", "better"), [("x/exact", "ar_vq"), ("x/abs_error", "flow")])
def test_an_older_claim_names_its_arms_by_their_scores(metric, better):
    rows = [
        {"arm": arm, "seed": s, "metric": metric, "value": v + v * s / 100, "n": 7, "passport": {}}
        for arm, v in (("ar_vq", 0.9), ("flow", 0.2))
        for s in range(3)
    ]
    older = {"paper": "p", "says": "s", "metric": metric, "higher": "ar_vq", "lower": "flow"}
    study = StudyRecord(Path(), {"arms": ["ar_vq", "flow"], "claims": [older]}, rows, [])
    (claim,) = claims.claims(study, score_lines(rows), [])
    assert (claim.better, claim.judgement) == (better, "agrees")


@pytest.mark.parametrize(
    ("value", "n", "edge"),
    [(0.99, 100, "ceiling"), (0.01, 100, "floor"), (0.5, 100, ""), (0.0123, 100, "")],
    ids=["ceiling", "floor", "between", "no share"],
)
def test_arms_at_the_floor_or_the_ceiling_cannot_test_a_claim(value, n, edge):
    rows = {s: {"value": value, "seed": s, "n": n} for s in range(3)}
    line = Line("x/exact", {arm: Cell(rows) for arm in ("a", "b")})
    for scores, adjusted, without_edge in (
        ([value, value + 0.001, value - 0.001], 1.0, "not distinguishable at this budget"),
        ([value + 0.01, value + 0.011, value + 0.009], 0.001, "agrees"),
        ([value] * 3, 1.0, "no verdict: every seed gave exactly the same difference"),
    ):
        one = Comparison(line, "a", "b", paired(scores, [value] * 3), adjusted=adjusted)
        printed = claims.TriedClaim("paper", "says", "x/exact", "a", "b", one).judgement
        assert printed == (f"not testable here: both at the {edge}" if edge else without_edge)
