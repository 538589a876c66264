"""Parts that start from the weights of another run."""

import json

from config_parts import CODEC, GOOD, message, needing, write

from unify.config import (
    Needed,
    build_recipe,
    complete,
    config_hash,
    load,
    load_recipe,
    needed_runs,
    read,
    save,
)
from unify.schema.experiment import Recipe


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
