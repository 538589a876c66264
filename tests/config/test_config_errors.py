"""Configuration: what is wrong is named with file, line, key and remedy; nothing is built."""

import time
from pathlib import Path
from typing import Any

import pytest
from config_parts import GOOD, built, fill, message, write

from unify.config import (
    ConfigError,
    build,
    check_file,
    load_cluster,
    load_recipe,
    load_study,
)
from unify.schema.experiment import Optimizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


# name: (what is replaced, by what, key, remedy)

PLAIN, CODEC = "./parts.py:Plain", "{class: ./parts.py:Codec}"
TRUNK, WEIGHTS = "model.trunk.class", "model.codec.weights"
BROKEN = {
    "unknown top key": ("steps: 50", "stepz: 50", "stepz", "did you mean 'steps'?"),
    "typo in a part": ("dim: 16", "dimm: 16", "model.trunk.dimm", "did you mean 'dim'?"),
    "what a class takes": ("dim: 16", "zzz: 16", "model.trunk.zzz", "Plain takes dim, mode, act"),
    "typo in a dataclass": ("lr: 1e-3", "learn: 1", "optimizer.learn", "Optimizer takes lr, betas"),
    "string for float": ("1e-3", "'1e-4'", "optimizer.lr", "write 1e-4 without quotes"),
    "word for float": ("1e-3", "fast", "optimizer.lr", "write a number"),
    "string for int": ("steps: 50", "steps: '50'", "steps", "write 50 without quotes"),
    "float for int": ("steps: 50", "steps: 5.5", "steps", "write a whole number"),
    "bool for int": ("steps: 50", "steps: true", "steps", "expected int, not True"),
    "null for int": ("steps: 50", "steps:", "steps", "expected int, not None"),
    "number for str": ("steps: 50", "study: 3", "study", "expected str, not 3"),
    "list for number": ("steps: 50", "steps: [1]", "steps", "expected int, not [1]"),
    "number for mapping": ("{lr: 1e-3}", "3", "optimizer", "expected Optimizer, not 3"),
    "mapping for list": ("[{class: ./parts.py:Speed}]", "{}", "evaluation", "a list of Metric"),
    "number in a list": ("[{class: ./parts.py:Speed}]", "[3]", "evaluation.0", "`class:` (Metric)"),
    "wrong length": ("lr: 1e-3", "betas: [0.9]", "optimizer.betas", "a list of 2 (float, float)"),
    "wrong item": ("lr: 1e-3", "betas: [0.9, x]", "optimizer.betas.1", "write a number"),
    "wrong dict value": ("caption: 2", "caption: two", "data.tasks.caption", "write a number"),
    "bad Literal": ("32-true", "32-tru", "machine.precision", "did you mean '32-true'?"),
    "bad Literal in a part": ("dim: 16", "mode: 3", "model.trunk.mode", "one of 'fast', 'exact'"),
    "union": ("head: {size: 5}", "rate: [1]", "model.rate", "expected float or null, not [1]"),
    "missing reference": ("50", "${stepz}", "steps", "'stepz' not found; correct the reference"),
    "reference cycle": ("50", "${optimizer.warmup}\nema: ${ema}", "ema", "Recursive interpolation"),
    "reference to its parent": (
        "dim: 16",
        "dim: '${model}'",
        "model.trunk.dim",
        "cannot be resolved",
    ),
    "eval resolver": ("50", "${eval:'1+1'}", "steps", "write ${key.sub} or ${oc.env:NAME}"),
    "nested resolver": ("50", "${oc.env:${study}}", "steps", "${oc.env:NAME}; nothing else is run"),
    "open reference": ("50", "'${study'", "steps", "write ${key.sub}"),
    "no variable": ("50", "${oc.env:NOT_SET_AT_ALL}", "steps", "NOT_SET_AT_ALL"),
    "base cycle": ("model:\n", "base: good.yaml\nmodel:\n", "base", "good.yaml -> good.yaml"),
    "missing base": ("model:\n", "base: gud.yaml\nmodel:\n", "base", "did you mean 'good.yaml'?"),
    "odd base": ("model:\n", "base: 3\nmodel:\n", "base", "expected the name of a YAML file"),
    "duplicate key": ("steps: 50", "steps: 50\nsteps: 60", "steps", "given twice; keep one"),
    "tab": ("  head", "\thead", "not readable as YAML", "indent with spaces, not tabs"),
    "unclosed": ("{lr: 1e-3}", "{lr: 1e-3", "not readable as YAML", "expected ',' or '}'"),
    "alias": ("steps: 50", "steps: &a 50\nstudy: *a", "", "refer to another key with ${key}"),
    "no mapping": (GOOD, "- 1", "", "expected `key: value` lines"),
    "python tag": ("50", "!!python/object/apply:os.getpid []", "steps", "write a plain value"),
    "python name": ("50", "!!python/name:os.system", "steps", "is not allowed"),
    "os.system": (PLAIN, "os.system", TRUNK, "name a class of `unify.`"),
    "a function": (PLAIN, "unify.config.load", TRUNK, "no class 'load'"),
    "no module": (PLAIN, "unify.batcj.X", TRUNK, "mean 'batch'?"),
    "no class": (PLAIN, "./parts.py:Plein", TRUNK, "mean 'Plain'?"),
    "no file": (PLAIN, "./prts.py:Plain", TRUNK, "correct the path"),
    "no contract": (PLAIN, "./parts.py:Stranger", TRUNK, "not a Backbone"),
    "other contract": (PLAIN, "./parts.py:Codec", TRUNK, "not a Backbone"),
    "abstract": (PLAIN, "./parts.py:Backbone", TRUNK, "it lacks width"),
    "class number": (PLAIN, "3", TRUNK, "expected the name of a class"),
    "model contract": (
        "./parts.py:Model",
        "./parts.py:World",
        "model.class",
        "Trainable or Fitted",
    ),
    "no class key": ("class: ./parts.py:Plain, ", "", TRUNK, "name a class that is a"),
    "class where nothing is built": (
        "head: {size: 5}",
        "free: {class: os.system}",
        "model.free.class",
        "annotate the parameter",
    ),
    "class in settings": (
        "guidance: 3",
        "guidance: {class: ./parts.py:Codec}",
        "image_sampling.guidance",
        "float",
    ),
    "missing model": (GOOD[: GOOD.index("data:")], "", "model", "Recipe needs it: add `model:`"),
    "missing argument": (
        "  codec: {class: ./parts.py:Codec}\n",
        "",
        "model.codec",
        "Model needs it",
    ),
    "missing tasks": (
        "  tasks: {text_to_image: 4, caption: 2}\n",
        "",
        "data.tasks",
        "Data needs it",
    ),
    "unknown loss": ("text_ce: 1.0", "text_c: 1.0", "loss_weights.text_c", "mean 'text_ce'?"),
    "missing loss": ("text_ce: 1.0, ", "", "loss_weights.text_ce", "add `text_ce: 1.0`"),
    "unknown task": ("caption: 2", "captoin: 2", "data.tasks.captoin", "did you mean 'caption'?"),
    "task not learnt": ("caption: 2", "vqa: 2", "data.tasks.vqa", "Model does not learn it"),
    "sampling key": ("guidance: 3", "guidence: 3", "image_sampling.guidence", "mean 'guidance'?"),
    "fixed sampling key": (
        "guidance: 3",
        "seed: 3",
        "image_sampling.seed",
        "takes steps, guidance",
    ),
    "sampling type": ("guidance: 3", "guidance: high", "image_sampling.guidance", "write a number"),
    "text sampling": (
        "image_sampling: {guidance: 3}",
        "text_sampling: {k: 3}",
        "text_sampling.k",
        "takes nothing",
    ),
    "no steps": ("steps: 50", "steps: 0", "steps", "write 1 or more"),
    "overlay": ("tiny: {", "tiny: 3 # {", "tiny", "expected a mapping, not 3"),
    "rows that ranks cannot share": (
        "precision: 32-true",
        "devices: 2, nodes: 2",
        "data.tasks.caption",
        "2 rows do not divide over 4 ranks; write a multiple of 4",
    ),
    "a secret": ("50", "${oc.env:HF_TOKEN}", "steps", "HF_TOKEN is a secret"),
    "a secret or else": ("50", "${oc.env:AWS_SECRET_ACCESS_KEY,3}", "steps", "is a secret"),
    "a password in a URL": (
        "precision: 32-true",
        "tracker: 'http://me:pw@host'",
        "machine.tracker",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
    "odd weights": (CODEC, "{weights: 3}", WEIGHTS, "{run: exp"),
    "no such run": (CODEC, "{weights: {run: god.yaml}}", WEIGHTS + ".run", "'good.yaml'?"),
    "run of another contract": (
        CODEC,
        "{weights: {run: fine.yaml}}",
        "model.codec.class",
        "not a Codec",
    ),
    "no such folder": (CODEC, "{weights: nowhere}", WEIGHTS, "that was exported"),
    "weights key": (
        CODEC,
        "{weights: {run: fine.yaml, tinny: 1}}",
        WEIGHTS + ".tinny",
        "mean 'tiny'?",
    ),
}


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", BROKEN)
def test_broken_yaml_is_refused_with_file_key_and_remedy(folder, case, record_property):
    old, new, key, remedy = BROKEN[case]
    write(folder, "fine.yaml", GOOD)
    assert GOOD.count(old), "the case no longer changes anything"
    path = write(folder, "good.yaml", GOOD.replace(old, new, 1))
    start = time.monotonic()
    said = message(path)
    record_property("seconds", time.monotonic() - start)
    line = next((line for line in said.splitlines() if f": {key}" in line and remedy in line), None)
    assert line is not None, said
    assert "good.yaml:" in line
    assert built(folder) == []
    if case != "missing model":  # `check` takes that for a fragment
        assert [str(problem) for problem in check_file(path)] == said.splitlines()


ARMS = "arms: {one: good.yaml, two: good.yaml}\n"
STUDY = f"name: s\n{ARMS}seeds: [0]\nset: {{steps: 7}}\n"
SET, CLAIM = "set: {steps: 7}", "paper: p, says: s, metric: m, higher: one"
BROKEN_STUDIES = {
    "no name": ("name: s\n", "", "name", "add `name:`"),
    "no arm": (ARMS, "arms: {}\n", "arms", "name: experiment.yaml"),
    "list of arms": (ARMS, "arms: [good.yaml]\n", "arms", "expected a mapping"),
    "no such arm file": ("good.yaml,", "gud.yaml,", "arms.one", "did you mean 'good.yaml'?"),
    "odd arm": ("good.yaml,", "3,", "arms.one", "the name of a YAML file"),
    "unknown key": ("seeds:", "seedz:", "seedz", "did you mean 'seeds'?"),
    "one seed": ("[0]", "0", "seeds", "write a list of int"),
    "seed of letters": ("[0]", "[zero]", "seeds.0", "write a number"),
    "typo for all arms": ("{steps: 7}", "{stepz: 7}", "stepz", "did you mean 'steps'?"),
    "typo for one arm": (
        "{one: good.yaml",
        "{one: {base: good.yaml, stepz: 1}",
        "stepz",
        "'steps'?",
    ),
    "no such baseline": (SET, "baseline: three", "baseline", "it has one, two"),
    "empty budget": (SET, "budget: {}", "budget", "say one of steps"),
    "two budgets": (SET, "budget: {steps: 3, flops: 1e9}", "budget", "not steps, flops"),
    "budget of no arm": (SET, "budgets: {tow: {steps: 3}}", "budgets.tow", "mean 'two'?"),
    "grid of one value": (SET, "grid: {steps: 3}", "grid", "a mapping of a list"),
    "grid of a typo": (SET, "grid: {stepz: [3]}", "stepz", "did you mean 'steps'?"),
    "grid of no budget": (SET, "grid: {budget.flop: [1]}", "grid.budget.flop", "of steps, samples"),
    "width like none": (SET, "widths: {one: {like: tow}}", "widths.one.like", "mean 'two'?"),
    "width of nothing": (SET, "widths: {one: {}}", "widths", "say one of `like`"),
    "claim of no arm": (SET, f"claims: [{{{CLAIM}, lower: tow}}]", "claims.0.lower", "mean 'two'?"),
    "odd control": (
        SET,
        "controls: [{arm: one, expect: sme, than: two}]",
        "controls.0.expect",
        "did you mean 'same'?",
    ),
    "tuning without a space": (SET, "tune: {metric: m}", "tune.space", "add `space:`"),
    "an empty range": (
        SET,
        "tune: {metric: m, space: {steps: {low: 3, high: 2}}}",
        "tune.space.steps",
        "low < high",
    ),
    "rows that ranks cannot share": (
        "{steps: 7}",
        "{machine: {devices: 3}}",
        "data.tasks.caption",
        "write a multiple of 3",
    ),
}


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", BROKEN_STUDIES)
def test_a_broken_study_is_refused_with_file_key_and_remedy(folder, case, record_property):
    refused(folder / "study.yaml", STUDY, BROKEN_STUDIES[case], load_study, record_property)


CLUSTER = "partition: gpu\nnodes: 2\nranks: 4\nmachine: {strategy: fsdp}\n"
BROKEN_CLUSTERS = {
    "unknown key": ("partition", "partitoin", "partitoin", "did you mean 'partition'?"),
    "nodes in letters": ("nodes: 2", "nodes: two", "nodes", "write a number"),
    "half a node": ("nodes: 2", "nodes: 2.5", "nodes", "write a whole number"),
    "no node": ("nodes: 2", "nodes: 0", "nodes", "write 1 or more"),
    "ranks in quotes": ("ranks: 4", "ranks: '4'", "ranks", "write 4 without quotes"),
    "less than no rank": ("ranks: 4", "ranks: -1", "ranks", "write 1 or more"),
    "a time with a unit": ("ranks: 4", "minutes: 1h", "minutes", "write a number"),
    "one line of setup": ("ranks: 4", "setup: module load x", "setup", "a list of str"),
    "a number exported": ("ranks: 4", "environment: {A: 1}", "environment.A", "write str"),
    "list of options": ("ranks: 4", "sbatch: [a]", "sbatch", "a mapping of str"),
    "given twice": ("ranks: 4", "ranks: 4\nranks: 5", "ranks", "keep one"),
    "a tab": ("ranks: 4", "\tranks: 4", "not readable as YAML", "spaces, not tabs"),
    "a Python tag": ("gpu", "!!python/name:os.system", "partition", "write a plain value"),
    "no mapping": ("{strategy: fsdp}", "fsdp", "machine", "write a mapping"),
    "unknown key of machine": ("strategy", "stratgy", "stratgy", "did you mean 'strategy'?"),
    "no such strategy": ("fsdp", "fsdq", "strategy", "did you mean 'fsdp'?"),
}


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", BROKEN_CLUSTERS)
def test_a_broken_cluster_is_refused_with_file_key_and_remedy(folder, case, record_property):
    refused(folder / "cluster.yaml", CLUSTER, BROKEN_CLUSTERS[case], load_cluster, record_property)


def refused(path, good, case, reader, record_property):
    old, new, key, remedy = case
    path.write_text(good)
    reader(path)
    assert check_file(path) == []
    path.write_text(good.replace(old, new, 1))
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        reader(path)
    record_property("seconds", time.monotonic() - start)
    assert [str(problem) for problem in check_file(path)] == str(caught.value).splitlines()
    lines = [line for line in str(caught.value).splitlines() if f": {key}" in line]
    assert any(remedy in line and line.startswith(str(path)) for line in lines), caught.value
    assert built(path.parent) == []


def test_problems_name_the_line(folder):
    path = write(folder, "good.yaml", GOOD.replace("lr: 1e-3", "lr: x"))
    assert message(path).startswith(f"{path}:11: optimizer.lr: ")
    path = write(folder, "child.yaml", "base: good.yaml\n\nsteps: x")
    first, second = sorted(message(path).splitlines())
    assert first.startswith(f"{path}:3: steps: ")
    assert second.startswith(f"{folder}/good.yaml:11: optimizer.lr: ")


def test_all_errors_are_reported_at_once(folder):
    text = GOOD.replace("dim: 16", "dimm: 16").replace(
        "steps: 50", "steps: ${nope}\nsteps: ${nope}"
    )
    text = text.replace("caption: 2", "captoin: 2").replace("text_ce: 1.0", "text_ce: x")
    text = text.replace("guidance: 3", "guidence: 3").replace("./parts.py:Speed", "os.system")
    keys = {"model.trunk.dimm", "steps", "data.tasks.captoin", "loss_weights.text_ce"}
    keys |= {"image_sampling.guidence", "evaluation.0.class", "wrong"}
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(folder, "good.yaml", text), ["wrong=1"])
    assert {problem.key for problem in caught.value.problems} == keys
    assert len(caught.value.problems) == 8  # `steps` twice: given twice, and not found
    assert built(folder) == []


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("word", "key", "remedy"),
    [
        ("steps", "steps", "expected key=value"),
        ("=3", "=3", "expected key=value"),
        ("steps=[1", "steps", "not readable as YAML"),
        ("optimizer.lr='1e-4'", "optimizer.lr", "write 1e-4 without quotes"),
        ("evaluation.3.prompts=8", "evaluation.3.prompts", "no index of a list of 1"),
        ("optimizer.lrr=1", "optimizer.lrr", "did you mean 'lr'?"),
        ("steps=!!python/name:os.system", "steps", "write a plain value"),
    ],
)
def test_broken_words_on_the_command_line_are_named(folder, word, key, remedy):
    said = message(folder / "good.yaml", (word,))
    assert said.startswith(f"command line: {key}: ")
    assert remedy in said


@pytest.mark.fault(28)
def test_a_missing_file_is_one_clear_problem(folder):
    said = message(folder / "goood.yaml")
    assert "goood.yaml: No such file" in said
    assert "did you mean 'good.yaml'?" in said


@pytest.mark.fault(28)
def test_a_file_that_does_not_import_is_named_with_its_error(folder):
    (folder / "bad.py").write_text("import nothing_of_this_name\n")
    said = message(folder / "good.yaml", (f"model.class={folder}/bad.py:Model",))
    assert "nothing_of_this_name" in said
    assert "correct the file" in said


def test_build_refuses_what_was_not_checked(folder):
    load_recipe(folder / "good.yaml")
    with pytest.raises(ValueError, match="is not built"):
        build({"class": "os.system", "command": "true"})
    with pytest.raises(ValueError, match="is not a Optimizer"):
        build({"class": f"{folder}/parts.py:Stranger"}, expect=Optimizer)
    assert build({"x": {"class": "os.system"}}, expect=dict[str, Any]) == {
        "x": {"class": "os.system"}
    }
    assert built(folder) == []
