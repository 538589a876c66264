"""Completion: every default is there, and all problems are named with file, key and remedy."""

import time

import pytest
from config_parts import GOOD, PARTS, built, message, write

from unify.config import ConfigError, check_file, completion, load_recipe


def test_completed_config_holds_every_default(folder):
    completed = load_recipe(folder / "good.yaml")
    assert completed["name"] == "good"
    assert completed["model"]["head"] == {"size": 5, "pair": [1, 0.5]}
    assert completed["model"]["codec"] == {
        "class": f"{folder}/parts.py:Codec",
        "channels": 4,
        "widths": [8, 16],
    }
    trunk = completed["model"]["trunk"]  # `act` defaults to a function: YAML cannot say it
    assert trunk == {"class": f"{folder}/parts.py:Plain", "dim": 16, "mode": "fast"}
    assert completed["optimizer"]["lr"] == 1e-3
    assert completed["optimizer"]["betas"] == [0.9, 0.95]
    assert completed["image_sampling"] == {"steps": 20, "guidance": 3.0}
    assert completed["data"]["class"] == "unify.data.module.Data"
    assert completed["loss_weights"]["image_flow"] == 2.0
    assert type(completed["loss_weights"]["image_flow"]) is float
    assert completed["seeds"] == {"init": 0, "data": 0, "noise": 0}
    assert built(folder) == []


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
    text = message(path)
    record_property("seconds", time.monotonic() - start)
    line = next((line for line in text.splitlines() if f": {key}" in line and remedy in line), None)
    assert line is not None, text
    assert "good.yaml:" in line
    assert built(folder) == []
    if case != "missing model":  # `check` takes that for a fragment
        assert [str(problem) for problem in check_file(path)] == text.splitlines()


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


UNIONS = (
    PARTS
    + """

class Choosy(Plain):
    def __init__(
        self,
        rate: int | float = 0,
        sizes: list[int] | dict[str, int] | None = None,
        pair: tuple[int, int] | tuple[int, int, int] = (1, 2),
        mode: Literal["a"] | int = "a",
        backs: list[Backbone] | None = None,
    ):
        self.rate, self.sizes, self.pair, self.mode, self.backs = rate, sizes, pair, mode, backs
"""
)


def choosy(folder, argument):
    """An experiment whose trunk takes unions, with one argument of it."""
    (folder / "unions.py").write_text(UNIONS)
    text = GOOD.replace("./parts.py", "./unions.py")
    return write(folder, "good.yaml", text.replace("Plain, dim: 16", f"Choosy, {argument}"))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("rate: 1", 1),
        ("rate: 1.0", 1.0),
        ("sizes: [1]", [1]),
        ("sizes: {a: 1}", {"a": 1}),
        ("sizes:", None),
        ("pair: [1, 2, 3]", [1, 2, 3]),
        ("mode: a", "a"),
        ("mode: 3", 3),
    ],
)
def test_a_union_takes_the_member_that_the_value_fits(folder, argument, value):
    (folder / "unions.py").write_text(UNIONS)
    text = GOOD.replace("./parts.py", "./unions.py").replace(
        "Plain, dim: 16", f"Choosy, {argument}"
    )
    trunk = load_recipe(write(folder, "good.yaml", text.replace("{dim: 4}", "{}")))["model"][
        "trunk"
    ]
    done = trunk[argument.partition(":")[0]]
    assert done == value
    assert type(done) is type(value)


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("rate: x", "rate: expected int or float, not 'x'; write a number"),
        ("sizes: [x]", "sizes: expected a list of int or a mapping of int or null, not ['x']"),
        ("pair: [1]", "pair: expected a list of 2 (int, int) or a list of 3 (int, int, int)"),
        ("backs: [{class: ./unions.py:Plain, dimm: 3}]", "backs.0.dimm: unknown key"),
    ],
)
def test_a_value_that_fits_no_member_is_refused_and_a_part_in_one_by_its_own_key(
    folder, argument, problem
):
    (folder / "unions.py").write_text(UNIONS)
    text = GOOD.replace("./parts.py", "./unions.py").replace(
        "Plain, dim: 16", f"Choosy, {argument}"
    )
    path = write(folder, "good.yaml", text)
    assert message(path).startswith(f"{path}:3: model.trunk.{problem}")


def test_a_tree_with_references_to_defaults_is_completed_once(folder, monkeypatch):
    located = []
    locate_class = completion.locate_class
    monkeypatch.setattr(
        completion, "locate_class", lambda *a: located.append(a[0]) or locate_class(*a)
    )
    load_recipe(folder / "good.yaml", ["steps=${optimizer.warmup}"])
    assert len(located) == len(set(located)) > 6
