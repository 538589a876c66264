"""The report's table of differences: paired by seed and prompt, corrected, put into words."""

import json

import numpy as np
import pytest
from report_study import scores, write_results, write_study

from unify.evaluate import _packed
from unify.metrics.metric import average, proportion
from unify.report import claims, differences
from unify.report.differences import Comparison
from unify.report.findings import findings
from unify.report.load import load_study
from unify.report.page import render
from unify.report.tables import Cell, Line, lines
from unify.statistics import crossed, holm, paired


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "eight", seeds=tuple(range(8)), steps=20)


def found(folder):
    study = load_study(folder)
    return study, *differences.comparisons(study, lines(study.rows))


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
    drawing, answering = found(folder)[1]
    assert drawing.words == "higher"
    assert answering.words == "one model of ar_vq under all seeds"
    assert answering.adjusted is None
    assert drawing.adjusted == drawing.difference.p, "corrected for what is tried alone"
    assert "ar_vq answers with one model under all seeds: no verdict" in render(load_study(folder))
    for path in folder.glob("ar_vq-*/config.yaml"):
        path.write_text(path.read_text() + "data: {tasks: {vqa: 8}}\n")
    assert found(folder)[1][1].words == "higher", "equal by chance: it was trained on the task"


def test_intervals_that_leave_out_zero_without_a_verdict_are_counted(eight):
    _, primary, _ = found(eight)
    clear = primary[0]
    assert clear.words == "higher"
    clear.adjusted = 1.0  # as in a table with many rows
    assert differences._alone(primary) == " (of 1, the interval alone leaves out 0)"
    assert differences._alone(primary[1:]) == ""


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
    found = claims.claims(study, lines(study.rows))
    assert [claims.judgement(one) for _, one in found] == [
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
    said = claims.judgement(one)
    if edge:
        assert said == f"not testable here: both at the {edge}"
    else:
        assert said == "not distinguishable at this budget"


def test_controls_come_out_or_the_page_says_that_the_study_is_blind(eight):
    info = json.loads((eight / "study.json").read_text())
    apart = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    (eight / "study.json").write_text(json.dumps(info | {"controls": [apart]}))
    study = load_study(eight)
    assert study.pairs == [], "a control is compared with no other arm"
    came_out = [(c.line.metric, good) for _, c, good in claims.controls(study, lines(study.rows))]
    assert came_out == [("text_to_image/exact", True), ("vqa/accuracy", False)]
    assert "(vqa/accuracy: transfusion should be worse than ar_vq)" in render(study)
    blind = claims.failed_controls(study, lines(study.rows))
    assert "could not tell arms apart" in blind[0]
    unlike = {"arm": "ar_vq", "expect": "worse", "than": "ar_vq"}
    (eight / "study.json").write_text(json.dumps(info | {"controls": [apart, unlike]}))
    study = load_study(eight)
    failed = claims.failed_controls(study, lines(study.rows))
    (seeing,) = [said for said in failed if "text_to_image/exact" in said]
    assert "was not shown to be, in a study that did tell transfusion from ar_vq" in seeing
    elsewhere = {**apart, "metric": "caption/exact"}
    (eight / "study.json").write_text(json.dumps(info | {"controls": [elsewhere]}))
    study = load_study(eight)
    named = [c.line.metric for _, c, _ in claims.controls(study, lines(study.rows))]
    assert set(named) <= {"caption/exact"}, "a control is tried on the metric that it names"
    elsewhere["metric"] = "caption/exakt"
    (eight / "study.json").write_text(json.dumps(info | {"controls": [elsewhere]}))
    study = load_study(eight)
    (said,) = claims.failed_controls(study, lines(study.rows))
    assert "never measured: caption/exakt" in said
    same = {**apart, "expect": "same"}
    (eight / "study.json").write_text(json.dumps(info | {"controls": [same]}))
    study = load_study(eight)
    found = [good for _, _, good in claims.controls(study, lines(study.rows))]
    assert found == [False, True]


def test_one_seed_says_nothing_of_a_control(tmp_path):
    folder = write_study(tmp_path / "one", steps=20)
    info = json.loads((folder / "study.json").read_text())
    worse = {"arm": "transfusion", "expect": "worse", "than": "ar_vq"}
    (folder / "study.json").write_text(json.dumps(info | {"controls": [worse]}))
    study = load_study(folder)
    found = lines(study.rows)
    assert [good for _, _, good in claims.controls(study, found)] == [None, None]
    assert claims.failed_controls(study, found) == []
    assert "one seed cannot tell" in render(study)
