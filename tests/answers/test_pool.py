"""Replicates from several places, pooled: the answers of one study that trained them all."""

import html
import json
from pathlib import Path

import pytest
from report_study import edit_json
from scored_study import EXACT, write_scored_study

from unify.answers.answers_json import answers_content
from unify.answers.pool import pool
from unify.answers.publish import publish
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.commands.study import pool as pool_command
from unify.commands.study import report
from unify.runs.published_folder import PUBLISHED

ARMS = {"ar_vq": 0.5, "flow": 0.8, "dual": 0.6}
PLACES = ((2, 3), (0, 5), (1,))


@pytest.fixture
def places(tmp_path):
    """Three published folders of one study, each with seeds of its own."""
    return [place(tmp_path / f"place{n}", seeds) for n, seeds in enumerate(PLACES)]


def place(at, seeds, arms=ARMS, **info):
    publish(load_study(write_scored_study(at / "runs" / "mine", arms, seeds, **info)), at / "pub")
    return at / "pub"


def test_pooled_replicates_answer_as_the_study_that_trained_them_all(tmp_path, places):
    seeds = sorted(seed for some in PLACES for seed in some)
    whole = load_study(write_scored_study(tmp_path / "all" / "mine", ARMS, seeds))
    pooled = load_study(pool(places, tmp_path / "pooled"))
    assert pooled.seeds == seeds
    one, other = (answers_content(study_answers(study)) for study in (whole, pooled))
    assert one["differences"]
    for key in one.keys() - {"created"}:
        assert one[key] == other[key], key
    told = json.loads((tmp_path / "pooled" / "results.json").read_text())
    assert {(r["arm"], r["metric"], r["seed"]) for r in told} == {
        (r["arm"], r["metric"], r["seed"]) for r in whole.rows
    }


def test_it_is_reported_and_published_as_any_study(tmp_path, places, capsys):
    """What is published of the pooled study is what would be of the whole one."""
    pool_command(places, tmp_path / "pooled")
    page = html.unescape((tmp_path / "pooled" / "report.html").read_text())
    assert "5 seeds" in page
    told = json.loads((tmp_path / "pooled" / "study.json").read_text())["pooled"]
    assert [one["seeds"] for one in told] == [list(seeds) for seeds in PLACES]
    assert all(one["hash"] in page for one in told)
    assert "unify study study.yaml 'seeds=[0, 1, 2, 3, 5]'" in page
    assert "unify train" not in page
    assert report(tmp_path / "pooled", publish=tmp_path / "again") == 0
    seeds = sorted(seed for some in PLACES for seed in some)
    place(tmp_path / "all", seeds)
    one, other = (
        json.loads((tmp_path / name / PUBLISHED).read_text()) for name in ("all/pub", "again")
    )
    assert one["arms"] == other["arms"]
    assert one["outcomes.npz"] == other["outcomes.npz"]
    pool_command(places, tmp_path / "pooled")  # made again, in the same place


def test_replicates_that_no_place_has_yet_are_still_to_come(tmp_path):
    study = load_study(write_scored_study(tmp_path / "mine", ARMS, (0, 1, 2)))
    for seed in (0, 2):
        publish(study, tmp_path / f"pub{seed}", seed)
    pooled = load_study(pool([tmp_path / "pub2", tmp_path / "pub0"], tmp_path / "pooled"))
    assert (pooled.seeds, pooled.seeds_in_words) == ([0, 1, 2], "2 of 3 seeds")
    with pytest.raises(ValueError, match=r"\(seed 1\) is not trained"):
        publish(pooled, tmp_path / "again")
    with pytest.raises(ValueError, match="has no seed 5; it has seeds 0 to 2"):
        publish(study, tmp_path / "again", 5)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": (3, 9)}, "both have seed 3: a replicate counts once"),
        ({"primary": ["caption/perplexity"]}, "they differ in primary of the study"),
        ({"replicate": "all"}, "they differ in replicate of the study"),
        ({"arms": {"ar_vq": 0.5, "flow": 0.8}}, "their arms are ar_vq, dual and flow, and ar_vq"),
    ],
)
def test_what_is_not_of_one_study_is_refused_and_nothing_is_written(tmp_path, places, change, said):
    other = place(tmp_path / "other", **{"seeds": (9,), **change})
    with pytest.raises(ValueError, match=said) as refused:
        pool([places[0], other], tmp_path / "pooled")
    assert str(other) in str(refused.value)
    assert not (tmp_path / "pooled").exists()


def test_an_arm_that_was_configured_otherwise_is_named_with_its_setting(tmp_path, places):
    def with_steps(steps):
        folder = write_scored_study(tmp_path / f"s{steps}" / "mine", ARMS, (steps,))
        for run in folder.glob("flow-s*"):
            path = run / "config.yaml"
            path.write_text(path.read_text().replace("steps: 20", f"steps: {steps}"))
        publish(load_study(folder), tmp_path / f"pub{steps}")
        return tmp_path / f"pub{steps}"

    with pytest.raises(ValueError, match="flow differs in steps"):
        pool([places[0], with_steps(40)], tmp_path / "pooled")
    assert pool([places[0], with_steps(20)], tmp_path / "pooled")


def test_trials_are_pooled_where_each_seed_had_its_own(tmp_path):
    space = {"metric": EXACT, "trials": 2, "share": 0.5, "space": {"steps": {"factor": 2}}}

    def tuned(seed, best, **info):
        key = f"flow, seed {seed}"
        trials = [{"values": {"steps": n}, "score": n / 9} for n in (1, best)]
        entry = {"arm": "flow", "seed": seed, "better": "higher", "best": 1, "trials": trials}
        about = {"tune": space, "tuned": [key], "replicate": "all", **info}
        folder = write_scored_study(tmp_path / f"s{seed}" / "mine", ARMS, (seed,), **about)
        (folder / "tuning.json").write_text(json.dumps({key: entry}))
        for run in folder.glob("flow-s*"):
            path = run / "config.yaml"
            path.write_text(path.read_text().replace("steps: 20", f"steps: {best}"))
        publish(load_study(folder), tmp_path / f"pub{seed}")
        return tmp_path / f"pub{seed}"

    folder = pool([tuned(0, 5), tuned(1, 7)], tmp_path / "pooled")
    assert load_study(folder).info["tuned"] == ["flow, seed 0", "flow, seed 1"]
    assert set(json.loads((folder / "tuning.json").read_text())) == {"flow, seed 0", "flow, seed 1"}
    shared = [tuned(seed, 5, replicate="arm") for seed in (2, 3)]
    with pytest.raises(ValueError, match="use replicate: all"):
        pool(shared, tmp_path / "other")


def test_damage_and_another_folder_are_refused(tmp_path, places):
    folder = pool(places, tmp_path / "pooled")
    first = folder / "replicates" / "0" / PUBLISHED
    edit_json(folder / "study.json", pooled=[{"folder": "replicates/0", "hash": "0"}])
    with pytest.raises(ValueError, match="is not what was pooled; `unify pool` makes"):
        load_study(folder)
    pool(places, folder)
    first.write_bytes(first.read_bytes()[:99])
    with pytest.raises(ValueError, match="get the folder anew"):
        load_study(folder)
    mine = tmp_path / "place0" / "runs" / "mine"
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="something else than a pooled study; name a new folder"):
        pool(places, mine)
    assert before == {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    assert isinstance(folder, Path)
