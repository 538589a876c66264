"""The script of the registered analysis, which imports nothing of unify, against unify's own."""

import importlib.util
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from scored_study import EXACT, PASSPORT, write_scored_study

from unify.analysis.multiple_tests import holm
from unify.analysis.paired_differences import crossed
from unify.analysis.sign_flips import sign_flip_p
from unify.answers.learned import learning_of
from unify.answers.publish import publish
from unify.answers.score_lines import Cell, Line
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.config.validation_metrics import scored_steps


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "prereg" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return loaded("analysis")


@pytest.fixture(scope="module")
def invented(script):
    return loaded("simulation").invented


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 9), st.integers(2, 30), st.integers(0, 10**6), st.sampled_from([0, 0.5, 2]))
def test_means_intervals_and_p_are_those_of_the_report(script, replicates, prompts, seed, spread):
    rng = np.random.default_rng(seed)
    shares = 1 / (1 + np.exp(-rng.normal(0, spread, (2, replicates, 1)) - rng.normal(size=prompts)))
    a, b = rng.random((2, replicates, prompts)) < shares
    test, ours = script.test_of("a", "b", a, b, 6), crossed(a, b)
    if ours.refusal:
        return
    assert test.mean == pytest.approx(ours.mean, abs=1e-12)
    assert test.simultaneous == pytest.approx(ours.interval_at(1 - 0.05 / 6), abs=1e-9)
    assert test.p == pytest.approx(ours.p, rel=1e-4, abs=1e-9)
    assert test.flip_p == pytest.approx(sign_flip_p(test.by_replicate))
    assert test.left_out[0] - 1e-12 <= test.mean <= test.left_out[1] + 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_that_of_the_report(script, ps):
    assert script.holm(ps) == pytest.approx(list(holm(ps)))


def test_published_replicates_are_read_in_their_order(script, tmp_path):
    study = load_study(write_scored_study(tmp_path / "mine", {"ar_vq": 0.5, "flow": 0.8}))
    for seed in study.seeds:
        publish(study, tmp_path / f"pub{seed}", seed)
    folders = [tmp_path / f"pub{seed}" for seed in (2, 0, 3, 1)]
    outcomes, gains, waits = script.read(folders, EXACT)
    assert waits == "not the sealed prompts", "a study without a pre-registration"
    for run in study.runs:
        assert np.array_equal(outcomes[run.arm][study.seeds.index(run.seed)], run.outcomes[EXACT])
    assert gains == {}, "the study has no rule"
    (one,) = [x for x in study_answers(study).primary if x.metric == EXACT]
    test = script.test_of("a", "b", outcomes[one.first], outcomes[one.second], 1)
    assert test.mean == pytest.approx(one.difference.mean)


def test_what_cannot_be_put_together_is_refused_and_what_is_missing_gets_no_words(script, tmp_path):
    study = load_study(write_scored_study(tmp_path / "mine", {"ar_vq": 0.9, "flow": 0.1}))
    for seed in study.seeds:
        publish(study, tmp_path / f"pub{seed}", seed)
    zero, one = tmp_path / "pub0", tmp_path / "pub1"
    with pytest.raises(SystemExit, match="seed 0 of ar_vq is there twice"):
        script.read([zero, zero], EXACT)
    outcomes, gains, waits = script.read([zero, one], EXACT)
    (test,) = script.family(outcomes, gains, [("ar_vq", "flow"), ("ar_vq", "mar")], waits)
    assert (test.words, test.reason) == ("not told apart", "2 replicates to come")
    assert test.adjusted_p == pytest.approx(min(1, 2 * test.p)), "of two registered tests"
    other = write_scored_study(
        tmp_path / "other", {"ar_vq": 0.9, "flow": 0.1}, (7,), {**PASSPORT, "prompt_set": "b"}
    )
    publish(load_study(other), tmp_path / "pub7")
    with pytest.raises(SystemExit, match="was measured otherwise"):
        script.read([zero, tmp_path / "pub7"], EXACT)
    (one / "outcomes.npz").write_bytes((zero / "outcomes.npz").read_bytes())
    with pytest.raises(SystemExit, match="is not the one that published"):
        script.read([one], EXACT)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4000), st.lists(st.floats(0, 1), min_size=4, max_size=4), st.booleans())
def test_an_arm_has_learned_by_the_script_where_it_has_by_the_report(script, steps, scores, whole):
    """Scores at the quarters of any number of steps, some of them lost."""
    at = sorted(scored_steps([0.25, 0.5, 0.75, 1.0], steps))
    curve = [{"step": step, EXACT: value} for step, value in zip(at, scores, strict=False)]
    curve = curve if whole else curve[1:]
    run = SimpleNamespace(seed=0, planned=steps, config={}, curve=curve)
    rule = {"gain": 0.05, "ratio": script.RATIO}  # any: that of the draft is never passed
    study = SimpleNamespace(info={"learned": rule}, runs_of=lambda arm: [run])
    row = {"metric": EXACT, "value": 0.5, "n": 9, "better": "higher"}
    theirs = learning_of(study, Line(EXACT, {"a": Cell({0: row})}), "a")
    gains = {"a": script.gain_of({"steps": steps, "curve": curve}, EXACT)}
    with mock.patch.object(script, "GAIN", rule["gain"]):
        ours = script.unlearned("a", np.full((1, 4), 0.5), gains)
    assert bool(ours) == bool(theirs.why)


def test_scores_of_the_sealed_prompts_get_words_and_others_none(script, tmp_path):
    commit = "a5" * 20
    named = {"preregistration": {"path": "plan.md", "commit": commit}}
    rule = {"learned": {"gain": 0.05, "ratio": 0.5}}
    waits = {}
    for name, of in (("yes", commit), ("no", "b6" * 20)):
        passport = {**PASSPORT, "sealed": f"plan.md at {of[:12]}"}
        folder, arms = tmp_path / name, {"ar_vq": 0.9, "flow": 0.1}
        study = load_study(write_scored_study(folder, arms, passport=passport, **named, **rule))
        publish(study, tmp_path / f"pub-{name}")
        _, gains, waits[name] = script.read([tmp_path / f"pub-{name}"], EXACT)
        assert gains == dict.fromkeys(arms, np.inf), "no score was kept on the way"
    assert waits == {"yes": "", "no": "not the sealed prompts"}


def test_a_folder_without_a_published_study_is_one_sentence(script, tmp_path):
    (tmp_path / "published.json").write_text("")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(SystemExit, match=f"{folder.name}: no published study: "):
            script.read([folder], EXACT)


def outcomes_of(*shares):
    """Arms a, b ... of eight replicates and 200 prompts, with these shares for each replicate."""
    rng = np.random.default_rng(0)
    each = [np.broadcast_to(share, 8)[:, None] for share in shares]
    return {arm: rng.random((8, 200)) < s for arm, s in zip("abcdefgh", each, strict=False)}


@pytest.mark.parametrize(
    ("shares", "gains", "words", "reason"),
    [
        ((0.8, 0.5), {}, "higher", ""),
        ((0.5, 0.8), {}, "lower", ""),
        ((0.5, 0.8), {"a": np.inf}, "not told apart", "a had not learned yet"),
        ((0.8, 0.5), {"a": np.inf}, "higher", ""),
        ((0.8, [0.5] * 7 + [0.2]), {}, "not told apart", "b had not learned yet"),
        ((0.99, 0.995), {}, "not told apart", "not testable"),
        ((0.01, 0.0), {}, "not told apart", "not testable"),
        (([0.4, 0.7] * 4, [0.7, 0.4] * 4), {}, "not told apart", ""),
    ],
)
def test_words(script, shares, gains, words, reason):
    (test,) = script.family(outcomes_of(*shares), gains, [("a", "b")])
    assert (test.words, test.reason) == (words, reason)


def test_equal_arms_are_called_equivalent_where_the_interval_is_narrow(script):
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 8, 2000)) < 0.9
    (test,) = script.family({"a": a, "b": b}, {}, [("a", "b")])
    assert test.words == "equivalent"


def test_without_an_effect_a_family_seldom_errs(script, invented):
    """At 5%, 60 families without any effect have more than 9 errors in one of 2,000 tries."""
    rng, errors = np.random.default_rng(2), 0
    for _ in range(60):
        made = invented(rng, 8, 60, 0.0, 0.3, 1.0)
        tests = script.family(made, {}, script.TESTS[script.DRAWING])
        errors += any(test.words in ("higher", "lower") for test in tests)
    assert errors <= 9
    told = script.family(invented(rng, 8, 400, 2.0, 0.1, 1.0), {}, [("mar", "transfusion")])
    assert told[0].words == "higher"
