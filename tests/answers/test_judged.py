"""Presets at the report: verdicts on what a confirmatory study named, and none in a look."""

import json

import pytest
from report_study import edit_json, write_results, write_study
from verdict_words import VERDICT, texts

from unify.analysis.multiple_tests import holm
from unify.answers.answer_block import answer_block
from unify.answers.answers_json import answers_content
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.answers.summary import summary
from unify.report.findings import findings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SEALED = {"path": "plans/design.md", "commit": COMMIT}
DRAWN, ANSWERED, HELD = "text_to_image/exact", "vqa/accuracy", "text_to_image/exact/heldout"
CLAIM = {"paper": "A et al.", "says": "codes draw better", "better": "ar_vq",
         "worse": "transfusion", "metric": DRAWN}  # fmt: skip
CONTROL = {"arm": "transfusion", "expect": "worse", "than": "ar_vq", "metric": DRAWN}


def named(metric=DRAWN, family="drawing", first="transfusion", second="ar_vq"):
    return {"family": family, "metric": metric, "first": first, "second": second}


def written(folder, seeds=range(8), commit=COMMIT, **info):
    """A study whose scores are on the prompts that a commit seals."""
    folder = write_study(folder, seeds=tuple(seeds), steps=20)
    rows = json.loads((folder / "results.json").read_text())
    for row in rows:
        row["passport"]["sealed"] = f"plans/design.md at {commit[:12]}"
    write_results(folder, rows)
    edit_json(folder / "study.json", claims=[CLAIM], **info)
    return folder


def confirmatory(folder, *families, **changed):
    info = {"preset": "confirmatory", "preregistration": SEALED, "families": list(families)}
    return written(folder, **{**info, **changed})


@pytest.fixture(scope="module")
def two_families(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "two"
    families = named(), named(ANSWERED), named(HELD, "other")
    return confirmatory(folder, *families, primary=[DRAWN, HELD, ANSWERED, "edit/exact"])


@pytest.fixture(scope="module")
def one_named(tmp_path_factory):
    return confirmatory(tmp_path_factory.mktemp("runs") / "one", named(ANSWERED))


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "look"
    return written(folder, range(3), preset="exploratory", controls=[])


def primary(folder):
    return {one.metric: one for one in study_answers(load_study(folder)).primary}


def test_each_named_family_is_corrected_by_itself(two_families):
    by = primary(two_families)
    drawn = [by[DRAWN], by[ANSWERED]]
    assert (by[DRAWN].first, by[DRAWN].second) == ("transfusion", "ar_vq")  # as it was named
    assert [one.adjusted for one in drawn] == holm([one.p for one in drawn])
    assert [one.tests for one in (*drawn, by[HELD])] == [2, 2, 1]
    assert by[DRAWN].verdict == "lower"


def test_what_was_named_and_not_measured_counts_as_a_test(tmp_path):
    folder = confirmatory(tmp_path / "s", named(), named("edit/exact"), named("no/such"),
                          primary=[DRAWN, "edit/exact", "no/such"])  # fmt: skip
    one = primary(folder)[DRAWN]
    assert one.tests == 3
    assert one.adjusted == holm([one.p, 1.0, 1.0])[0]


def test_only_what_was_named_has_verdict_words(one_named):
    by = primary(one_named)
    assert by[ANSWERED].verdict == "not distinguishable at this budget"
    assert by[DRAWN].verdict == ""
    assert by[DRAWN].adjusted is None
    assert by[DRAWN].words == "no verdict: not of a named family"
    assert by[DRAWN].simultaneous == pytest.approx(by[DRAWN].difference.interval_at(0.95))
    content = answers_content(study_answers(load_study(one_named)))
    of = {one["metric"]: one for one in content["differences"] if one["primary"]}
    assert (of[DRAWN]["verdict"], of[DRAWN]["family"]) == (None, None)
    assert (of[ANSWERED]["family"], content["preset"]) == ("drawing", "confirmatory")
    assert content["preregistration"] == SEALED
    (claim,) = content["claims"]  # of an outcome that no family names
    assert claim["judgement"] == "no verdict: not of a named family"
    text = summary(study_answers(load_study(one_named)))
    assert "pre-registered in plans/design.md at commit 0123456789ab" in text
    assert "drawing (1 comparison)" in text
    assert f"{DRAWN}: 1 pair: no verdict: not of a named family." in text
    assert f"{ANSWERED}: no named pair of arms is distinguishable" in text


def test_a_claim_has_the_verdict_of_the_named_comparison(two_families):
    (claim,) = study_answers(load_study(two_families)).claims
    assert claim.judgement == "agrees"  # although it was named the other way round
    assert (claim.one.tests, claim.one.family) == (2, "drawing")
    assert "| agrees |" in findings(two_families.parent)


def test_there_is_no_verdict_before_all_replicates_are_there(tmp_path):
    folder = confirmatory(tmp_path / "s", named(), seeds=range(5))
    edit_json(folder / "study.json", seeds=list(range(8)))
    answers = study_answers(load_study(folder))
    assert answers.primary[0].words == "no verdict yet: 3 replicates of 8 to come"
    assert answers.claims[0].judgement == "no verdict yet: 3 replicates of 8 to come"
    assert "5 of 8 replicates done, so no verdict yet." in " ".join(answer_block(answers))


@pytest.mark.parametrize("commit", ["f" * 40, ""], ids=["another commit", "none"])
def test_there_is_no_verdict_on_prompts_that_were_not_sealed(tmp_path, commit):
    folder = confirmatory(tmp_path / "s", named(), commit=commit)
    assert primary(folder)[DRAWN].words == "no verdict: not asked of the sealed test"
    answers = study_answers(load_study(folder))
    assert "Confirmatory: 2 arms not asked the sealed test, so no verdict." in answer_block(answers)
    assert "sealed test, 8 whole replicates" not in " ".join(answer_block(answers))
    said = summary(answers)
    assert "whose hash drew the test prompts" not in said
    assert "The scores of ar_vq and transfusion are on other prompts" in said


def test_an_exploratory_study_has_no_verdict_words_anywhere(look):
    answers = study_answers(load_study(look))
    assert {one.verdict for one in answers.primary} == {""}
    assert [claim.judgement for claim in answers.claims] == ["no verdict: exploratory"]
    assert "Exploratory: 3 seeds, shared tokenizers, no verdicts." in answer_block(answers)
    for name, text in texts(look).items():
        found = VERDICT.search(text)
        assert found is None, (name, text[found.start() - 200 : found.end() + 50])
    assert "agrees" not in findings(look.parent)


def test_a_control_of_an_exploratory_study_has_no_outcome(tmp_path):
    folder = written(tmp_path / "s", range(3), preset="exploratory", controls=[CONTROL])
    answers = study_answers(load_study(folder))
    assert [(one.came_out, one.outcome) for one in answers.controls] == [
        (None, "no verdict: exploratory")
    ]
    assert not VERDICT.search(texts(folder)["report.md"])


def test_a_look_without_its_preset_has_verdicts(look, tmp_path):
    """The words that the tests above look for are there, where the preset is not."""
    said = texts(written(tmp_path / "s", range(3)))
    assert [name for name in said if VERDICT.search(said[name])] == [
        "page",
        "report.md",
        "answers.json",
    ]
