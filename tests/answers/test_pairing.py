"""What cannot be compared, and a method that had to change, are said in the cell, with reasons."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_study import edit_json, scores, write_results, write_study
from scored_study import write_scored_study

from unify.answers.answers_json import answers_content
from unify.answers.pairing import pair
from unify.answers.run_records import RunRecord
from unify.answers.score_lines import score_lines
from unify.answers.study_answers import study_answers
from unify.answers.study_records import StudyRecord, load_study
from unify.report.page import render
from unify.report.table_files import markdown
from unify.runs.stored_scores import with_arrays
from unify.support.strict_json import strict_json

EXACT = "text_to_image/exact"


@pytest.fixture
def folder(tmp_path):
    return write_study(tmp_path / "runs" / "four", seeds=(0, 1, 2, 3), steps=20)


def edit_rows(folder, change):
    """Write the results anew; `change(row)` alters a row, and leaves it out if it returns False."""
    rows = json.loads((folder / "results.json").read_text())
    write_results(folder, [row for row in rows if change(row) is not False])


def is_exact(row, arm="ar_vq", seeds=(0, 1, 2, 3)):
    return (row["arm"], row["metric"]) == (arm, EXACT) and row["seed"] in seeds


def edit_outcomes(folder, arm, seed, change):
    path = next(folder.glob(f"{arm}-s{seed}-*")) / "eval" / "outcomes.npz"
    with np.load(path) as stored:
        outcomes = {name: stored[name] for name in stored.files}
    change(outcomes)
    np.savez(path, **outcomes)


def said(folder, *words):
    """The primary comparison on `EXACT`; page and Markdown both have the words, in its cell."""
    study = load_study(folder)
    answers = study_answers(study)
    one = next(one for one in answers.primary if one.metric == EXACT)
    page, text = render(study), markdown(answers, "")
    row = next(
        line for line in text.splitlines() if re.match(rf"\| {EXACT}( \(.*\))? \| ar_vq −", line)
    )
    cells = page.split('id="differences"')[1]
    for each in words:
        assert each in row
        assert each in cells
    assert "One seed per arm" not in page
    return one


def test_an_unlike_prompt_set_is_said_with_the_field_that_differs(folder):
    def other(row):
        if is_exact(row):
            row["passport"]["prompt_set"] = "another set"

    edit_rows(folder, other)
    one = said(folder, "not measured alike: ar_vq with prompt_set: another set and")
    assert one.difference is None
    assert one.verdict == ""


def test_a_seed_with_another_prompt_set_is_left_out_by_name(folder):
    def other(row):
        if is_exact(row, seeds=(2,)):
            row["passport"]["prompt_set"] = "another set"

    edit_rows(folder, other)
    one = said(folder, "seed 2 left out: ar_vq has no score measured alike")
    assert one.seeds == [0, 1, 3]


def test_no_common_seed_is_said_with_what_each_arm_lacks(folder):
    edit_rows(folder, lambda r: r["seed"] % 2 == (r["arm"] == "ar_vq"))
    said(folder, "no common seed (", "ar_vq has no score measured alike")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_said_by_seed(folder, value):
    def spoil(row):
        if is_exact(row, seeds=(1, 3)):
            row["value"] = value

    edit_rows(folder, spoil)
    one = said(folder, "seeds 1 and 3 left out: ar_vq has a score that is no number")
    assert one.words == "two seeds cannot tell"


def test_scores_that_are_all_no_numbers_are_not_called_unmeasured(folder):
    edit_rows(folder, lambda row: row.update(value=float("nan")) if is_exact(row) else None)
    said(folder, "no common seed (seeds 0 to 3 left out: ar_vq has a score that is no number)")


def test_absent_outcomes_change_the_method_and_are_said(folder):
    next(folder.glob("transfusion-s2-*")).joinpath("eval/outcomes.npz").unlink()
    one = said(folder, "by seeds alone: transfusion, seed 2, has no outcomes by prompt")
    assert one.difference.method == "paired t over 4 seeds"


def test_unequal_numbers_of_trials_change_the_method_and_are_said(folder):
    edit_outcomes(folder, "ar_vq", 1, lambda o: o.update({EXACT: o[EXACT][:500]}))
    said(folder, "by seeds alone: 500 trials (ar_vq, seed 1) and 512 trials (")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_outcome_that_is_no_number_changes_the_method_and_is_said(folder, bad):
    edit_outcomes(folder, "ar_vq", 1, lambda o: o[EXACT].__setitem__(7, bad))
    said(folder, "by seeds alone: an outcome of ar_vq, seed 1, is no number")


def test_repeated_prompts_are_one_prompt_each(folder):
    """256 trials of 40 texts are 40 prompts, for the model and in words."""
    index = np.arange(512) % 40

    def name(outcomes):
        outcomes[f"prompts/{EXACT}"] = index

    for arm in ("ar_vq", "transfusion"):
        for seed in range(4):
            edit_outcomes(folder, arm, seed, name)
    one = said(folder)
    assert one.difference.method == "crossed model, 4 seeds x 40 prompts"
    runs = {(run.arm, run.seed): run.outcomes[EXACT] for run in load_study(folder).runs}
    by_seed = [(runs["ar_vq", s] - runs["transfusion", s]).mean() for s in range(4)]
    assert one.difference.by_seed == pytest.approx(by_seed), "the mean of the trials"
    edit_outcomes(folder, "ar_vq", 3, lambda o: o.update({f"prompts/{EXACT}": np.arange(512) % 64}))
    said(folder, "by seeds alone: the runs repeat their prompts in unlike ways")


@pytest.mark.parametrize("digest", [None, "aa11"])
def test_trials_of_other_data_are_paired_only_by_a_digest_of_their_prompts(folder, digest):
    edit_rows(folder, lambda row: row["passport"].update(prompt_set=digest))
    for run in folder.glob("transfusion-*"):
        edit_json(run / "run.json", source="other")
    for run in folder.glob("ar_vq-*"):
        edit_json(run / "run.json", source="5ea5e0")
    reason = f"by seeds alone: not known to be the same prompts, as {EXACT} keeps no digest"
    one = said(folder, *([] if digest else [reason, "ar_vq 5ea5e0 and transfusion other"]))
    assert (one.difference.prompts is None) == (digest is None)
    assert bool(one.notes) == (digest is None)


def test_scores_that_were_edited_are_said_where_they_are_missed(tmp_path):
    study = write_scored_study(tmp_path / "runs" / "four", {"ar_vq": 0.7, "transfusion": 0.5})
    changed = "scores.json has changed since it was written"
    for seed in range(4):
        path = next(study.glob(f"ar_vq-s{seed}-*")) / "eval" / "scores.json"
        path.write_text(path.read_text().replace('"n": 64', '"n": 65'))
        with pytest.warns(UserWarning, match="has changed"):
            record = load_study(study)
        one = next(one for one in study_answers(record).primary if one.metric == EXACT)
        said = one.reason if seed == 3 else one.notes[0]
        assert changed in said
        assert "ar_vq has no score measured alike" not in said
    assert one.reason.startswith("not measured: ar_vq has no score; scores that are there are not")


def test_one_common_seed_of_several_is_not_called_one_seed_per_arm(folder):
    edit_rows(folder, lambda r: r["seed"] < 2 if r["arm"] == "ar_vq" else r["seed"] > 0)
    one = said(folder, "seed 0 left out: transfusion has", "seeds 2 and 3 left out: ar_vq has no")
    assert one.words == "one seed cannot tell"


def test_an_arm_that_is_not_trained_yet_is_said(folder):
    for run in folder.glob("transfusion-*"):
        edit_json(run / "run.json", state="running")
    write_results(folder, [row for s in range(4) for row in scores("ar_vq", s)])
    said(folder, "not trained yet: transfusion")


def test_one_seed_and_two_seeds_are_said_as_what_they_are(folder):
    edit_rows(folder, lambda row: row["seed"] < 2)
    assert said(folder, "two seeds cannot tell").p is None


def test_a_claim_and_a_control_say_the_reason_too(folder):
    arms = {"higher": "ar_vq", "lower": "transfusion", "metric": EXACT}
    control = {"arm": "transfusion", "expect": "worse", "than": "ar_vq", "metric": EXACT}
    edit_json(
        folder / "study.json", claims=[{"paper": "A", "says": "b", **arms}], controls=[control]
    )

    def other(row):
        if is_exact(row):
            row["passport"]["prompt_set"] = "another set"

    edit_rows(folder, other)
    answers = study_answers(load_study(folder))
    assert answers.claims[0].judgement.startswith("not measured alike: ar_vq with prompt_set")
    assert "prompt_set: another set" in answers.controls[0].outcome


FAULTS = (
    *("none", "absent", "nan", "null", "other prompts", "no outcomes", "few trials"),
    *("nan trial", "unfinished", "no run"),
)


def study_with(faults):
    """A study of two arms in memory; `faults`: of every arm and seed."""
    generator, runs, rows = np.random.default_rng(0), [], []
    for (arm, seed), fault in faults.items():
        trials = (generator.random(8 if fault == "few trials" else 32) < 0.5).astype(float)
        value = {"nan": float("nan"), "null": None}.get(fault, float(trials.mean()))
        row = {"arm": arm, "seed": seed, "metric": EXACT, "value": value, "n": len(trials)}
        prompts = "other" if fault == "other prompts" else "same"
        if fault not in ("absent", "unfinished"):
            rows.append({**row, "low": None, "high": None, "passport": {"prompt_set": prompts}})
        if fault == "nan trial":
            trials[3] = np.nan
        run = RunRecord(
            Path(f"{arm}-s{seed}-0"),
            arm,
            seed,
            {"state": "running" if fault == "unfinished" else "finished"},
        )
        run.outcomes = {} if fault == "no outcomes" else {EXACT: trials}
        runs += [run] if fault != "no run" else []
    info = {"arms": {"a": {}, "b": {}}, "seeds": [0, 1, 2, 3], "primary": [EXACT]}
    claim = {"paper": "p", "says": "s", "metric": EXACT, "higher": "a", "lower": "b"}
    return StudyRecord(Path("study"), {**info, "claims": [claim]}, rows, runs)


PLACES = [(arm, seed) for arm in "ab" for seed in range(4)]


@settings(deadline=None)
@given(st.fixed_dictionaries({place: st.sampled_from(FAULTS) for place in PLACES}))
def test_whatever_is_missing_is_said(faults):
    answers = study_answers(study_with(faults))
    for one in answers.primary:
        assert (one.difference is None) == bool(one.reason)
        assert one.verdict or one.untestable
        if one.difference is None:
            continue
        left = set(range(4)) - set(one.seeds)
        assert bool(left) == any("left out" in note for note in one.notes)
        assert (one.difference.prompts is None) == any("by seeds" in note for note in one.notes)
        assert one.difference.seeds == len(one.seeds)
    assert answers.claims[0].judgement != "not measured", "without saying why"
    json.loads(strict_json(answers_content(answers)))


def test_a_metric_on_two_splits_is_compared_on_each_by_its_own_trials():
    gaps, runs, rows = {"test": 0.5, "validation": -2.0}, [], []
    for arm, seed in PLACES:
        made = np.random.default_rng(seed)
        trials = {s: made.random(6 + len(s)) + (arm == "a") * gap for s, gap in gaps.items()}
        run = RunRecord(Path(f"{arm}-s{seed}-0"), arm, seed, {"state": "finished"})
        about = {"arm": arm, "paradigm": "P", "seed": seed, "metric": EXACT, "better": "higher"}
        own = with_arrays(
            [{**about, "value": t.mean(), "passport": {"split": s}} for s, t in trials.items()]
        )
        run.outcomes = dict(zip((EXACT, f"{EXACT} 2"), trials.values(), strict=True))
        runs, rows = [*runs, run], [*rows, *own]
    info = {"arms": {"a": {}, "b": {}}, "seeds": [0, 1, 2, 3], "primary": [EXACT]}
    study = StudyRecord(Path("study"), info, rows, runs)
    lines = score_lines(rows)
    assert len(lines) == 2
    for line in lines:
        split = line.cells["a"].rows[0]["passport"]["split"]
        made = pair(study, line, "a", "b")
        assert made.difference.mean == pytest.approx(gaps[split])
        assert made.difference.prompts == 6 + len(split)
        assert not made.notes
