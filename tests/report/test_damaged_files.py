"""A damaged file of one run, or of a study, is named; the report has all the others."""

import json
import shutil

import pytest
from report_study import edit_json, write_study

from unify.answers.study_records import load_study
from unify.report.findings import findings
from unify.report.page import render, write_report
from unify.runs.stored_scores import write_scores

CONTENTS = {
    "empty": b"",
    "cut": None,
    "a list": b"[]",
    "a number": b"3",
    "bytes": b"\xff\x00\x80",
    "wrong types": b'{"state": 1, "arms": [], "rows": {"a": 1}, "model": 3, "parts": 1}',
}
OF_A_RUN = ("run.json", "config.yaml", "eval/scores.json", "eval/outcomes.npz", "journal.jsonl")
OF_A_RUN += ("eval/card.json", "eval/text_to_image.json", "eval/text_to_image.png")
SILENT = {  # nothing that a report had is lost, or it says so in the picture's place
    "eval/card.json", "eval/text_to_image.json", "eval/text_to_image.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study whose runs hold their scores."""
    folder = write_study(tmp_path_factory.mktemp("whole") / "study", steps=20)
    study = load_study(folder)
    for run in study.runs:
        own = [row for row in study.rows if row["arm"] == run.arm]
        write_scores(run.folder, "asked", True, own, {})
        (run.folder / "eval/card.json").write_text('{"parts": {}, "tasks": {}, "loss_weights": {}}')
    return folder


@pytest.fixture
def study(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "study")


def damage(path, kind):
    content = CONTENTS[kind]
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half if content is None else content and content + b"\n")


@pytest.mark.fault(40, times=len(CONTENTS))
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_damaged_file_of_one_run_costs_the_other_arm_nothing(study, name):
    shutil.rmtree(study.parent / "kept", ignore_errors=True)
    (damaged, other) = (run.folder for run in load_study(study).runs)
    kept = (damaged / name).read_bytes()
    for kind in CONTENTS:
        (damaged / name).write_bytes(kept)
        damage(damaged / name, kind)
        record = load_study(study)
        assert "transfusion" in {row["arm"] for row in record.rows}, kind
        text = render(record)
        assert other.name in text
        # half of a journal is a shorter one, and half of a YAML file may be one
        looks_whole = name in ("journal.jsonl", "config.yaml") and kind in ("empty", "cut")
        if name not in SILENT and not looks_whole:
            assert any(name.rpartition("/")[2] in reason for reason in record.refused), kind


@pytest.mark.fault(40)
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_damaged_results_json_is_made_up_for_by_the_runs(study, kind):
    before = load_study(study).rows
    damage(study / "results.json", kind)
    after = load_study(study)
    assert sorted(after.rows, key=str) == sorted(before, key=str)
    assert kind == "a list" or "results.json is damaged" in after.refused[0]


@pytest.mark.fault(40)
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_damaged_study_json_is_named_and_costs_other_studies_no_finding(study, kind):
    claim = {"paper": "P", "says": "it draws", "metric": "text_to_image/exact"}
    edit_json(study / "study.json", claims=[{**claim, "higher": "ar_vq", "lower": "transfusion"}])
    shutil.copytree(study, study.parent / "another")
    damage(study / "study.json", kind)
    with pytest.raises(ValueError, match=r"study/study\.json is damaged .*`unify study` of its"):
        load_study(study)
    text = findings(study.parent)
    assert "study/study.json is damaged" in text
    assert "it draws" in text


def test_the_page_names_the_file_and_the_remedy(study):
    run = load_study(study).runs[0].folder
    (run / "run.json").write_text("")
    page = write_report(study).read_text()
    assert f"{run / 'run.json'} is damaged (it is empty); remove it" in page
    assert json.loads((study / "answers.json").read_text())
