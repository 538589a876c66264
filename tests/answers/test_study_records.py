"""Records of a study, read from a folder that may lack anything."""

import json
import shutil

from report_study import edit_json, write_study

from unify.answers.study_records import load_study


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
        (run.folder / "eval" / "scores.json").write_text(json.dumps({"rows": own}))
    assert load_study(folder).rows == study.rows


def test_a_journal_is_read_up_to_the_record_that_is_damaged(tmp_path):
    folder = write_study(tmp_path / "torn", steps=20)
    path = next(folder.glob("ar_vq-*")) / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"\xff not a record\n", *lines[4:]]))
    (damaged, whole) = load_study(folder).runs
    assert [record["step"] for record in damaged.train] == [5, 10]
    assert [record["step"] for record in whole.train] == [5, 10, 15, 20]
