"""The first table of the report: a row for each arm, its scores, and FLOPs in all."""

import json

import pytest
from report_study import edit_json, write_study

from unify.answers.arms_overview import COSTS, arms_overview, overview_heads
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.report.page import render
from unify.report.table_files import markdown

COUNTED = {"flops_per_step": 5e6, "needed": [{"name": "llm", "hash": "cc"}]}


@pytest.fixture
def folder(tmp_path):
    """`transfusion` starts from a language model of 100 steps; what `ar_vq` needs is not there."""
    folder = write_study(tmp_path / "runs" / "study", seeds=(0, 1, 2), steps=10)
    llm = folder.parent / "before" / "llm-s0-cc"
    llm.mkdir(parents=True)
    about = {"arm": "llm", "seed": 0, "state": "finished", "steps": 100, "flops_per_step": 1e6}
    parameters = {"total": 9, "frozen_tokenizers": 0}
    (llm / "run.json").write_text(json.dumps({**about, "parameters": parameters}))
    for run in folder.glob("transfusion-*"):
        found = {"name": "llm", "folder": "runs/before/llm-s0-cc", "hash": "cc"}
        parameters = {"total": 9, "trainable": 9, "frozen_tokenizers": 0}
        edit_json(run / "run.json", needed=[found], flops_per_step=5e6, parameters=parameters)
    for run in folder.glob("ar_vq-*"):
        edit_json(run / "run.json", needed=[{"name": "gone", "hash": "dd"}])
    return folder


def test_each_arm_has_its_means_and_what_it_took_in_all(folder):
    answers = study_answers(load_study(folder))
    assert overview_heads(answers) == [*answers.study.primary, *COSTS]
    codes, latents = arms_overview(answers)
    assert (codes.arm, latents.arm) == ("ar_vq", "transfusion")
    assert codes.costs[0] == codes.costs[3] == "n/a", "a needed run was not found"
    assert latents.costs == ["150 M", "50 M", "0", "100 M"], "nothing was encoded"
    assert all(text.startswith("0.") and "[" in text for text in latents.means)


def test_it_is_the_first_table_of_the_page_and_of_the_markdown(folder):
    study = load_study(folder)
    page, text = render(study), markdown(study_answers(study), "")
    assert page.index('id="arms"') < page.index('id="differences"') < page.index('id="results"')
    assert "FLOPs in all" in page[page.index('id="arms"') : page.index('id="differences"')]
    first = next(line for line in text.splitlines() if line.startswith("| "))
    assert first.startswith("| arm |")
    assert first.endswith("| FLOPs in all | own training | encoding | needed runs |")


def test_arms_of_controls_stand_last_and_are_marked(folder):
    controls = [{"arm": "ar_vq", "expect": "worse", "than": "transfusion", "metric": ""}]
    edit_json(folder / "study.json", controls=controls)
    answers = study_answers(load_study(folder))
    assert [(one.arm, one.control) for one in arms_overview(answers)] == [
        ("transfusion", False),
        ("ar_vq", True),
    ]
    assert "| ar_vq (control) |" in markdown(answers, "")
