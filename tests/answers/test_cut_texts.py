"""Texts that were cut are said: beside the scores, in the first paragraph, in the budget."""

import pytest
from report_study import edit_json, write_study

from unify.answers.cut_texts import cut_sentences
from unify.answers.study_records import load_study
from unify.report.page import write_report
from unify.runs.cut_texts import count_cut, cut_sentence
from unify.tokenizers.text import Bytes

LENGTHS = {"data": {"lengths": {"caption": 8, "prompt": 20}}}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"texts_cut": 0, "texts_read": 320}, ""),
        ({"texts_cut": 298}, "298 texts of training did"),
        ({"texts_cut": 298, "texts_read": 1320}, "298 of 1,320 texts of training did"),
        ({"texts_cut": 2, "texts_since": 50}, "2 texts of training since step 50 did"),
        ({"texts_cut": 2, "texts_cut_in_scoring": 3}, "2 texts of training and 3 texts that were"),
    ],
)
def test_the_sentence_has_counts_and_lengths(facts, words):
    said = cut_sentence(facts, LENGTHS)
    assert said.startswith(words)
    assert bool(said) == said.endswith("data.lengths (caption 8, prompt 20) and were cut")


def test_tokenizers_count_once_what_they_read_and_cut():
    tokenizer = Bytes()
    tokenizer.encode(["a long text", None, "no"], 6)
    assert count_cut([tokenizer, tokenizer, "an image tokenizer"]) == (1, 2)


@pytest.mark.slow
def test_the_page_says_it_in_its_first_paragraph_and_in_the_budget(tmp_path):
    folder = write_study(tmp_path / "cut", seeds=(0, 1), steps=20)
    for run in load_study(folder).runs:
        if run.arm == "ar_vq":
            edit_json(run.folder / "run.json", texts_cut=298, texts_read=320)
    (said,) = cut_sentences(load_study(folder))
    assert said.startswith("ar_vq, seeds 0 and 1: 298 of 320 texts of training did not fit")
    assert write_report(folder).read_text().count(said) == 2
    assert said in (folder / "report.md").read_text()
