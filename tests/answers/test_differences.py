"""The report's table of differences: paired by seed and prompt, corrected, put into words."""

import json

import numpy as np
import pytest
from report_study import scores, write_results, write_study

from unify.analysis.multiple_tests import holm
from unify.analysis.paired_differences import crossed, paired
from unify.answers.differences import comparisons, uncorrected_note
from unify.answers.score_lines import score_lines
from unify.answers.study_records import load_study
from unify.report.page import render


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "eight", seeds=tuple(range(8)), steps=20)


def result(folder):
    study = load_study(folder)
    return study, *comparisons(study, score_lines(study.rows))


def test_primary_outcomes_are_paired_by_seed_and_prompt_and_corrected_together(eight):
    study, primary, _ = result(eight)
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
    study, primary, _ = result(folder)
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
    study, primary, _ = result(folder)
    assert [c.difference.seeds for c in primary] == [3, 2]
    render(study)


def test_one_model_under_all_seeds_gets_no_verdict(tmp_path):
    """An arm that answers with a frozen part which all its seeds share is one sample of it."""
    folder = write_study(tmp_path / "frozen", seeds=(0, 1, 2), steps=20)
    rows = json.loads((folder / "results.json").read_text())
    for row in rows:
        if (row["arm"], row["metric"]) == ("ar_vq", "vqa/accuracy"):
            row["value"] = 0.96
        if (row["arm"], row["metric"]) == ("ar_vq", "text_to_image/exact"):
            row["value"] += row["seed"] / 512  # otherwise the arms differ by the same in every seed
    write_results(folder, rows)
    for path in folder.glob("*/eval/outcomes.npz"):
        path.unlink()
    for path in folder.glob("ar_vq-*/config.yaml"):
        path.write_text(path.read_text() + "data: {tasks: {text_to_image: 8}}\n")
    drawing, answering = result(folder)[1]
    assert drawing.words == "higher"
    assert answering.words == "one model of ar_vq under all seeds"
    assert answering.adjusted is None
    assert drawing.adjusted == drawing.difference.p, "corrected for what is tried alone"
    assert "ar_vq answers with one model under all seeds: no verdict" in render(load_study(folder))
    for path in folder.glob("ar_vq-*/config.yaml"):
        path.write_text(
            path.read_text().replace("{text_to_image: 8}", "{text_to_image: 8, vqa: 8}")
        )
    assert result(folder)[1][1].words == "higher", "equal by chance: it was trained on the task"


def test_intervals_that_leave_out_zero_without_a_verdict_are_counted(eight):
    _, primary, _ = result(eight)
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
    _, primary, _ = result(folder)
    assert primary[0].difference.seeds == 2


def test_a_baseline_is_what_all_others_are_compared_with(tmp_path):
    folder = write_study(tmp_path / "base", seeds=(0, 1), steps=20)
    info = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(info | {"baseline": "ar_vq"}))
    _, primary, others = result(folder)
    assert {(c.first, c.second) for c in [*primary, *others]} == {("transfusion", "ar_vq")}


def test_ceilings_speed_and_references_are_not_compared(eight):
    _, primary, others = result(eight)
    tasks = {c.line.metric.split("/")[0] for c in [*primary, *others]}
    assert tasks.isdisjoint({"tokenizer", "generate"})
    assert not any(c.line.reference for c in others)
