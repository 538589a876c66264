"""The report's first paragraph."""

import json

from report_study import write_study

from unify.answers.score_lines import score_lines
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.answers.summary import summary


def paragraph(folder):
    return summary(study_answers(load_study(folder)))


def test_one_seed_is_said_to_be_exploratory_and_untuned(tmp_path):
    text = paragraph(write_study(tmp_path / "study"))
    assert text.startswith("2 arms (ar_vq and transfusion), 1 seed each.")
    assert "No arm was tuned" in text
    assert "Exploratory: 1 seed per arm cannot tell" in text


def test_a_few_seeds_find_large_differences_only(tmp_path):
    text = paragraph(write_study(tmp_path / "study", seeds=(0, 1, 2)))
    assert "Exploratory: 3 seeds per arm find large differences only." in text
    text = paragraph(write_study(tmp_path / "two", seeds=(0, 1)))
    assert "Exploratory: 2 seeds per arm cannot tell" in text


def test_primary_outcomes_are_stated_for_every_arm_and_others_are_not(tmp_path):
    folder = write_study(tmp_path / "study")
    study = load_study(folder)
    text = paragraph(folder)
    for line in score_lines(study.rows):
        stated = f"{line.metric}: ar_vq " in text
        assert stated == (line.metric in study.primary and not line.note), line.metric


def test_a_tuned_study_does_not_say_that_it_is_not(tmp_path):
    folder = write_study(tmp_path / "study")
    info = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(info | {"tune": {"trials": 4}, "tuned": []}))
    assert "No arm was tuned" not in paragraph(folder)
