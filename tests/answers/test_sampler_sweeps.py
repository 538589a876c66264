"""Sweeps of sampler settings on the page, in answers.json and in what is published."""

import pytest
from scored_study import EXACT, PASSPORT, write_scored_study

from unify.answers.answer_block import answer_block
from unify.answers.answers_json import answers_content
from unify.answers.publish import publish
from unify.answers.published_arms import load_published
from unify.answers.published_words import unlike_published
from unify.answers.sampler_sweeps import sweep_sentence, untold_sweeps
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study, with_published
from unify.report.page import render
from unify.runs.sampler_settings import TriedSetting, TriedSettings, read_settings, write_settings

ARMS = {"ar_vq": 0.5, "flow": 0.8}
KEY = "image_sampling.guidance"


def tried(*scores, seconds=2.0):
    """Settings with these scores, of which the first is the arm's own."""
    settings = [
        TriedSetting({KEY: 1.0 + n} if n else {}, score, {EXACT: score}, 64, seconds, f"{n}", None)
        for n, score in enumerate(scores)
    ]
    best = max(range(len(scores)), key=lambda n: (scores[n] or -1, -n))
    return TriedSettings(EXACT, "higher", best, settings)


@pytest.fixture
def study(tmp_path):
    """A study whose runs chose among three settings; those of one run cannot be told apart."""
    sweep = {"metric": EXACT, "settings": 3, "space": {KEY: [1, 2, 3]}}
    folder = write_scored_study(tmp_path / "runs" / "swept", ARMS, sweep=sweep)
    for place, run in enumerate(sorted(folder.glob("*-s*"))):
        write_settings(run, tried(0.2, 0.6, None) if place else tried(0.25, 0.25))
    return folder


def test_what_was_tried_is_read_as_it_was_written(tmp_path):
    write_settings(tmp_path, tried(0.2, None, 0.6))
    assert read_settings(tmp_path) == tried(0.2, None, 0.6)
    assert read_settings(tmp_path / "elsewhere") is None
    path = tmp_path / "eval" / "settings.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ValueError, match=r"settings\.json is damaged .* tries the settings again"):
        read_settings(tmp_path)


def test_the_page_shows_every_setting_and_what_cannot_be_told_apart(study):
    record = load_study(study)
    page = render(record)
    assert page.count("<h3>") >= 8
    for text in ("Sampler settings", f"{KEY}=2.0", "ar_vq, seed 0", "charged to no budget"):
        assert text in page, text
    said = sweep_sentence(record)
    assert said.startswith(f"Samplers: of each run the best of 2–3 settings by {EXACT}")
    (untold,) = untold_sweeps(record)
    assert "1 run cannot be told apart (all 0.25)" in untold
    block = " ".join(answer_block(study_answers(record)))
    assert "No arm was tuned, only its sampler." in block


def test_answers_have_each_setting_with_its_scores(study):
    entries = answers_content(study_answers(load_study(study)))["sampler_sweeps"]
    assert len(entries) == 8
    entry = entries[1]
    assert (entry["arm"], entry["metric"], entry["best"]) == ("ar_vq", EXACT, 1)
    assert [setting["score"] for setting in entry["settings"]] == [0.2, 0.6, None]
    assert entry["settings"][1]["values"] == {KEY: 2.0}


def test_replicates_may_have_samplers_of_their_own(study):
    record = load_study(study)
    for row in record.rows:
        row["passport"] = {**PASSPORT, "sampler": {"guidance": 1.0 + row["seed"]}}
    assert all(not line.note for line in study_answers(record).lines)
    del record.info["sweep"]
    assert any(line.note for line in study_answers(record).lines)


def test_a_study_without_a_sweep_shows_none_that_was_left(study):
    record = load_study(study)
    record.info["sweep"] = None
    assert sweep_sentence(record) == ""
    assert answers_content(study_answers(record))["sampler_sweeps"] == []


def test_unlike_numbers_of_settings_are_said_of_published_arms(study, tmp_path):
    publish(load_study(study), tmp_path / "pub")
    own = load_study(write_scored_study(tmp_path / "runs" / "mine", {"ar_vq": 0.5}))
    both = with_published(own, load_published(tmp_path / "pub"))
    assert both.seeds_have_parts
    (said,) = [text for text in unlike_published(both) if text.startswith("Samplers")]
    assert said == (
        "Samplers chosen from: 0 settings (ar_vq); 3 settings (published/ar_vq and published/flow)."
    )
