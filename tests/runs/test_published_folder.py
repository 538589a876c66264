"""The folder of a published study: whole or refused, small, and without what is of one machine."""

import json
import os
import warnings

import numpy as np
import pytest
from report_study import edit_json
from scored_study import EXACT, LOSS, SPEED, write_scored_study

from unify.answers.publish import publish
from unify.answers.published_arms import load_published
from unify.answers.study_records import load_study
from unify.runs import published_folder
from unify.runs.published_folder import (
    OUTCOMES,
    PUBLISHED,
    read_published,
    write_published,
)
from unify.runs.stored_scores import content_hash


@pytest.fixture
def study(tmp_path):
    return write_scored_study(tmp_path / "runs" / "theirs", {"ar_vq": 0.5, "flow": 0.8})


@pytest.fixture
def folder(tmp_path, study):
    publish(load_study(study), tmp_path / "pub")
    return tmp_path / "pub"


def test_scores_and_outcomes_come_back_as_they_were(study, folder):
    record, published = load_study(study), load_published(folder)
    assert {run.folder.name for run in published.runs}.isdisjoint(p.name for p in study.iterdir())
    theirs = {(r["arm"], r["seed"], r["metric"]): r for r in published.rows}
    for row in record.rows:
        if row["metric"] == SPEED:
            continue
        other = theirs.pop((f"published/{row['arm']}", row["seed"], row["metric"]))
        passport = {k: v for k, v in row["passport"].items() if k != "weights"}
        assert other == {**row, "arm": other["arm"], "passport": passport}
    assert not theirs
    for run, other in zip(record.runs, published.runs, strict=True):
        assert other.outcomes.keys() == run.outcomes.keys() >= {EXACT, LOSS, f"prompts/{EXACT}"}
        assert all(
            np.array_equal(other.outcomes[name], run.outcomes[name]) for name in run.outcomes
        )
        assert (other.flops, other.samples) == (run.flops, run.samples)
        assert other.consumed["text_to_image"].items() <= run.consumed["text_to_image"].items()
        assert max(other.consumed["text_to_image"]) == max(run.consumed["text_to_image"])


def test_it_is_small_and_says_nothing_of_the_machine(folder, study):
    assert {path.name for path in folder.iterdir()} == {PUBLISHED, OUTCOMES}
    text = (folder / PUBLISHED).read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20_000
    for word in ("someone", "secret", "/home", str(study.parent), "tracker", "command"):
        assert word not in text
    content = json.loads(text)
    assert content["arms"]["flow"]["config"]["data"]["source"]["path"] == "mine"
    assert len(content["passports"]) == 2, "each once, whatever the number of scores"
    with np.load(folder / OUTCOMES) as arrays:
        assert arrays[f"flow/{EXACT}"].shape == (4, 64)
        assert arrays[f"flow/{EXACT}"].dtype == np.uint8
        assert len([name for name in arrays.files if name.startswith("prompts/")]) == 1


def test_publishing_again_replaces_it_by_equal_bytes(study, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / ".tmp-1-published.json").write_text("left by a process that was killed")
    publish(load_study(study), folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


def _cut(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def _rehashed(folder, change):
    """Change the JSON and give it the hash that it then has."""
    content = json.loads((folder / PUBLISHED).read_text())
    change(content)
    content["hash"] = content_hash(content)
    (folder / PUBLISHED).write_text(json.dumps(content))


def _flip(folder):
    with np.load(folder / OUTCOMES) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays[f"flow/{EXACT}"] = 1 - arrays[f"flow/{EXACT}"]
    np.savez_compressed(folder / OUTCOMES, **arrays)


def _scores(content):
    return content["arms"]["flow"]["scores"][0]


BROKEN = {
    "nothing there": (lambda f: (f / PUBLISHED).unlink(), "has no published.json"),
    "cut JSON": (lambda f: _cut(f, PUBLISHED), "published.json is damaged"),
    "empty JSON": (lambda f: (f / PUBLISHED).write_text(""), "damaged .it is empty"),
    "a list": (lambda f: (f / PUBLISHED).write_text("[]"), "damaged .it holds a list"),
    "another JSON": (lambda f: (f / PUBLISHED).write_text("{}"), "its format is None"),
    "edited": (lambda f: edit_json(f / PUBLISHED, unify="9"), "json has changed since it was"),
    "cut outcomes": (lambda f: _cut(f, OUTCOMES), "npz has changed since it was written"),
    "other outcomes": (_flip, "npz has changed since it was written"),
    "no outcomes": (lambda f: (f / OUTCOMES).unlink(), "outcomes.npz is gone"),
    "newer": (lambda f: edit_json(f / PUBLISHED, version=2), "of format 2, and this unify reads 1"),
    "no arms": (lambda f: _rehashed(f, lambda c: c.update(arms={})), "it names no arms"),
    "arms of another type": (lambda f: _rehashed(f, lambda c: c.update(arms=[1])), "arms is"),
    "an arm that is none": (lambda f: _rehashed(f, lambda c: c["arms"].update(x=3)), "holds a int"),
    "a place beyond": (lambda f: _rehashed(f, lambda c: _scores(c).update(passport=9)), "IndexErr"),
    "a key that is gone": (lambda f: _rehashed(f, lambda c: _scores(c).pop("seeds")), "KeyError"),
    "a score of letters": (lambda f: _rehashed(f, lambda c: _scores(c).update(n="x")), "n is 'x'"),
    "another score": (
        lambda f: _rehashed(f, lambda c: _scores(c).update(value=0.123)),
        "is 0.123, and its outcomes average to",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_with_its_file_and_remedy(folder, case):
    change, said = BROKEN[case]
    change(folder)
    with pytest.raises(ValueError, match=said) as refused:
        load_published(folder)
    message = str(refused.value)
    assert str(folder) in message
    assert any(word in message for word in ("get the folder anew", "install", "name a folder"))
    assert "\n" not in message


def test_outcomes_that_unpack_to_too_much_are_not_unpacked(folder, monkeypatch):
    monkeypatch.setattr(published_folder, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="it unpacks to"):
        read_published(folder)


def test_nothing_of_anothers_is_replaced(tmp_path, study):
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"other holds notes\.txt"):
        publish(load_study(study), other)
    assert os.listdir(other) == ["notes.txt"]
    with pytest.raises(ValueError, match=r"notes\.txt is a file"):
        write_published(other / "notes.txt", {}, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: edit_json(run / "run.json", state="running"), "flow (seed 2) is not trained"),
        (lambda run: (run / "eval/scores.json").unlink(), "flow (seed 2) has no scores"),
        (lambda run: edit_json(run / "eval/scores.json", rows=[]), "is not used"),
    ],
)
def test_a_study_that_is_not_whole_is_not_published(tmp_path, study, change, said):
    change(next(study.glob("flow-s2-*")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = load_study(study)
    with pytest.raises(ValueError) as refused:
        publish(record, tmp_path / "pub")
    assert said in str(refused.value)
    assert not (tmp_path / "pub").exists()
