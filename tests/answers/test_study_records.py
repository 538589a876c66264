"""Records of a study, read from a folder that may lack anything."""

import json
import re
import shutil

import pytest
from report_study import edit_json, write_results, write_study

from unify.answers.study_records import load_study
from unify.report.findings import findings
from unify.report.page import write_report
from unify.runs.stored_scores import content_hash, write_scores
from unify.runs.study_files import has_value


def test_runs_of_earlier_settings_are_not_reported(tmp_path):
    folder = write_study(tmp_path / "changed", seeds=(0, 1), steps=20)
    study = load_study(folder)
    old = study.runs[0].folder
    new = old.with_name(old.name[:-4] + "0000")
    shutil.copytree(old, new)
    edit_json(folder / "study.json", runs=[r.folder.name for r in study.runs[1:]] + [new.name])
    assert [r.folder for r in load_study(folder).runs] == [new, *(r.folder for r in study.runs[1:])]
    edit_json(folder / "study.json", runs=[r.folder.name for r in study.runs])
    assert [r.folder for r in load_study(folder).runs] == [r.folder for r in study.runs]


def test_without_results_the_scores_of_the_runs_are_shown(tmp_path):
    folder = write_study(tmp_path / "cut", steps=20)
    study = load_study(folder)
    (folder / "results.json").unlink()
    for run in study.runs:
        own = [row for row in study.rows if row["arm"] == run.arm]
        write_scores(run.folder, "asked", True, own, {})
    shown = load_study(folder).rows
    assert [row["value"] for row in shown] == [
        row["value"] if has_value(row) else None for row in study.rows
    ]


def test_a_journal_is_read_up_to_the_record_that_is_damaged(tmp_path):
    folder = write_study(tmp_path / "torn", steps=20)
    path = next(folder.glob("ar_vq-*")) / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"\xff not a record\n", *lines[4:]]))
    (damaged, whole) = load_study(folder).runs
    assert [record["step"] for record in damaged.train] == [5, 10]
    assert [record["step"] for record in whole.train] == [5, 10, 15, 20]


def believed(folder):
    """A study whose runs hold their scores, as `unify eval` leaves them, one metric with trials."""
    for run in load_study(folder).runs:
        outcomes = {"text_to_image/exact": run.outcomes["text_to_image/exact"]}
        value = float(outcomes["text_to_image/exact"].mean())
        row = {"metric": "text_to_image/exact", "value": value, "n": 512, "low": None, "high": None}
        rows = [{"arm": run.arm, "paradigm": "P", "seed": run.seed, **row, "passport": {}}]
        write_scores(run.folder, "asked", True, rows, outcomes)
    study = load_study(folder)
    write_results(folder, study.rows)
    edit_json(folder / "study.json", results=content_hash(study.rows))
    return load_study(folder)


def test_the_scores_of_a_study_are_those_of_its_runs_whatever_results_json_says(tmp_path):
    folder = write_study(tmp_path / "edited", seeds=(0, 1), steps=20)
    before = believed(folder)
    assert len(before.rows) == 4
    write_results(folder, [{**row, "value": 0.99} for row in before.rows])
    assert load_study(folder).rows == before.rows
    assert not load_study(folder).refused


def test_an_edited_results_json_is_refused_where_no_run_has_the_scores(tmp_path):
    folder = write_study(tmp_path / "alone", steps=20)
    before = believed(folder)
    shutil.rmtree(before.runs[0].folder)
    assert load_study(folder).rows == before.rows
    write_results(folder, [{**row, "value": 0.99} for row in before.rows])
    after = load_study(folder)
    assert after.rows == before.rows[1:], "the other run has its own"
    assert "results.json is not used: it has changed since it was written" in after.refused[0]


def test_edited_scores_are_in_no_table_and_the_page_and_the_findings_say_so(tmp_path):
    folder = write_study(tmp_path / "page", steps=20)
    claim = {"paper": "P", "says": "it draws", "metric": "text_to_image/exact"}
    edit_json(folder / "study.json", claims=[{**claim, "higher": "ar_vq", "lower": "transfusion"}])
    believed(folder)
    path = next(folder.glob("ar_vq-*")) / "eval" / "scores.json"
    edited = json.loads(path.read_text())
    edited["rows"][0]["value"] = 0.1234
    path.write_text(json.dumps(edited))
    reason = f"{path} is not used: scores.json has changed since it was written"
    with pytest.warns(UserWarning, match=re.escape(reason)):
        page = write_report(folder).read_text()
    for text in (page, (folder / "report.md").read_text(), findings(tmp_path)):
        assert "0.123" not in text
        assert reason in text.replace("\\", "")
        assert f"unify eval {path.parents[1]} --again" in text
    assert load_study(folder).runs[0].outcomes == {}


def test_the_page_says_how_many_runs_have_scores_without_a_hash(tmp_path):
    folder = write_study(tmp_path / "older", steps=20)
    believed(folder)
    assert "without a hash" not in write_report(folder).read_text()
    path = next(folder.glob("ar_vq-*")) / "eval" / "scores.json"
    rows = json.loads(path.read_text())["rows"]
    for row in rows:
        row.pop("better", None)  # which came with the hash
    path.write_text(json.dumps({"rows": rows}))
    assert "The scores of 1 run were stored by an older version" in write_report(folder).read_text()
