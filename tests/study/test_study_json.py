"""study.json has what a confirmatory study named before it ran, as the report reads it."""

import json
import subprocess

from unify.answers.study_records import load_study
from unify.config.studies import load_study as read_study
from unify.study.jobs import StudyRequest
from unify.study.study_json import write_study_json


def test_what_was_named_beforehand_is_written_down_with_its_commit(study, tmp_path):
    contrast = {"metric": "text_to_image/exact", "first": "transfusion", "second": "ar_vq"}
    path = study(
        preset="confirmatory", preregistration="study.yaml", families={"drawing": [contrast]}
    )  # the file that names the comparisons is the study itself
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "The design", "--no-gpg-sign"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    made, arms = read_study(path, tiny=True)
    write_study_json(made, arms, StudyRequest(path, tiny=True), tmp_path, set(arms))
    info = json.loads((tmp_path / "study.json").read_text())
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert info["preregistration"] == {"path": "study.yaml", "commit": head.strip()}
    record = load_study(tmp_path)
    assert (record.preset, record.whole) == ("confirmatory", True)
    assert record.named == [{"family": "drawing", **contrast}]
    assert record.info["learned"]["gain"] == 0.05, "no verdict against an arm that has not learned"
