"""Cool-downs from checkpoints of one run: what they are without it, bit by bit."""

import json

import pytest
from places import EXPERIMENTS

from unify.config import config_hash, load_recipe
from unify.runs.checkpoint_folder import step_of, steps
from unify.runs.folder import Run
from unify.runs.journal import Journal
from unify.schema.experiment import CoolDown, Optimizer
from unify.support.stop_protocol import Stopped
from unify.training.callbacks import EachStep
from unify.training.checkpointing import Checkpoints
from unify.training.optimizer import rate_factor
from unify.training.train_run import train
from unify.training.trunk import is_own, trunk_of

TRUNK = {"name": "t,trunk", "steps": 6, "keep": [3, 6]}


def recipe(folder, steps, start, trunk=None, **more):
    cooldown = json.dumps({"start": start, "shape": "linear", "trunk": trunk})
    words = [f"machine.runs={folder}", "machine.tracker=none", f"steps={steps}", "name=t"]
    words += ["optimizer.schedule=constant", "optimizer.warmup=2", f"cooldown={cooldown}"]
    words += ["logging.metrics_every=1", "logging.keep_checkpoints=1"]
    words += [f"{key}={value}" for key, value in more.items()]
    return load_recipe(str(EXPERIMENTS / "transfusion.yaml"), words, tiny=True)


def trained(config, watchers=()):
    said = []
    return train(config, said.append, watchers), said


class StopAt(EachStep):
    """Asks the run to stop after a step, as a signal does."""

    def __init__(self, step):
        self.step = step

    def each_step(self, trainer, module, step):
        if step == self.step:
            next(c for c in trainer.callbacks if isinstance(c, Checkpoints)).request()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Runs with a cool-down that were trained from their first step on, by their steps."""
    folder = tmp_path_factory.mktemp("alone")
    return {n: trained(recipe(folder, n, start))[0] for n, start in ((5, 3), (8, 6))}


@pytest.mark.slow
def test_branches_of_one_trunk_end_as_if_each_had_been_trained_alone(alone, tmp_path):
    configs = {n: recipe(tmp_path, n, start, TRUNK) for n, start in ((5, 3), (8, 6))}
    runs = {n: trained(config) for n, config in configs.items()}
    for n, (run, said) in runs.items():
        assert run.folder.name == alone[n].folder.name, "a trunk is no part of the hash"
        assert run.weights == alone[n].weights
        assert Journal(run.folder).records("train") == Journal(alone[n].folder).records("train")
        assert run.info["trunk"]["step"] == n - 2
        assert run.info["flops_per_step"] == alone[n].info["flops_per_step"]
        assert run.info["steps"] == n, "it counts the steps that it took over"
        assert any("goes on from" in line for line in said)
    (trunk,) = tmp_path.glob("*/t,trunk-s0-*")
    assert [step_of(path) for path in steps(trunk / "checkpoints")] == [3, 6]
    assert any("trained already" in line for line in runs[8][1]), "the trunk, once for both"
    share = Run(trunk).info["train_seconds"] * 3 / 6
    assert runs[5][0].info["train_seconds"] > share * 0.99
    rates = [record["lr"] for record in Journal(runs[5][0].folder).records("train")]
    top = max(rates)
    assert [rate / top for rate in rates] == pytest.approx([0.5, 1, 1, 1, 0.5])


@pytest.mark.slow
def test_a_branch_that_is_stopped_goes_on(alone, tmp_path):
    config = recipe(tmp_path, 8, 6, TRUNK)
    run, _ = trained(config, [StopAt(7)])
    assert run.info["state"] == "stopped"
    run, said = trained(config)
    assert any("resuming from" in line and "step-00000007" in line for line in said)
    assert run.weights == alone[8].weights


@pytest.mark.slow
def test_without_a_whole_checkpoint_a_branch_is_trained_from_its_first_step(alone, tmp_path):
    trained(recipe(tmp_path, 8, 6, TRUNK))
    (trunk,) = tmp_path.glob("*/t,trunk-s0-*")
    (trunk / "checkpoints/step-00000003/manifest.json").write_text("cut")
    run, said = trained(recipe(tmp_path, 5, 3, TRUNK))
    assert any("has no checkpoint up to step 3" in line for line in said)
    assert run.weights == alone[5].weights


def test_a_trunk_that_is_stopped_stops_its_branch(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "unify.training.train_run.fit", lambda run, recipe, *_: (recipe.steps - 1, None)
    )
    with pytest.raises(Stopped, match="t,trunk"):
        trained(recipe(tmp_path, 5, 3, TRUNK))


def test_the_hash_is_that_of_before_unless_the_schedule_is_another(tmp_path):
    plain = load_recipe(str(EXPERIMENTS / "transfusion.yaml"), [], tiny=True)
    before = {key: value for key, value in plain.items() if key != "cooldown"}
    before["optimizer"] = {k: v for k, v in plain["optimizer"].items() if k != "schedule"}

    def hashed(config):
        return config_hash(config, {}, "data")

    assert hashed(plain) == hashed(before)
    others = [recipe(tmp_path, 5, 3), recipe(tmp_path, 5, 2), recipe(tmp_path, 6, 3)]
    constant = {**others[0], "cooldown": None}
    assert len({hashed(config) for config in (plain, constant, *others)}) == 5
    assert hashed(recipe(tmp_path, 5, 3, TRUNK)) == hashed(others[0])


def test_a_trunk_is_the_run_without_the_cool_down(tmp_path):
    config = recipe(tmp_path, 5, 3, {**TRUNK, "scores_at": [2, 6]})
    config["logging"]["scores"] = {"metrics": ["a"], "at": [0.5], "evaluation": {}}
    trunk = trunk_of(config)
    assert (trunk["name"], trunk["steps"], trunk["cooldown"]) == ("t,trunk", 6, None)
    assert trunk["logging"]["keep_steps"] == [3, 6]
    assert [round(share * 6) for share in trunk["logging"]["scores"]["at"]] == [2, 6]
    unlike = {key for key in config if config[key] != trunk[key]}
    assert unlike == {"name", "steps", "cooldown", "logging"}
    assert trunk_of(recipe(tmp_path, 5, 3)) is None
    assert trunk_of(recipe(tmp_path, 5, 0, TRUNK)) is None


def test_a_branch_takes_over_the_records_that_it_would_have_written(tmp_path):
    config = recipe(tmp_path, 5, 3, TRUNK)
    scores = {"metrics": ["a"], "at": [0.5], "evaluation": {}}
    config["logging"] |= {"metrics_every": 2, "checkpoint_every": 3, "scores": scores}
    own = {"train": [2, 4], "health": [2, 4], "validation": [3], "curve": [2], "gradients": [1, 2]}
    for kind, wanted in own.items():
        every = range(1, 6) if kind != "gradients" else range(1, 3)
        assert [n for n in every if is_own({"step": n, "kind": kind}, config)] == wanted, kind
    config["logging"] |= {"metrics_every": 0, "scores": None}
    assert not any(is_own({"step": 4, "kind": kind}, config) for kind in ("train", "curve"))


def test_rates_are_constant_up_to_the_cool_down_and_end_where_they_say():
    settings = Optimizer(warmup=2, schedule="constant", final_lr=0.2)
    assert [rate_factor(step, 9, settings) for step in range(9)] == [0.5] + [1.0] * 8
    cooldown = CoolDown(5, "linear")
    factors = [rate_factor(step, 9, settings, cooldown) for step in range(10)]
    assert factors == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    cosine = [rate_factor(step, 9, settings, CoolDown(5, "cosine")) for step in range(10)]
    assert cosine[:6] == factors[:6]
    assert cosine[7] == pytest.approx(0.6)
    assert cosine[9] == pytest.approx(0.2)
    line = [rate_factor(step, 10, Optimizer(warmup=0, schedule="linear")) for step in (0, 5, 10)]
    assert line == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cooldown={start: 3}"], "write optimizer.schedule: constant, not cosine"),
        (
            ["cooldown={start: 8}", "optimizer.schedule=constant", "steps=8"],
            r"cooldown\.start is 8: no step of 8 is left",
        ),
    ],
)
def test_a_cool_down_that_cannot_be_is_refused(tmp_path, words, message):
    path = str(EXPERIMENTS / "transfusion.yaml")
    words = [*words, f"machine.runs={tmp_path}", "machine.tracker=none"]
    with pytest.raises(ValueError, match=message):
        train(load_recipe(path, words, tiny=True), lambda text: None)
