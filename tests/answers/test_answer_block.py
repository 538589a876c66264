"""The answer at the top of the page: short whatever the study, and what it says is so."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_study import edit_json, write_results, write_study

from unify.answers.answer_block import MOST_WORDS, Said, _fitted, answer_block
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study


def block(folder):
    return answer_block(study_answers(load_study(folder)))


def test_several_seeds_are_answered_by_an_order_and_one_by_none(tmp_path):
    text = " ".join(block(write_study(tmp_path / "study", seeds=(0, 1, 2, 3, 4))))
    assert "text_to_image/exact: ar_vq > transfusion." in text
    assert "vqa/accuracy: ar_vq and transfusion not told apart." in text
    assert "5 seeds an arm: exploratory." in text
    one = " ".join(block(write_study(tmp_path / "one")))
    assert ">" not in one
    assert "without a verdict" in one
    assert "1 seed an arm: no difference can be told." in one


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2), tuple(range(8))])
@pytest.mark.parametrize("name", ["a", "a long name of an arm with many words in it " * 3])
def test_the_answer_is_at_most_sixty_words(tmp_path, seeds, name):
    folder = write_study(tmp_path / "study", seeds=seeds)
    metrics = [row["metric"] for row in json.loads((folder / "results.json").read_text())]
    primary = list(dict.fromkeys([*metrics, *(f"never/{i}" for i in range(40))]))
    control = {"arm": "transfusion", "expect": "worse", "than": "ar_vq", "metric": "vqa/accuracy"}
    edit_json(folder / "study.json", primary=[*primary, name], controls=[control] * 3)
    said, answers = block(folder), study_answers(load_study(folder))
    assert sum(len(sentence.split()) for sentence in said) <= MOST_WORDS
    failed = any(control.came_out is False for control in answers.controls)
    assert any("did not come out" in sentence for sentence in said) == failed
    assert any(sentence.endswith("more outcomes below.") for sentence in said)


WORDS = st.integers(1, 30).map(lambda n: " ".join(["word"] * n))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), max_size=5), st.integers(0, 80))
def test_no_outcome_takes_the_words_of_another(pairs, room):
    said = [Said(text, short) for text, short in pairs]
    fitted = _fitted(said, room)
    assert sum(len(text.split()) for text in fitted) <= room
    if sum(len(short.split()) for _, short in pairs) <= room:
        assert len(fitted) == len(said)
    if sum(len(text.split()) for text, _ in pairs) <= room and all(
        len(short.split()) <= len(text.split()) for text, short in pairs
    ):
        assert fitted == [text for text, _ in pairs]


def test_no_arm_is_the_best_where_all_have_one_mean(tmp_path):
    folder = write_study(tmp_path / "study")
    rows = json.loads((folder / "results.json").read_text())
    for row in rows:
        if row["metric"] == "text_to_image/exact":
            row.update(value=0.0)
    write_results(folder, rows)
    text = " ".join(block(folder))
    assert "text_to_image/exact: all scored arms have the mean 0.000, without a verdict." in text
    assert re.search("vqa/accuracy: (ar_vq|transfusion) has the best mean", text)


def test_controls_that_fail_and_scores_that_are_missing_are_said(tmp_path):
    folder = write_study(tmp_path / "study", seeds=(0, 1, 2, 3, 4))
    control = {"arm": "transfusion", "expect": "same", "than": "ar_vq"}
    primary = ["text_to_image/exact", "no/such"]
    edit_json(folder / "study.json", controls=[control], primary=primary)
    text = " ".join(block(folder))
    assert "no/such: not measured." in text
    assert "1 of 2 controls did not come out." in text
