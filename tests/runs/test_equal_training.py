"""Equal trainings under two names are done once, and each is scored as it asks."""

import json

import numpy as np
import pytest
import yaml
from places import EXPERIMENTS

from unify.assembly.assemble import open_run
from unify.config import load_recipe
from unify.evaluation.score_run import evaluate
from unify.metrics.metric import Metric, proportion
from unify.runs.folder import Run
from unify.study.jobs import StudyRequest
from unify.study.plan import plan
from unify.study.run_study import run_study
from unify.training.train_run import train

pytestmark = pytest.mark.slow

METRIC = "{class: unify.metrics.shapes_images.TextToImage, prompts: 4, heldout: 0, geneval: 0}"
STUDY = f"""
name: NAME
arms:
  one: {EXPERIMENTS}/transfusion.yaml
  more_steps: {{base: {EXPERIMENTS}/transfusion.yaml, image_sampling: {{steps: 3}}}}
seeds: [0, 1]
set: {{evaluation: [{METRIC}], image_sampling: {{steps: 2}}, logging: {{samples_every: 1}}}}
"""


def written(tmp_path, name, **changes):
    path = tmp_path / f"{name}.yaml"
    text = STUDY.replace("NAME", name)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two studies after one another, and what each said."""
    folder = tmp_path_factory.mktemp("reuse")
    options = [f"machine.runs={folder}/runs"]
    first, second = written(folder, "first"), written(folder, "second")
    printed = {"first": [], "second": []}
    run_study(StudyRequest(first, options, tiny=True), printed["first"].append)
    left = plan(StudyRequest(second, options, tiny=True))
    run_study(StudyRequest(second, options, tiny=True), printed["second"].append)
    return folder, options, printed, left


def runs(folder, study, arm):
    result = sorted((folder / "runs" / study).glob(f"{arm}-s*"))
    assert len(result) == 2
    return result


def test_arms_that_differ_in_sampling_are_trained_once_and_scored_each(studies):
    folder, _, printed, _ = studies
    assert sum("trained already, as" in line for line in printed["first"]) == 2
    for one, other in zip(
        runs(folder, "first", "one"), runs(folder, "first", "more_steps"), strict=True
    ):
        facts, same = Run(one).info, Run(other).info
        assert "same_as" not in facts
        assert same["same_as"] == str(one)
        assert (facts["arm"], same["arm"]) == ("one", "more_steps")
        assert facts["seed"] == same["seed"]
        assert facts["weights"] == same["weights"]
        steps = {}
        for run in (one, other):
            stored = json.loads((run / "eval" / "scores.json").read_text())["rows"]
            assert {row["arm"] for row in stored} == {Run(run).info["arm"]}
            samplers = [row["passport"].get("sampler") for row in stored]  # a ceiling has none
            steps[run] = {sampler["steps"] for sampler in samplers if sampler}
        assert (steps[one], steps[other]) == ({2}, {3})


def test_the_page_says_whose_weights_an_arm_has(studies):
    page = (studies[0] / "runs" / "first" / "report.html").read_text()
    assert "those of <code>first/one</code>" in page


def test_another_study_trains_nothing_that_is_there(studies):
    folder, _, printed, left = studies
    assert sum("trained already, as" in line for line in printed["second"]) == 4
    assert {left.left(arm) for arm in left.arms} == {0.0}
    assert left.states("one") == {0: "finished", 1: "finished"}
    ours, theirs = runs(folder, "second", "one")[0], runs(folder, "first", "one")[0]
    kept = (ours / "journal.jsonl").read_text().splitlines()
    trained = [line for line in kept if json.loads(line)["kind"] == "train"]
    assert trained
    assert set(trained) < set((theirs / "journal.jsonl").read_text().splitlines())
    assert sum(json.loads(line)["kind"] == "eval" for line in kept) == 1, "its own scores"


def test_a_reused_run_outlives_the_one_it_came_from(studies, tmp_path):
    from shutil import copytree, rmtree

    folder = studies[0]
    copytree(folder / "runs", tmp_path / "runs")
    rmtree(tmp_path / "runs" / "first")
    run, _, recipe = open_run(runs(tmp_path, "second", "more_steps")[1], trusted_files=True)
    assert recipe.model.source_hash == run.info["weights"]


def test_other_settings_of_training_are_another_training(studies):
    folder, options, _, _ = studies
    other = written(folder, "other", samples_every="metrics_every")  # what is recorded counts too
    assert plan(StudyRequest(other, options, tiny=True)).states("one") == {
        0: "missing",
        1: "missing",
    }
    seeds = written(folder, "seeds", **{"[0, 1]": "[2]"})
    left = plan(StudyRequest(seeds, options, tiny=True))
    assert left.states("one") == {2: "missing"}
    assert left.states("more_steps") == {2: "with one"}
    assert left.left("more_steps") == 0.0


class Counted(Metric):
    """Scores how often it was measured."""

    tasks = frozenset({"text_to_image"})

    def __init__(self, name, timed):
        self.name, self.timed, self.times = name, timed, 0

    def measure(self, subject):
        self.times += 1
        return [proportion(self.name, [True] * self.times)], []


def test_what_takes_a_quiet_machine_is_added_later_and_nothing_is_measured_twice(studies):
    run, config, recipe = open_run(runs(studies[0], "first", "one")[0], trusted_files=True)
    quiet, any_time = Counted("speed/x", True), Counted("score/x", False)
    recipe.evaluation = [any_time, quiet]
    asked = {**config, "evaluation": ["both"]}
    for _ in range(2):
        rows = evaluate(run, recipe, asked, untimed=True)
        assert [row["metric"] for row in rows] == ["score/x"]
    assert (any_time.times, quiet.times) == (1, 0)
    for _ in range(2):
        rows = evaluate(run, recipe, asked)
        assert [row["metric"] for row in rows] == ["score/x", "speed/x"]
    assert evaluate(run, recipe, asked, untimed=True) == rows, "what is there is kept"
    assert (any_time.times, quiet.times) == (1, 1)
    with np.load(run.folder / "eval" / "outcomes.npz") as outcomes:
        assert "score/x" in outcomes.files
    evaluate(run, recipe, asked, again=True)
    assert (any_time.times, quiet.times) == (2, 2)


def test_a_run_of_another_checkout_is_opened_by_its_own_paths(tmp_path):
    """What it needs is there under another path: same weights, so the same training."""
    printed = ["machine.tracker=none", f"machine.runs={tmp_path}/runs", "evaluation=[]"]
    made = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        base = yaml.safe_load((EXPERIMENTS / "tokenizers" / "shapes_text.yaml").read_text())
        base["base"] = [str(EXPERIMENTS / "base.yaml"), str(EXPERIMENTS / "data" / "shapes.yaml")]
        (tmp_path / place / "text.yaml").write_text(yaml.safe_dump(base))
        one = tmp_path / place / f"{place}.yaml"
        one.write_text(
            f"base: {EXPERIMENTS}/transfusion.yaml\n"
            "tiny: {model: {text: {class: unify.tokenizers.text.BPE, vocab_size: 384, "
            "weights: {run: text.yaml}}}}\n"
        )
        config = load_recipe(one, printed, tiny=True)
        made.append(train(config, lambda text: None))
    assert made[1].info["same_as"] == str(made[0].folder)
    assert made[1].info["needed"].keys() == {str(tmp_path / "there" / "text.yaml")}
    open_run(made[1].folder)


def test_what_cannot_be_taken_is_trained(studies, tmp_path):
    from shutil import copytree, rmtree

    folder = studies[0]
    copytree(folder / "runs", tmp_path / "runs")
    rmtree(tmp_path / "runs" / "second")
    path = written(tmp_path, "more", **{"[0, 1]": "[0]"})
    place = [f"machine.runs={tmp_path}/runs", "machine.tracker=none"]

    def state():
        return plan(StudyRequest(path, place, tiny=True)).states("one")

    mine = ["machine.tracker=none", "machine.reuse=false"]
    assert plan(StudyRequest(path, [*place, *mine], tiny=True)).states("one") == {0: "missing"}
    assert state() == {0: "finished"}
    for one in runs(tmp_path, "first", "one") + runs(tmp_path, "first", "more_steps"):
        (one / "config.yaml").write_text("evaluation: [{class: gone")
    assert state() == {0: "missing"}, "its settings cannot be read"
    for one in runs(tmp_path, "first", "one") + runs(tmp_path, "first", "more_steps"):
        rmtree(one / "export")
    assert state() == {0: "missing"}


@pytest.mark.fault(27)
def test_processes_at_once_do_not_train_one_training_twice(studies):
    folder, options, _, _ = studies
    path, printed = written(folder, "third", **{"[0, 1]": "[3]"}), []
    run_study(StudyRequest(path, options, tiny=True, at_once=2), printed.append)
    begun = [line for line in printed if line.endswith("parameters")]
    assert len(begun) == 1
    assert "one seed 3" in begun[0]
    assert (folder / "runs/third/results.json").is_file()
