"""An arm of one's own against a published one: paired where draws are shared, else independent."""

from copy import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_study import edit_json
from scored_study import EXACT, LOSS, PASSPORT, SOURCE, SPEED, write_scored_study

from unify.answers.answers_json import answers_content
from unify.answers.differences import comparisons
from unify.answers.not_matched import not_matched
from unify.answers.publish import publish
from unify.answers.published_arms import load_published
from unify.answers.score_lines import score_lines
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study, with_published
from unify.answers.summary import summary
from unify.report.page import render
from unify.report.table_files import as_csv, markdown

ARMS = {"ar_vq": 0.5, "flow": 0.8}


@pytest.fixture
def published(tmp_path):
    """The published folder of a study of two arms and four seeds."""
    publish(load_study(write_scored_study(tmp_path / "runs" / "theirs", ARMS)), tmp_path / "pub")
    return tmp_path / "pub"


def against(folder, published):
    return with_published(load_study(folder), load_published(published))


def of_pair(study, metric, second):
    """The comparison of the study's first arm with a published one on a metric."""
    answers = study_answers(study)
    some = [*answers.primary, *answers.others]
    pair = (metric, study.arms[0], f"published/{second}")
    (one,) = [x for x in some if (x.metric, x.first, x.second) == pair]
    return one


def test_an_arm_against_its_published_self_gives_the_difference_inside_the_study(
    tmp_path, published
):
    whole = tmp_path / "runs" / "theirs"
    inside = study_answers(load_study(whole))
    for one in (*inside.primary, *inside.others):
        other = of_pair(against(whole, published), one.metric, one.second)
        assert one.difference == other.difference
        assert one.seeds == other.seeds == [0, 1, 2, 3]
        assert one.interval == other.interval
    assert {one.metric for one in (*inside.primary, *inside.others)} == {EXACT, LOSS}


def test_replicates_under_other_seeds_are_independent_and_all_are_used(tmp_path, published):
    mine = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7}, seeds=(0, 1, 2), init=50)
    study = against(mine, published)
    one = of_pair(study, EXACT, "flow")
    said = "independent replicates, not paired: seeds 0 to 2 of mine and seeds 0 to 3 of published/"
    assert one.difference.method == "independent replicates, 3 and 4 seeds x 32 prompts"
    assert one.notes[0].startswith(said)
    assert one.sign_flip_p is one.detectable is one.seeds_needed is None
    means = [np.mean([r["value"] for r in study.rows if (r["arm"], r["metric"]) == (arm, EXACT)])
             for arm in ("mine", "published/flow")]  # fmt: skip
    assert one.difference.mean == pytest.approx(means[0] - means[1])
    page, text = render(study), markdown(study_answers(study), "")
    assert said in page
    assert said in text


def test_the_same_seeds_are_paired_and_a_seed_too_few_is_named(tmp_path, published):
    mine = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7}, seeds=(0, 1, 2))
    one = of_pair(against(mine, published), EXACT, "ar_vq")
    assert one.seeds == [0, 1, 2]
    assert "seed 3 left out: mine is not trained" in one.notes
    assert "seed by seed: both have the same seeds and data by their configurations" in one.notes


@pytest.mark.parametrize(
    ("seeds", "paired"), [((0, 1), True), ((2, 3, 4, 5), False), ((1, 2, 3, 4), True)]
)
def test_seeds_are_paired_where_enough_are_shared(tmp_path, published, seeds, paired):
    mine = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7}, seeds=seeds)
    one = of_pair(against(mine, published), EXACT, "flow")
    assert ("independent" in one.difference.method) != paired


def test_one_number_for_unlike_data_pairs_nothing(tmp_path, published):
    mine = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7})
    for run in mine.glob("mine-*"):
        edit_json(run / "run.json", source="another")
    assert "independent" in of_pair(against(mine, published), EXACT, "flow").difference.method


@pytest.mark.parametrize(
    ("key", "value"), [("prompt_set", "bb22"), ("metric_version", 4), ("checker", "fitting 2")]
)
def test_what_was_measured_otherwise_is_refused_by_name(tmp_path, published, key, value):
    mine = write_scored_study(
        tmp_path / "runs" / "mine", {"mine": 0.7}, passport=PASSPORT | {key: value}
    )
    study = against(mine, published)
    primary = study_answers(study).primary
    assert all(one.difference is None for one in primary)
    reason = f"not measured alike: mine with {key}: {value} and published/flow with {key}: "
    assert any(one.reason.startswith(reason) for one in primary)
    assert reason in render(study)


def test_another_unify_is_compared_where_the_metric_states_its_version(tmp_path, published):
    mine = write_scored_study(
        tmp_path / "runs" / "mine", {"mine": 0.7}, passport=PASSPORT | {"version": "0.2.0"}
    )
    study = against(mine, published)
    assert of_pair(study, EXACT, "flow").difference is not None
    said = "Version of unify that scored: 0.2.0 (mine); 0.1.0 (published/ar_vq and published/flow)."
    assert said in not_matched(study)
    older = {k: v for k, v in PASSPORT.items() if k != "metric_version"}
    write_scored_study(tmp_path / "runs" / "old", {"mine": 0.7}, passport=older)
    one = study_answers(against(tmp_path / "runs" / "old", published)).primary[0]
    assert "mine with metric_version: not stated" in one.reason


@pytest.mark.parametrize(("source", "refused"), [(SOURCE, False), ("another", True)])
def test_without_a_digest_of_prompts_the_data_decide(tmp_path, source, refused):
    bare = {k: v for k, v in PASSPORT.items() if k != "prompt_set"}
    theirs = write_scored_study(tmp_path / "runs" / "theirs", ARMS, passport=bare)
    publish(load_study(theirs), tmp_path / "pub")
    mine = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7}, passport=bare)
    for run in mine.glob("mine-*"):
        edit_json(run / "run.json", source=source)
    one = of_pair(against(mine, tmp_path / "pub"), EXACT, "flow")
    assert (one.difference is None) == refused
    assert refused == one.reason.startswith(f"not the same prompts: {EXACT} keeps no digest")


def test_pairs_and_ranks_are_of_own_arms_against_published_ones(tmp_path, published):
    mine = write_scored_study(
        tmp_path / "runs" / "mine", {"a": 0.7, "b": 0.6, "again": 0.7},
        controls=[{"arm": "again", "expect": "same", "than": "a"}],
    )  # fmt: skip
    study = against(mine, published)
    theirs = ["published/ar_vq", "published/flow"]
    assert study.pairs == [("a", "b"), *((arm, other) for arm in "ab" for other in theirs)]
    study.info["baseline"] = "published/flow"
    assert study.pairs == [("a", "published/flow"), ("b", "published/flow")]
    study.info["baseline"] = "a"
    assert study.pairs == [("b", "a"), *((arm, "a") for arm in theirs)]
    study.info["baseline"] = "published/gone"
    assert study.pairs == []


def test_a_claim_may_name_a_published_arm(tmp_path, published):
    claim = {"paper": "P", "says": "s", "metric": EXACT, "better": "mine"}
    mine = write_scored_study(
        tmp_path / "runs" / "mine", {"mine": 1.2}, claims=[{**claim, "worse": "published/ar_vq"}]
    )
    study = against(mine, published)
    assert study_answers(study).claims[0].judgement == "agrees"
    alone = study_answers(load_study(mine)).claims[0]
    assert alone.judgement == "not measured: the study has no arm published/ar_vq"


def test_published_arms_are_told_from_own_ones_everywhere(tmp_path, published):
    mine = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7}, init=50)
    study = against(mine, published)
    answers = study_answers(study)
    content = answers_content(answers)
    assert [one["arm"] for one in content["published"]] == ["published/ar_vq", "published/flow"]
    assert {one["study"] for one in content["published"]} == {"theirs"}
    assert content["published"][0]["commits"] == ["d34db33fcafe"]
    said = "Compared with what was published, and not trained or scored again: published/ar_vq and"
    assert said in summary(answers)
    assert "1 arm (mine), 4 seeds each." in summary(answers)
    page = render(study)
    assert "published; not trained again" in page
    assert "theirs, by unify 0.1.0, commit d34db33fcafe" in page
    assert "unify train -c runs/mine/mine-s0" in page
    assert "unify train -c runs/mine/against" not in page
    assert "published" not in as_csv(study)
    speeds = {row["arm"] for row in study.rows if row["metric"] == SPEED}
    assert speeds == {"mine"}, "a speed is of the machine that it was measured on"


def test_what_does_not_match_is_listed(tmp_path, published):
    mine = write_scored_study(tmp_path / "runs" / "mine", {"mine": 0.7}, seeds=(0, 1, 2), init=50)
    for run in mine.glob("mine-*"):
        edit_json(run / "run.json", data="other", steps=40, needed={})
    edit_json(mine / "study.json", replicate="all")
    listed = " ".join(not_matched(against(mine, published)))
    for said in (
        "What a seed trains anew: all that its arm starts from, too (mine); its arm alone (publ",
        "Replicates: mine seeds 0 to 2; published/ar_vq and published/flow seeds 0 to 3.",
        "Data by their fingerprint: other (mine); da7ada7a (published/ar_vq and published/flow).",
        "FLOPs of training: mine 40 G",
        "Tokenizers and other runs needed: mine none",
    ):
        assert said in listed
    assert "data.source.path" not in listed, "of a path, the last name counts"
    assert "No run" not in listed


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["mine", "published/flow"]), st.integers(0, 3)),
        st.sampled_from(["no row", "null", "no outcomes", "few trials", "other prompts"]),
        max_size=5,
    ),
    st.sampled_from([0, 50]),
)
def test_whatever_is_missing_is_said(memory, faults, init):
    study = memory(init)
    rows = []
    for row in study.rows:
        fault = faults.get((row["arm"], row["seed"]), "")
        row = {**row, "passport": dict(row["passport"])}
        if fault == "null":
            row["value"] = None
        if fault == "other prompts":
            row["passport"]["prompt_set"] = "other"
        rows += [] if fault == "no row" else [row]
    for run in study.runs:
        fault, own = faults.get((run.arm, run.seed), ""), run.outcomes
        cut = {} if fault == "no outcomes" else {name: some[:9] for name, some in own.items()}
        run.outcomes = cut if fault in ("no outcomes", "few trials") else own
    study.rows = rows
    for one in comparisons(study, score_lines(rows))[0]:  # two where both arms have other prompts
        assert (one.difference is None) == bool(one.reason)
        assert one.verdict or one.untestable
        if one.difference is not None:
            assert any("seed by seed" in note or "independent" in note for note in one.notes)
            assert (one.difference.prompts is None) == any("by seeds" in n for n in one.notes)


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """memory(init): a study against a published one, read once and copied."""
    folder = tmp_path_factory.mktemp("memory")
    theirs = write_scored_study(folder / "runs" / "theirs", {"flow": 0.8})
    publish(load_study(theirs), folder / "pub")
    read = {}
    for init in (0, 50):
        mine = write_scored_study(folder / "runs" / f"mine{init}", {"mine": 0.7}, init=init)
        read[init] = against(mine, folder / "pub")

    def of(init):
        study = copy(read[init])
        study.runs = [copy(run) for run in study.runs]
        return study

    return of
