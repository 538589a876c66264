"""Sampler settings by a sweep: which are tried, and that the best one scores a run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from unify.answers.study_records import load_study
from unify.config import ConfigError
from unify.metrics.metric import Score
from unify.report.page import render
from unify.runs.folder import Run, write_json
from unify.runs.sampler_settings import read_settings
from unify.schema.study import Sweep
from unify.study import sampler_sweep
from unify.study.arms import resolve_arms, resolve_jobs
from unify.study.jobs import StudyRequest
from unify.study.run_study import run_study
from unify.study.sampler_sweep import at_setting, best_config, draw_settings, settled_config

METRIC = "text_to_image/exact"
IMAGES = {"class": "unify.metrics.shapes_images.TextToImage", "prompts": 8, "geneval": 3}
SPACE = {
    "image_sampling.guidance": [1, 1.5, 2.5],
    "image_sampling.temperature": {"low": 0.5, "high": 1.5},
}
SWEEP = {"metric": METRIC, "settings": 4, "space": SPACE, "evaluation": {"prompts": 4}}


def jobs_of(path, *words):
    request = StudyRequest(path, list(words), tiny=True)
    return resolve_jobs(request, *resolve_arms(request))


def test_settings_are_drawn_once_each_and_alike_for_arms_that_share_a_key(study):
    path = study(sweep=SWEEP, set={"evaluation": [IMAGES]})
    codes, flow = jobs_of(path)
    assert len(codes.sweep.values) == 4
    assert codes.sweep.values[0] == {}, "the arm as it is"
    assert all(set(values) == set(SPACE) for values in codes.sweep.values[1:])
    assert len({json.dumps(values) for values in codes.sweep.values}) == 4
    assert all(set(values) <= {"image_sampling.guidance"} for values in flow.sweep.values)
    own = flow.config["image_sampling"]["guidance"]
    tried = [v.get("image_sampling.guidance", own) for v in flow.sweep.values]
    assert sorted(tried) == sorted({own, 1, 1.5, 2.5}), "all of a space that has no more"
    assert [node["split"] for node in codes.sweep.evaluation] == ["validation"]
    asked = [(n["prompts"], n["heldout"], n["geneval"]) for n in codes.sweep.evaluation]
    assert asked == [(4, 0, 3)]


def test_replicates_draw_settings_of_their_own_and_others_share_them(study):
    more = {"sweep": SWEEP, "set": {"evaluation": [IMAGES]}, "seeds": [0, 1]}
    shared = jobs_of(study(("ar_vq",), **more))
    assert shared[0].sweep.values == shared[1].sweep.values
    whole = jobs_of(study(("ar_vq",), replicate="all", **more))
    assert whole[0].sweep.values == shared[0].sweep.values
    assert whole[1].sweep.values != shared[1].sweep.values


def test_a_setting_changes_its_sampler_alone_and_is_checked(study):
    (job,) = jobs_of(study(("ar_vq",), sweep=SWEEP))
    changed = at_setting(job.config, {"image_sampling.guidance": 2.5, "text_sampling.top_k": 3})
    assert changed["image_sampling"] == {**job.config["image_sampling"], "guidance": 2.5}
    assert changed["text_sampling"]["top_k"] == 3
    assert {k: v for k, v in changed.items() if "sampling" not in k} == {
        k: v for k, v in job.config.items() if "sampling" not in k
    }
    sweep = Sweep(METRIC, {"image_sampling.guidance": ["wide"]})
    with pytest.raises(ConfigError, match="guidance"):
        draw_settings(sweep, job.config)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": {"optimizer.lr": [0.1]}}, r"sweep\.space\.optimizer\.lr: no arm has it"),
        ({"space": {"image_sampling.top_k": [3]}}, "transfusion has none of these"),
        ({"space": {"image_sampling.guidance": [-1]}}, r"guidance: -1(\.0)? is out of range"),
        ({"space": {"image_sampling.guidance": 2}}, "give a list to choose from"),
        ({"settings": 1}, "sweep"),
        ({"metric": "text_to_image/exakt"}, r"sweep\.metric: no arm measures"),
        ({"evaluation": {"promt": 3}}, r"promt: no metric of text_to_image/exact takes it"),
        ({"evaluation": {"prompts": 0}}, r"sweep\.evaluation\.prompts"),
        ({"evaluation": {"sealed": "x"}}, r"sealed: no metric of text_to_image/exact takes it"),
    ],
)
def test_what_no_sampler_or_metric_takes_is_refused(study, changed, message):
    path = study(sweep={**SWEEP, **changed}, set={"evaluation": [IMAGES]})
    with pytest.raises(ValueError, match=message):
        jobs_of(path)


@pytest.fixture
def trained(study, tmp_path, monkeypatch):
    """A run that counts as trained, its job, and what each setting scores when it is measured."""
    path = study(("ar_vq",), sweep=SWEEP, set={"evaluation": [IMAGES]})
    (job,) = jobs_of(path)
    run = Run(tmp_path / "ar_vq-s0-abc")
    run.folder.mkdir()
    write_json(run.folder / "run.json", {"state": "finished", "weights": "aa", "seed": 0})
    measured = []

    def measure(recipe, facts, metrics):
        guidance = recipe.image_sampling["guidance"]
        measured.append(dict(recipe.image_sampling))
        if len(measured) == 4 and "stop" in job.config.get("tiny", {}):
            raise KeyboardInterrupt
        score = Score(METRIC, guidance / 10, 4, better="higher", passport={"precision": "32-true"})
        return [score, Score("x/y", 9.0, 4)], []

    @replace_dataclass
    def opened(image_sampling, text_sampling):
        return SimpleNamespace(evaluation=[])

    monkeypatch.setattr(sampler_sweep, "measure", measure)
    monkeypatch.setattr(sampler_sweep, "open_run", lambda *_, **__: (None, None, opened))
    monkeypatch.setattr(sampler_sweep, "replace", opened.replace)
    return run, job, measured


def replace_dataclass(_):
    """Stands for a built recipe, of which a sweep sets the samplers."""

    def change(thing, **changed):
        if isinstance(thing, SimpleNamespace):
            return SimpleNamespace(**{**vars(thing), **changed})
        return replace(thing, **changed)

    return SimpleNamespace(evaluation=[], replace=change)


def test_the_best_setting_is_kept_with_all_that_were_tried_and_taken_again(trained):
    run, job, measured = trained
    assert best_config(run, job) is None, "nothing was tried yet"
    config = settled_config(run, job, lambda _: None)
    tried = read_settings(run.folder)
    scores = [setting.score for setting in tried.settings]
    assert [s.values for s in tried.settings] == list(job.sweep.values)
    assert len(measured) == 4
    assert tried.best == scores.index(max(scores))
    assert (tried.metric, tried.better, tried.settings[0].n) == (METRIC, "higher", 4)
    assert config["image_sampling"]["guidance"] / 10 == max(scores)
    assert config["evaluation"] == job.config["evaluation"], "final scores are of other prompts"
    assert settled_config(run, job, lambda _: None) == best_config(run, job) == config
    assert len(measured) == 4, "scored once"


def test_a_sweep_that_was_killed_goes_on_where_it_was(trained, monkeypatch):
    run, job, measured = trained
    monkeypatch.setitem(job.config, "tiny", {"stop": True})
    with pytest.raises(KeyboardInterrupt):
        settled_config(run, job, lambda _: None)
    assert len(read_settings(run.folder).settings) == 3
    assert best_config(run, job) is None
    settled_config(run, job, lambda _: None)
    assert measured[3:] == [measured[3], measured[3]], "the one that was cut short, and no other"
    longer = replace(job, sweep=replace(job.sweep, values=(*job.sweep.values, {SWEEP_KEY: 9.0})))
    assert best_config(run, longer) is None
    assert settled_config(run, longer, lambda _: None)["image_sampling"]["guidance"] == 9.0
    assert len(measured) == 6, "one setting more"


SWEEP_KEY = "image_sampling.guidance"


def test_other_weights_precision_or_metric_are_another_sweep(trained):
    run, job, measured = trained
    settled_config(run, job, lambda _: None)
    machine = {**job.config["machine"], "precision": "bf16-mixed"}
    assert best_config(run, replace(job, config={**job.config, "machine": machine})) is None
    assert best_config(run, replace(job, sweep=replace(job.sweep, metrics=("x/y",)))) is None
    run.update(weights="bb")
    assert best_config(run, job) is None
    settled_config(run, job, lambda _: None)
    assert len(measured) == 8


def test_what_was_tried_and_edited_is_refused(trained):
    run, job, _ = trained
    settled_config(run, job, lambda _: None)
    path = run.folder / "eval" / "settings.json"
    path.write_text(path.read_text().replace('"best": ', '"best": 0'))
    with pytest.raises(ValueError, match=r"settings\.json is damaged .*; remove it"):
        best_config(run, job)


def test_a_setting_that_fails_has_no_score_and_all_that_fail_are_an_error(trained, monkeypatch):
    run, job, _ = trained
    whole, calls = sampler_sweep.measure, []

    def measure(*given):
        calls.append(1)
        if len(calls) in broken:
            raise ValueError("no such guidance")
        return whole(*given)

    monkeypatch.setattr(sampler_sweep, "measure", measure)
    broken = {2}
    settled_config(run, job, lambda _: None)
    second = read_settings(run.folder).settings[1]
    assert (second.score, second.error) == (None, "no such guidance")
    run.update(weights="bb")
    broken = range(99)
    with pytest.raises(ValueError, match="no setting of ar_vq seed 0 has a score: no such"):
        settled_config(run, job, lambda _: None)


@pytest.mark.slow
def test_a_study_scores_each_run_at_its_best_setting(study, tmp_path):
    space = {"image_sampling.guidance": [1, 3], "image_sampling.steps": [2, 3]}
    sweep = {"metric": "text_to_image/unreadable", "settings": 3, "space": space}
    images = {**IMAGES, "geneval": 0, "heldout": 0}
    path = study(sweep=sweep, set={"evaluation": [images]}, seeds=[0, 1], primary=[METRIC])
    words = [f"machine.runs={tmp_path / 'runs'}", "machine.tracker=none"]
    request = StudyRequest(path, words, tiny=True, only="trans*")
    made = run_study(request, lambda text: None)
    assert not made.failed
    record = load_study(made.folder)
    assert len(record.runs) == 2
    for run in record.runs:
        tried = read_settings(run.folder)
        values = tried.settings[tried.best].values
        own = {f"image_sampling.{k}": v for k, v in run.config["image_sampling"].items()}
        assert own == {**own, **values}
        rows = [row for row in record.rows if row["seed"] == run.seed and row["metric"] == METRIC]
        assert rows[0]["passport"]["sampler"]["guidance"] == own["image_sampling.guidance"]
    assert "Sampler settings" in render(record)
    again: list[str] = []
    run_study(request, again.append)
    assert not any("trying" in line or "evaluating" in line for line in again)
