"""What a study says twice, and differently, is refused with the place."""

import pytest
from config_parts import write

from unify.config import ConfigError, load_study
from unify.config.study_conflicts import overlap

HEAD = "name: s\narms: {{a: {file}, b: {file}}}\n"
GRID = "grid: {optimizer.lr: [1.0e-3, 1.0e-2]}\n"
CLAIM = "claims: [{paper: p, says: s, metric: vqa/accuracy, better: a, worse: a}]\n"
COOLDOWNS = "cooldowns: {}\n"


def tune(space, more=""):
    return f"tune: {{metric: vqa/accuracy, trials: 3, space: {{{space}}}{more}}}\n"


def sweep(space):
    return f"sweep: {{metric: vqa/accuracy, space: {{{space}}}}}\n"


def problems(text, *words):
    try:
        load_study(text, words)
    except ConfigError as error:
        return [(problem.key, problem.message) for problem in error.problems]
    return []


@pytest.fixture
def study(folder):
    return lambda text: write(folder, "s.yaml", HEAD.format(file="good.yaml") + text)


@pytest.mark.parametrize("word", ["optimizer.lr=0.5", "--optimizer.lr=0.5", "optimizer={lr: 0.5}"])
def test_an_override_does_not_beat_the_grid(study, word):
    ((key, message),) = problems(study(GRID), word)
    assert key in ("optimizer", "optimizer.lr")
    assert "the grid sets optimizer.lr" in message
    assert not problems(study(GRID), "optimizer.warmup=0")


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (GRID + tune("optimizer.lr: [1, 2]"), "tune.space.optimizer.lr", "the grid sets"),
        (
            tune("optimizer.lr: {factor: 2}", ", set: {optimizer.lr: 1}"),
            "tune.space.optimizer.lr",
            "tune.set sets optimizer.lr",
        ),
        (tune("steps: [1, 2]"), "tune.space.steps", "may not differ"),
        (tune("seeds.init: [1, 2]"), "tune.space.seeds.init", "may not differ"),
        (tune("optimizer.lr: [1, 1]"), "tune.space.optimizer.lr", "twice"),
        (tune("optimizer.lr: {low: true, high: 2}"), "tune.space.optimizer.lr", "truth value"),
        ("grid: {optimizer.lr: [1, 2], optimizer: [{lr: 1}]}\n", "grid.optimizer.lr", "as well"),
        ("grid: [{optimizer.lr: 1, optimizer: {lr: 1}}]\n", "grid.optimizer.lr", "as well"),
        (
            tune("optimizer.lr: [1, 2], optimizer: [{lr: 1}, {lr: 2}]"),
            "tune.space.optimizer.lr",
            "as well",
        ),
        (
            tune("ema: [0.5]", ", set: {optimizer.lr: 1, optimizer: {lr: 2}}"),
            "tune.set.optimizer.lr",
            "as well",
        ),
        ("grid: {name: [x, y]}\n", "grid", "no setting of an experiment"),
        (CLAIM, "claims.0", "are both 'a'"),
        ("widths: {a: {like: a}}\n", "widths.a.like", "solved for, too"),
        ("widths: {a: {like: b}, b: {parameters: 9.0}}\n", "widths.a.like", "solved for, too"),
        ("controls: [{arm: a, than: a, expect: same}]\n", "controls.0", "are both 'a'"),
        (
            "grid: {image_sampling.guidance: [1, 2]}\n" + sweep("image_sampling.guidance: [3]"),
            "sweep.space.image_sampling.guidance",
            "the grid sets",
        ),
        (sweep("image_sampling.steps: [3, 3]"), "sweep.space.image_sampling.steps", "twice"),
        (f"{COOLDOWNS}grid: {{optimizer.schedule: [linear]}}\n", "grid", "set by `cooldowns`"),
        (
            COOLDOWNS + tune("cooldown.shape: [linear, cosine]"),
            "tune.space.cooldown.shape",
            "set by `cooldowns`",
        ),
        (f"{COOLDOWNS}set: {{optimizer: {{schedule: linear}}}}\n", "cooldowns", "has its own"),
    ],
)
def test_what_would_win_without_a_word_is_refused(study, text, key, message):
    found = problems(study(text))
    assert any(key == k and message in m for k, m in found), found


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (tune("optimizer.lr: {factor: 2}", ", set: {optimizer.warmup: -1}"), "tune.set", "range"),
        (tune("optimizer.lr: {factor: 2}", ", set: {optimizer.wwarmup: 1}"), "tune.set", "unknown"),
        (tune("optimizer.betas: [[0.9, 0.9], [1.5, 2]]"), "tune.space.optimizer.betas", "range"),
        (tune("optimizer.lrr: {factor: 2}"), "tune.space.optimizer.lrr", "no arm has it"),
    ],
)
def test_values_of_trials_are_checked_before_any_is_drawn(study, text, key, message):
    found = problems(study(text))
    assert any(key == k and message in m for k, m in found), found


def test_keys_overlap_where_one_holds_the_other():
    assert overlap("a.b", "a.b.c")
    assert overlap("a", "a")
    assert not overlap("a.b", "a.bc")
