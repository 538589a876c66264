"""Configuration: what is right comes out complete, is found again by its hash, and is built."""

import json
from pathlib import Path
from typing import Any

import pytest
from config_parts import GOOD, PARTS, built, fill, message, write
from places import EXPERIMENTS

from unify.config import (
    ConfigError,
    Needed,
    build,
    build_recipe,
    check_file,
    complete,
    config_hash,
    load,
    load_recipe,
    load_study,
    locate_class,
    needed_key,
    needed_runs,
    on_machine,
    read,
    save,
)
from unify.schema.experiment import Optimizer, Recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


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


def test_built_recipe_has_parts_and_dataclasses_and_no_config(folder):
    recipe = build_recipe(load_recipe(folder / "good.yaml"))
    assert isinstance(recipe, Recipe)
    assert isinstance(recipe.optimizer, Optimizer)
    assert recipe.optimizer.betas == (0.9, 0.95)
    assert type(recipe.model).__name__ == "Model"
    assert (recipe.model.trunk.dim, recipe.model.trunk.act) == (16, max)
    assert recipe.model.head.pair == (1, 0.5)
    assert recipe.model.codec.widths == (8, 16)
    assert recipe.tiny == {"steps": 2, "model": {"trunk": {"dim": 4}}}
    assert sorted(built(folder)) == ["Codec", "Model", "Plain", "Speed", "World"]
    assert built(folder).index("Plain") < built(folder).index("Model")


def test_tiny_merges_before_the_command_line(folder):
    small = load_recipe(folder / "good.yaml", ["steps=3"], tiny=True)
    assert (small["steps"], small["model"]["trunk"]["dim"]) == (3, 4)


@pytest.mark.parametrize(
    ("word", "keys", "value"),
    [
        ("optimizer.lr=1e-4", ("optimizer", "lr"), 1e-4),
        ("--steps=7", ("steps",), 7),
        ("ema=1", ("ema",), 1.0),
        ("evaluation.0.prompts=8", ("evaluation", 0, "prompts"), 8),
        (
            "optimizer.lr_ratio={image.encoder: 0.1}",
            ("optimizer", "lr_ratio"),
            {"image.encoder": 0.1},
        ),
        ("machine.tracker=sqlite:///a.db", ("machine", "tracker"), "sqlite:///a.db"),
        ("study=on", ("study",), "on"),
        ("steps=${data.tasks.caption}", ("steps",), 2),
        ("model.rate=null", ("model", "rate"), None),
        ("evaluation=[]", ("evaluation",), []),
    ],
)
def test_command_line_sets(folder, word, keys, value):
    got: Any = load_recipe(folder / "good.yaml", [word])
    for key in keys:
        got = got[key]
    assert got == value
    assert type(got) is type(value)


def test_bases_are_relative_and_later_ones_win_and_own_keys_win(folder):
    write(folder, "sub/one.yaml", "steps: 1\nema: 0.1\nseeds: {init: 1, data: 1}")
    write(folder, "two.yaml", "base: sub/one.yaml\nsteps: 2\nseeds: {data: 2}")
    write(folder, "three.yaml", "ema: 0.3\nbase: good.yaml")
    path = write(folder, "sub/leaf.yaml", "base: [../three.yaml, ../two.yaml]\nseeds: {noise: 3}")
    completed = load_recipe(path)
    assert (completed["steps"], completed["ema"]) == (2, 0.1)
    assert completed["seeds"] == {"init": 1, "data": 2, "noise": 3}


def test_another_class_replaces_the_node_and_the_same_class_merges_into_it(folder):
    path = write(
        folder,
        "other.yaml",
        "base: good.yaml\nmodel: {trunk: {class: ./parts.py:Wide, mode: exact}}",
    )
    trunk = load_recipe(path)["model"]["trunk"]
    assert (trunk["factor"], trunk["dim"], trunk["mode"]) == (2.0, 8, "exact")
    path = write(
        folder,
        "same.yaml",
        "base: good.yaml\nmodel: {trunk: {class: ./parts.py:Plain, mode: exact}}",
    )
    assert load_recipe(path)["model"]["trunk"]["dim"] == 16
    words = ["model.trunk.dim=3", f"model.trunk.class={folder}/parts.py:Wide"]
    assert load_recipe(folder / "good.yaml", words)["model"]["trunk"]["dim"] == 3


def test_null_takes_a_key_of_the_base_away(folder):
    path = write(folder, "fewer.yaml", "base: good.yaml\ndata: {tasks: {caption: null}}")
    assert load_recipe(path)["data"]["tasks"] == {"text_to_image": 4}


def test_references_reach_defaults_and_the_environment(folder, monkeypatch):
    monkeypatch.setenv("WHERE", "elsewhere")
    words = [
        "model.trunk.dim=${model.codec.channels}",
        "machine.runs=${oc.env:WHERE}/runs",
        "study=${oc.env:NOT_SET_AT_ALL,fallback}",
        'model.extra=["${model.trunk}"]',
    ]
    completed = load_recipe(folder / "good.yaml", words)
    assert completed["model"]["trunk"]["dim"] == 4
    assert completed["machine"]["runs"] == "elsewhere/runs"
    assert completed["study"] == "fallback"
    assert completed["model"]["extra"] == [completed["model"]["trunk"]]


def test_scalars_are_read_as_yaml_1_2_and_dumped_to_be_read_back_equal(folder):
    odd = {"a": "1e-4", "b": "on", "c": "null", "d": "12", "e": 1e-05, "f": float("inf"), "g": ""}
    odd |= {
        "h": "x: y",
        "i": [None, True, -3, "~"],
        "j": "é\n",
        "k": "0x1f",
        "l": 1e300,
        "m": "1_0",
    }
    path = folder / "odd.yaml"
    save(odd, path)
    assert load(path).root.plain() == odd
    text = "a: 1e-4\nb: on\nc: 1_000\nd: -.inf\ne: 0o7\nf: 2024-01-01\ng:\nh: 1.\ni: 12:30"
    assert load(write(folder, "s.yaml", text)).root.plain() == {
        "a": 1e-4, "b": "on", "c": 1000, "d": float("-inf"), "e": "0o7", "f": "2024-01-01",
        "g": None, "h": 1.0, "i": "12:30",
    }  # fmt: skip


def test_saved_config_reads_back_equal_even_when_completed_again(folder):
    completed = load_recipe(folder / "good.yaml", ["optimizer.lr=1e-05", "model.rate=3"])
    save(completed, folder / "config.yaml")
    assert read(folder / "config.yaml", trusted=True) == completed
    save(read(folder / "config.yaml"), folder / "again.yaml")
    assert (folder / "again.yaml").read_text() == (folder / "config.yaml").read_text()


def test_python_files_are_run_only_for_yamls_that_the_user_named(folder):
    other = folder / "other.py"
    other.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n" + PARTS)
    text = GOOD.replace("./parts.py", str(other))
    with pytest.raises(ConfigError, match="only for a YAML named on the command line"):
        read(write(folder, "config.yaml", text))
    assert not (folder / "ran").exists()
    read(folder / "config.yaml", trusted=True)
    assert (folder / "ran").exists()


def test_one_file_gives_one_class(folder):
    first = locate_class(f"{folder}/parts.py:Model", trusted=True)
    (folder / "link").symlink_to(folder)
    assert locate_class(f"{folder}/link/parts.py:Model", trusted=True) is first
    model = build_recipe(load_recipe(folder / "good.yaml")).model
    assert type(model) is first


def test_constructor_keywords_pass_to_the_next_class_up(folder):
    node = load_recipe(
        folder / "good.yaml",
        [f"model.trunk={{class: {folder}/parts.py:Wide, dim: 2, folder: a/b}}"],
    )["model"]["trunk"]
    part = build(node)
    assert (part.dim, part.factor, part.folder) == (2, 2.0, Path("a/b"))


# Runs that a run needs


CODEC = """\
model: {class: ./parts.py:Codec, channels: "${data.source.size}"}
data: {source: {class: ./parts.py:World, size: 6}, tasks: {image: 4}}
loss_weights: {error: 1}
tiny: {model: {channels: 2}}
"""


def needing(folder: Path, weights: str) -> Path:
    write(folder, "codec.yaml", CODEC)
    text = GOOD.replace("codec: {class: ./parts.py:Codec}", f"codec: {{weights: {weights}}}")
    return write(folder, "needs.yaml", text)


def test_a_needed_run_gives_class_and_arguments_and_is_loaded_after_construction(folder):
    path = needing(folder, "{run: codec.yaml}")
    completed = load_recipe(path)
    codec = completed["model"]["codec"]
    run = str(folder / "codec.yaml")
    assert (codec["channels"], codec["weights"]) == (6, {"run": run})
    assert needed_runs(completed) == {run: Needed(run)}
    calls = []
    recipe = build_recipe(completed, lambda part, weights: calls.append((part, weights)))
    assert calls == [(recipe.model.codec, {"run": run})]
    save(completed, folder / "config.yaml")
    (folder / "codec.yaml").unlink()  # a run's own config needs no other file
    assert read(folder / "config.yaml") == completed


def test_tiny_reaches_the_needed_run(folder):
    completed = load_recipe(needing(folder, "{run: codec.yaml}"), tiny=True)
    assert completed["model"]["codec"]["channels"] == 2
    codec = str(folder / "codec.yaml")
    assert needed_runs(completed) == {codec: Needed(codec, tiny=True)}


def test_a_needed_run_may_be_trained_under_other_seeds(folder):
    path, run = needing(folder, "{run: codec.yaml}"), str(folder / "codec.yaml")
    plain, other = (load_recipe(path, [f"model.codec.weights.seed={seed}"]) for seed in (0, 2))
    assert plain == load_recipe(path), "seeds as the file says them"
    assert other["model"]["codec"]["channels"] == 6, "still of the run"
    key = needed_key(other["model"]["codec"]["weights"])
    assert needed_runs(other) == {key: Needed(run, seed=2)}
    assert config_hash(other, {key: "0123456789"}, "data") != config_hash(
        plain, {run: "9876543210"}, "data"
    )
    assert config_hash(other, {key: "0123456789"}, "data") == config_hash(
        plain, {run: "0123456789"}, "data"
    ), "the weights count, not where they come from"


def test_own_arguments_win_over_the_needed_run_and_another_class_drops_it(folder):
    path = needing(folder, "{run: codec.yaml}")
    assert load_recipe(path, ["model.codec.channels=9"])["model"]["codec"]["channels"] == 9
    child = write(folder, "c.yaml", "base: needs.yaml\nmodel: {codec: {class: ./parts.py:Codec}}")
    assert needed_runs(load_recipe(child)) == {}
    text = "model: {weights: {run: good.yaml}, head: {pair: [2, 3]}, trunk: {mode: exact}}"
    model = load_recipe(write(folder, "d.yaml", f"base: good.yaml\n{text}"))["model"]
    assert model["head"] == {"size": 5, "pair": [2, 3.0]}
    assert (model["trunk"]["dim"], model["trunk"]["mode"]) == (16, "exact")


def test_a_part_of_a_needed_run_is_built_as_it_was_there(folder):
    write(folder, "whole.yaml", GOOD.replace("./parts.py:Codec", "./parts.py:Codec, channels: 7"))
    completed = load_recipe(needing(folder, "{run: whole.yaml, part: codec}"))
    run, codec = str(folder / "whole.yaml"), completed["model"]["codec"]
    assert (codec["channels"], codec["class"]) == (7, f"{folder}/parts.py:Codec")
    assert codec["weights"] == {"run": run, "part": "codec"}
    assert needed_runs(completed) == {run: Needed(run)}
    digest = config_hash(completed, {run: "0123456789"}, "data")
    codec["weights"] = {"run": run}
    assert config_hash(completed, {run: "0123456789"}, "data") != digest
    wrong = message(needing(folder, "{run: whole.yaml, part: codex}"))
    assert "the model has no part 'codex'; did you mean 'codec'?" in wrong
    wrong = message(needing(folder, "{run: whole.yaml, part: trunk}"))
    assert "Plain is not a Codec" in wrong


def test_a_weights_folder_gives_class_and_arguments_of_unify_only(folder):
    saved = folder / "vq"
    saved.mkdir()
    config = {"class": "unify.schema.experiment.Optimizer", "args": {"lr": 0.5}, "hash": "abc"}
    (saved / "config.json").write_text(json.dumps(config))
    assert "Optimizer is not a Codec" in message(needing(folder, "vq"))
    for bad in (f"{folder}/parts.py:Codec", "os.system"):
        (saved / "config.json").write_text(json.dumps({**config, "class": bad}))
        assert "model.codec.weights" in message(needing(folder, "vq"))
    (saved / "config.json").write_text(json.dumps(config))
    tree = load(write(folder, "top.yaml", "optimizer: {weights: vq}\n"))
    completed = complete(tree, Recipe, partial=True)
    assert completed["optimizer"]["lr"] == 0.5
    assert completed["optimizer"]["weights"] == str(saved)


def test_runs_that_need_each_other_are_refused(folder):
    loop = CODEC.replace('channels: "${data.source.size}"', "weights: {run: loop.yaml}").replace(
        "class: ./parts.py:Codec, ", ""
    )
    write(folder, "loop.yaml", loop)
    assert "in a circle: loop.yaml" in message(needing(folder, "{run: loop.yaml}"))


# The hash


def test_hash_ignores_machine_key_order_scoring_and_places_of_files(folder, tmp_path_factory):
    path = needing(folder, "{run: codec.yaml}")
    completed = load_recipe(path)
    needed = {str(folder / "codec.yaml"): "0123456789"}
    digest = config_hash(completed, needed, "data")
    assert len(digest) == 10
    words = ["machine.devices=2", "logging.metrics_every=1", "name=x", "study=y", "evaluation=[]"]
    words += [
        "image_sampling.steps=3",
        "tiny={}",
        "data.source.folder=moved",
        "optimizer.eps=0.00000001",
    ]
    assert config_hash(load_recipe(path, words), needed, "data") == digest
    backwards = dict(reversed(completed.items()))
    assert config_hash(backwards, needed, "data") == digest
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "parts.py").write_text(PARTS)
    moved = load_recipe(needing(elsewhere, "{run: codec.yaml}"))
    assert config_hash(moved, {str(elsewhere / "codec.yaml"): "0123456789"}, "data") == digest


def test_hash_covers_numbers_seeds_needed_runs_and_data(folder):
    path = needing(folder, "{run: codec.yaml}")
    run = str(folder / "codec.yaml")

    def digest(*words: str, needed: str = "a", data: str = "d") -> str:
        return config_hash(load_recipe(path, words), {run: needed}, data)

    changes = [
        "optimizer.lr=2e-3",
        "seeds.init=1",
        "steps=51",
        "data.tasks.caption=3",
        "model.rate=1",
    ]
    digests = [digest(), digest(needed="b"), digest(data="e"), *map(digest, changes)]
    assert len(set(digests)) == len(digests)


# Fragments and studies


def test_a_fragment_may_lack_keys_but_not_have_wrong_ones(folder):
    assert check_file(write(folder, "base.yaml", "optimizer: {lr: 1}\nsteps: 3")) == []
    problems = check_file(write(folder, "base.yaml", "optimizer: {l: 1}\ndata: {tasks: {}}"))
    assert {p.key for p in problems} == {"optimizer.l", "data.source"}


def test_check_covers_the_tiny_form(folder):
    path = write(folder, "good.yaml", GOOD.replace("{dim: 4}", "{dimm: 4}"))
    assert [p.key for p in check_file(path)] == ["model.trunk.dimm"]


STUDY = """\
name: quick
arms:
  plain: good.yaml
  wide:
    base: good.yaml
    model: {trunk: {class: ./parts.py:Wide}}
    optimizer: {lr: 5e-3}
seeds: [0, 1]
set: {optimizer: {lr: 2e-3}, ema: 0.5, steps: "${data.tasks.caption}"}
"""


def test_study_completes_every_arm(folder):
    path = write(folder, "study.yaml", STUDY)
    assert check_file(path) == []
    study, arms = load_study(path, ["machine.threads=2", "seeds=[3]", "data.tasks.caption=9"])
    assert (study.name, study.seeds, list(arms)) == ("quick", [3], ["plain", "wide"])
    plain, wide = arms.values()
    assert (plain["study"], plain["name"], wide["name"]) == ("quick", "plain", "wide")
    assert (plain["optimizer"]["lr"], wide["optimizer"]["lr"]) == (2e-3, 5e-3)
    assert (plain["ema"], wide["ema"], plain["steps"], wide["steps"]) == (0.5, 0.5, 9, 9)
    assert (plain["machine"]["threads"], wide["model"]["trunk"]["factor"]) == (2, 2.0)
    assert load_study(path, tiny=True)[1]["plain"]["model"]["trunk"]["dim"] == 4


def test_each_arm_resolves_shared_references_for_itself(folder):
    text = STUDY.replace("    optimizer: {lr: 5e-3}", "    data: {tasks: {caption: 7}}")
    _, arms = load_study(write(folder, "study.yaml", text))
    assert [arm["steps"] for arm in arms.values()] == [2, 7]


def test_study_problems_name_study_arm_and_key(folder):
    text = STUDY.replace("lr: 5e-3", "lrr: 1").replace("plain: good.yaml", "plain: nowhere.yaml")
    path = write(folder, "study.yaml", text)
    problems = check_file(path)
    assert [(p.file, p.key) for p in problems] == [
        (str(path), "arms.plain"),
        (str(path), "arms.wide"),
    ]
    assert "nowhere.yaml: No such file" in str(problems[0])
    assert f"{path}:7: optimizer.lrr: unknown key; did you mean 'lr'?" in str(problems[1])


SHIPPED = sorted(EXPERIMENTS.rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_is_right(path):
    assert [str(problem) for problem in check_file(path)] == []


FLOWS = dict.fromkeys(["transfusion", "dual_tower", "queries_dit", "crossflow"], "image_sampling")
FLOWS |= {"crossflow_depth": "image_sampling", "crossflow_caption": "text_sampling"}


@pytest.mark.parametrize("name", FLOWS)
def test_an_unknown_solver_is_refused_with_the_names(name):
    path, key = EXPERIMENTS / f"{name}.yaml", f"{FLOWS[name]}.solver"
    assert check_file(path, [f"{key}=rk4"]) == []
    (problem,) = set(check_file(path, [f"{key}=foo"]))
    assert problem.key == key
    assert "one of 'euler', 'heun', 'rk4', not 'foo'" in problem.message


def test_a_finished_run_is_opened_on_another_machine_and_with_no_other_setting():
    known = {"devices": 8, "strategy": "fsdp", "timeout": 60.0}
    assert on_machine(known, []) == known
    said = on_machine(known, ["machine.devices=2", "machine.strategy=ddp"])
    assert said == {"devices": 2, "strategy": "ddp", "timeout": 60.0}
    with pytest.raises(ConfigError, match=r"steps: a run that is finished keeps its settings"):
        on_machine(known, ["steps=3"])
    with pytest.raises(ConfigError, match=r"machine.device: unknown key; did you mean 'devices'"):
        on_machine(known, ["machine.device=2"])
