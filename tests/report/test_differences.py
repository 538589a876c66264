"""The report's table of differences: paired by seed and prompt, corrected, put into words."""

import json

import numpy as np
import pytest
from report_study import scores, write_results, write_study

from unify.analysis.paired_differences import crossed, holm, paired
from unify.answers import claims, controls
from unify.answers.differences import Comparison, comparisons, uncorrected_note
from unify.answers.score_lines import Cell, Line, score_lines
from unify.answers.study_records import load_study
from unify.evaluation.score_run import _packed
from unify.metrics.metric import average, proportion
from unify.report.findings import findings
from unify.report.page import render
from unify.report.table_files import markdown


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "eight", seeds=tuple(range(8)), steps=20)


def found(folder):
    study = load_study(folder)
    return study, *comparisons(study, score_lines(study.rows))


def test_outcomes_are_kept_trial_by_trial(tmp_path):
    kept = [proportion("a/b", [True, False, True]), average("c", [0.5, 2.0])]
    (tmp_path / "outcomes.npz").write_bytes(_packed(kept))
    with np.load(tmp_path / "outcomes.npz") as stored:
        assert stored["a/b"].tolist() == [1, 0, 1]
        assert stored["c"].tolist() == [0.5, 2]
    assert "outcomes" not in kept[0].row()


def test_primary_outcomes_are_paired_by_seed_and_prompt_and_corrected_together(eight):
    study, primary, _ = found(eight)
    assert [c.line.metric for c in primary] == ["text_to_image/exact", "vqa/accuracy"]
    runs = {(run.arm, run.seed): run.outcomes for run in study.runs}
    by_hand = [
        crossed(*(np.stack([runs[arm, s][metric] for s in range(8)]) for arm in study.arms))
        for metric in ("text_to_image/exact", "vqa/accuracy")
    ]
    assert [c.difference.mean for c in primary] == [d.mean for d in by_hand]
    assert [c.adjusted for c in primary] == holm([d.p for d in by_hand])
    assert primary[0].words == "higher"
    assert primary[1].words == "not distinguishable at this budget"


def test_the_first_paragraph_says_which_arm_is_higher_and_what_cannot_be_told(eight):
    page = render(load_study(eight))
    assert "text_to_image/exact: ar_vq is higher than transfusion by 0.1" in page
    assert "vqa/accuracy: no pair of arms is distinguishable at this budget." in page
    assert "Exploratory" not in page


def test_without_outcomes_seeds_alone_are_compared(eight, tmp_path):
    folder = write_study(tmp_path / "three", seeds=(0, 1, 2), steps=20)
    for path in folder.glob("*/eval/outcomes.npz"):
        path.write_bytes(b"damaged")
    study, primary, _ = found(folder)
    line = primary[0].line
    a, b = ([line.cells[arm].rows[s]["value"] for s in range(3)] for arm in study.arms)
    assert primary[0].difference == paired(a, b)
    assert "Exploratory: 3 seeds per arm find large differences only." in render(study)


def test_a_seed_without_a_finite_score_is_left_out(tmp_path):
    folder = write_study(tmp_path / "nan", seeds=(0, 1, 2), steps=20)
    rows = json.loads((folder / "results.json").read_text())
    for row in rows:
        if (row["metric"], row["seed"]) == ("vqa/accuracy", 1):
            row["value"] = float("nan")
    write_results(folder, rows)
    study, primary, _ = found(folder)
    assert [c.difference.seeds for c in primary] == [3, 2]
    render(study)


def test_one_model_under_all_seeds_gets_no_verdict(tmp_path):
    """An arm that answers with a frozen part which all its seeds share is one sample of it."""
    folder = write_study(tmp_path / "frozen", seeds=(0, 1, 2), steps=20)
    rows = json.loads((folder / "results.json").read_text())
    for row in rows:
        if (row["arm"], row["metric"]) == ("ar_vq", "vqa/accuracy"):
            row["value"] = 0.99
    write_results(folder, rows)
    for path in folder.glob("*/eval/outcomes.npz"):
        path.unlink()
    for path in folder.glob("ar_vq-*/config.yaml"):
        path.write_text(path.read_text() + "data: {tasks: {text_to_image: 8}}\n")
    drawing, answering = found(folder)[1]
    assert drawing.words == "higher"
    assert answering.words == "one model of ar_vq under all seeds"
    assert answering.adjusted is None
    assert drawing.adjusted == drawing.difference.p, "corrected for what is tried alone"
    assert "ar_vq answers with one model under all seeds: no verdict" in render(load_study(folder))
    for path in folder.glob("ar_vq-*/config.yaml"):
        path.write_text(
            path.read_text().replace("{text_to_image: 8}", "{text_to_image: 8, vqa: 8}")
        )
    assert found(folder)[1][1].words == "higher", "equal by chance: it was trained on the task"


def test_intervals_that_leave_out_zero_without_a_verdict_are_counted(eight):
    _, primary, _ = found(eight)
    clear = primary[0]
    assert clear.words == "higher"
    clear.adjusted = 1.0  # as in a table with many rows
    assert uncorrected_note(primary) == " (the uncorrected interval of 1 of them leaves out 0)"
    assert uncorrected_note(primary[1:]) == ""


def test_one_seed_gets_no_table(tmp_path):
    folder = write_study(tmp_path / "one", steps=20)
    assert "nothing is known of how seeds differ" in render(load_study(folder))


def test_only_seeds_that_both_arms_have_are_compared(tmp_path):
    folder = write_study(tmp_path / "gap", seeds=(0, 1, 2), steps=20)
    rows = [r for arm in ("ar_vq", "transfusion") for s in range(3) for r in scores(arm, s)]
    write_results(folder, [r for r in rows if (r["arm"], r["seed"]) != ("ar_vq", 1)])
    _, primary, _ = found(folder)
    assert primary[0].difference.seeds == 2


def test_a_baseline_is_what_all_others_are_compared_with(tmp_path):
    folder = write_study(tmp_path / "base", seeds=(0, 1), steps=20)
    info = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(info | {"baseline": "ar_vq"}))
    _, primary, others = found(folder)
    assert {(c.first, c.second) for c in [*primary, *others]} == {("transfusion", "ar_vq")}


def test_ceilings_speed_and_references_are_not_compared(eight):
    _, primary, others = found(eight)
    tasks = {c.line.metric.split("/")[0] for c in [*primary, *others]}
    assert tasks.isdisjoint({"tokenizer", "generate"})
    assert not any(c.line.reference for c in others)


def test_claims_get_a_verdict_each(eight):
    info = json.loads((eight / "study.json").read_text())
    claim = {"paper": "A et al. <b>", "says": "codes draw better", "higher": "ar_vq",
             "lower": "transfusion", "metric": "text_to_image/exact"}  # fmt: skip
    turned = {**claim, "higher": "transfusion", "lower": "ar_vq"}
    info["claims"] = [
        claim,
        turned,
        {**claim, "metric": "vqa/accuracy"},
        {**claim, "metric": "nothing"},
    ]
    (eight / "study.json").write_text(json.dumps(info))
    study = load_study(eight)
    found = claims.claims(study, score_lines(study.rows))
    assert [claim.judgement for claim in found] == [
        "agrees", "disagrees", "not distinguishable at this budget", "not measured",
    ]  # fmt: skip
    page = render(study)
    table = findings(eight.parent)
    assert table.count("\n| A et al") == 4
    assert "| agrees |" in table
    assert "| not measured |" in table
    assert "8 seeds per arm" in table
    assert "A et al. &lt;b&gt;: codes draw better" in page
    assert page.count("agrees</b>") == 2


@pytest.mark.parametrize(
    ("value", "n", "edge"),
    [(0.99, 100, "ceiling"), (0.01, 100, "floor"), (0.5, 100, ""), (0.0123, 100, "")],
    ids=["ceiling", "floor", "between", "no share"],
)
def test_arms_at_the_floor_or_the_ceiling_cannot_test_a_claim(value, n, edge):
    rows = {s: {"value": value, "seed": s, "n": n} for s in range(3)}
    line = Line("x/exact", {arm: Cell(rows) for arm in ("a", "b")})
    one = Comparison(line, "a", "b", paired([value] * 3, [value] * 3), adjusted=1.0)
    said = claims.TriedClaim("paper", "says", "x/exact", "a", "b", one).judgement
    if edge:
        assert said == f"not testable here: both at the {edge}"
    else:
        assert said == "not distinguishable at this budget"


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
    (seeing,) = [s for s in said(study) if "text_to_image/exact" in s]
    assert seeing.endswith("not shown here, in a study that did tell transfusion from ar_vq.")
    study, held = with_controls(eight, {**apart, "arm": "ar_vq", "than": "transfusion"})
    assert held[0].outcome == "better, p < 0.001"
    assert "the other way round" in said(study)[0]
    study, held = with_controls(eight, {**apart, "expect": "same"})
    assert [h.came_out for h in held] == [False, True]
    assert "seeds alone make such a difference" in said(study)[0]


def test_a_control_is_tried_on_the_metric_that_it_names(eight):
    apart = {"arm": "transfusion", "expect": "worse", "than": "ar_vq", "metric": "edit/exact"}
    study, (held,) = with_controls(eight, apart)
    assert (held.came_out, held.outcome) == (None, "not measured"), "of one of the two"
    study, (held,) = with_controls(eight, {**apart, "metric": "caption/exakt"})
    assert said(study) == ["A control has no score (caption/exakt, transfusion: worse than ar_vq)."]
    assert "not measured" in markdown(study, score_lines(study.rows), "")
    assert "not measured" in render(study)


@pytest.mark.parametrize(("metric", "found"), [("x/perplexity", "worse"), ("x/exact", "better")])
def test_more_is_worse_where_lower_is_better(metric, found):
    rows = [{s: {"value": v + s, "seed": s, "n": 9} for s in range(3)} for v in (5.0, 1.0)]
    line = Line(metric, {arm: Cell(its) for arm, its in zip("ab", rows, strict=True)})
    one = Comparison(line, "a", "b", paired([5.0, 6.1, 7.0], [1.0, 2.0, 3.0]))
    one.adjusted = one.p
    held = controls.TriedControl({"arm": "a", "expect": "worse", "than": "b"}, metric, one)
    assert held.outcome.startswith(found)
    assert held.came_out == (found == "worse")


def with_controls(folder, *asked):
    path = folder / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"controls": asked}))
    study = load_study(folder)
    return study, controls.controls(study, score_lines(study.rows))


def said(study):
    return controls.control_sentences(study, score_lines(study.rows))


def test_one_seed_says_nothing_of_a_control(tmp_path):
    folder = write_study(tmp_path / "one", steps=20)
    worse = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    study, held = with_controls(folder, worse)
    assert [h.came_out for h in held] == [None, None]
    assert said(study) == []
    assert "one seed cannot tell" in render(study)
