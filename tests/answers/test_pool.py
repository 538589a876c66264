"""Replicates from several places, pooled: the answers of one study that trained them all."""

import html
import json

import pytest
from report_study import edit_json
from scored_study import EXACT, PASSPORT, write_scored_study

from unify.answers.answers_json import answers_content
from unify.answers.pool import pool
from unify.answers.publish import publish
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.commands.study import pool as pool_command
from unify.commands.study import report
from unify.runs.published_folder import PUBLISHED, read_published, write_published
from unify.support.atomic_files import write_atomically

ARMS = {"ar_vq": 0.5, "flow": 0.8, "dual": 0.6}
PLACES = ((2, 3), (0, 5), (1,))


@pytest.fixture
def places(tmp_path):
    """Three published folders of one study, each with seeds of its own."""
    return [place(tmp_path / f"place{n}", seeds) for n, seeds in enumerate(PLACES)]


def place(at, seeds, arms=ARMS, passport=PASSPORT, init=0, **info):
    folder = write_scored_study(at / "runs" / "mine", arms, seeds, passport, init, **info)
    publish(load_study(folder), at / "pub")
    return at / "pub"


def rewritten(folder, **content):
    """A published folder that says something else, with hashes that are right."""
    read = read_published(folder)
    whole = {**read.content, **content}
    kept = {k: v for k, v in whole.items() if k not in ("hash", "outcomes.npz") and v is not None}
    write_published(folder, kept, read.outcomes)
    return folder


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
        ({"passport": {**PASSPORT, "prompt_set": "bb"}}, "exact of ar_vq was not measured alike"),
        ({"passport": {**PASSPORT, "precision": "bf16"}}, "exact of ar_vq was not measured alike"),
        ({"init": -6}, "seeds 3 and 9 of ar_vq drew the same, so that they are one replicate"),
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
        key = f"flow-s{seed}"
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
    assert load_study(folder).info["tuned"] == ["flow-s0", "flow-s1"]
    assert set(json.loads((folder / "tuning.json").read_text())) == {"flow-s0", "flow-s1"}
    shared = [tuned(seed, 5, replicate="arm") for seed in (2, 3)]
    with pytest.raises(ValueError, match="use replicate: all"):
        pool(shared, tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"asked": None}, "has no asked: it was published by an older unify; publish it again"),
        ({"planned": None, "tuning": None}, "has no tuning and planned: it was published by an o"),
        ({"asked": [1]}, r"damaged \(asked is \[1\]\)"),
        ({"planned": "01"}, "damaged .planned is '01'"),
        ({"planned": [0, "1"]}, "damaged .planned is"),
        ({"planned": [7]}, "damaged .it has seeds? .*, and planned seed 7"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_folder_that_lacks_what_pooling_needs_is_refused(tmp_path, places, content, said, alone):
    rewritten(places[1], **content)
    with pytest.raises(ValueError, match=said):
        pool(places[1:2] if alone else places, tmp_path / "pooled")
    assert not (tmp_path / "pooled").exists()


def test_a_confirmatory_study_is_pooled_from_replicates_of_one_plan(tmp_path):
    about = {"preset": "confirmatory", "families": []}
    first, second = (place(tmp_path / f"p{s}", (s,), **about) for s in (0, 1))
    with pytest.raises(ValueError, match="they plan seed 0 and seed 1; run replicates of one plan"):
        pool([first, second], tmp_path / "pooled")
    rewritten(first, planned=[0, 1, 2])
    rewritten(second, planned=[0, 1, 2])
    assert load_study(pool([first, second], tmp_path / "pooled")).seeds_in_words == "2 of 3 seeds"


def test_a_part_that_each_place_trained_for_itself_is_no_shared_one(tmp_path):
    folders = [place(tmp_path / f"p{s}", (s,)) for s in (0, 1)]
    content = read_published(folders[1]).content
    for run in (run for arm in content["arms"].values() for run in arm["runs"]):
        run["needed"] = [{**run["needed"][0], "hash": "other"}]
    rewritten(folders[1], arms=content["arms"])
    with pytest.raises(ValueError, match="each trained vae for itself, and they differ"):
        pool(folders, tmp_path / "pooled")


def test_the_command_that_reproduces_it_has_the_words_of_the_places(tmp_path):
    words = {"file": "mine.yaml"}
    one = place(tmp_path / "p0", (0,), **words, overrides=["budget.steps=77", "seeds=[0]"])
    two = place(tmp_path / "p1", (1,), file="./mine.yaml", overrides=["seeds=[1]"])
    pool_command([one, two], tmp_path / "pooled")
    page = html.unescape((tmp_path / "pooled" / "report.html").read_text())
    assert "unify study mine.yaml budget.steps=77 'seeds=[0, 1]'" in page


def test_what_was_published_stays_whole_whatever_out_is(tmp_path, places):
    folder = pool(places, tmp_path / "pooled")
    inner = [folder / "replicates" / str(n) for n in (1, 0)]
    kept = [read_published(one).hash for one in inner]
    for folders, out in (
        (inner, folder),
        (places, places[0]),
        (places, places[0] / "in"),
        (places, tmp_path),
    ):
        with pytest.raises(ValueError, match="lie in each other; name another folder"):
            pool(folders, out)
    assert [read_published(one).hash for one in inner] == kept
    assert not (places[0] / "in").exists()


def test_fewer_folders_leave_none_of_before_and_another_study_none_at_all(tmp_path, places):
    folder = pool(places, tmp_path / "pooled")
    (folder / "notes.txt").write_text("mine")
    pool(places[:1], folder)
    assert [path.name for path in (folder / "replicates").iterdir()] == ["0"]
    assert (folder / "notes.txt").read_text() == "mine"
    other = write_scored_study(tmp_path / "other", {"zzz": 0.5}, (8,))
    publish(load_study(other), tmp_path / "pub")
    with pytest.raises(ValueError, match="something else than this pooled study"):
        pool([tmp_path / "pub"], folder)
    assert load_study(folder).arms == list(ARMS)


@pytest.mark.parametrize("at", range(3))
def test_one_that_was_stopped_is_made_again(tmp_path, places, monkeypatch, at):
    """Whatever was written last: what is there is no study, or the whole of one."""
    calls = iter(range(9))

    def stopped(*args):
        if next(calls) == at:
            raise OSError("no space left")
        return write_atomically(*args)

    pool(places[:1], tmp_path / "pooled")
    monkeypatch.setattr("unify.answers.pool.write_atomically", stopped)
    with pytest.raises(OSError, match="no space"):
        pool(places, tmp_path / "pooled")
    with pytest.raises(ValueError, match="is not a study"):
        load_study(tmp_path / "pooled")
    pool(places, tmp_path / "pooled")
    assert len(load_study(tmp_path / "pooled").seeds) == 5


@pytest.mark.parametrize("content", [b"{oops", b"[1]", b"\xff\xfe", b'{"name": "mine"}'])
def test_a_folder_of_something_else_is_refused(tmp_path, places, content):
    (tmp_path / "pooled").mkdir()
    (tmp_path / "pooled" / "study.json").write_bytes(content)
    with pytest.raises(ValueError, match="something else than this pooled study"):
        pool(places, tmp_path / "pooled")
    assert (tmp_path / "pooled" / "study.json").read_bytes() == content


def test_damaged_scores_of_one_replicate_keep_no_other_from_being_published(tmp_path):
    folder = write_scored_study(tmp_path / "mine", ARMS)
    (path,) = folder.glob("flow-s1-*/eval/scores.json")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="flow-s1"):
        study = load_study(folder)
    assert publish(study, tmp_path / "pub0", 0)
    with pytest.raises(ValueError, match="flow-s1"):
        publish(study, tmp_path / "pub1", 1)


def test_damage_and_another_folder_are_refused(tmp_path, places):
    folder = pool(places, tmp_path / "pooled")
    first = folder / "replicates" / "0" / PUBLISHED
    edit_json(folder / "study.json", pooled=[{"folder": "replicates/0", "hash": "0"}])
    with pytest.raises(ValueError, match="is not what was pooled; `unify pool` makes"):
        load_study(folder)
    pool(places, folder)
    info = json.loads((folder / "study.json").read_text())
    edit_json(folder / "study.json", arms={"flow": info["arms"]["flow"]})
    with pytest.raises(ValueError, match="lacks ar_vq, which was pooled"):
        load_study(folder)
    pool(places, folder)
    first.write_bytes(first.read_bytes()[:99])
    with pytest.raises(ValueError, match="get the folder anew"):
        load_study(folder)
    mine = tmp_path / "place0" / "runs" / "mine"
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"lie in each other|something else"):
        pool(places, mine)
    assert before == {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
