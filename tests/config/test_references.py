"""References: `${...}` to keys, defaults and environment variables."""

from config_parts import GOOD, message, write

from unify.config import load_recipe


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


def test_a_reference_may_choose_a_class_or_weights(folder, monkeypatch):
    monkeypatch.setenv("WHERE", str(folder))
    words = [
        "model.extra=[{class: '${model.trunk.class}', dim: 5}]",
        "model.codec={weights: {run: '${oc.env:WHERE}/codec.yaml', seed: '${seeds.init}'}}",
        "seeds.init=3",
    ]
    write(folder, "codec.yaml", "model: {class: ./parts.py:Codec, channels: 9}")
    model = load_recipe(folder / "good.yaml", words)["model"]
    assert (model["extra"][0]["class"], model["extra"][0]["dim"]) == (model["trunk"]["class"], 5)
    assert model["codec"]["weights"] == {"run": str(folder / "codec.yaml"), "seed": 3}
    assert model["codec"]["channels"] == 9


def test_a_reference_reaches_a_default_that_comes_with_the_weights_of_another_run(folder):
    write(folder, "codec.yaml", "model: {class: ./parts.py:Codec, channels: 9}")
    words = [
        f"model.codec={{weights: {{run: {folder}/codec.yaml}}}}",
        "model.trunk.dim=${model.codec.channels}",
        "model.head.size=${model.trunk.dim}",
    ]
    model = load_recipe(folder / "good.yaml", words)["model"]
    assert (model["trunk"]["dim"], model["head"]["size"]) == (9, 9)


def test_a_referred_value_is_checked_where_it_is_used(folder):
    path = write(folder, "good.yaml", GOOD.replace("steps: 50", "steps: ${optimizer.lr}"))
    assert message(path) == f"{path}:9: steps: expected int, not 0.001; write a whole number"
    write(folder, "good.yaml", GOOD)
    text = message(folder / "good.yaml", ("model.free=${model.trunk}",))
    assert text.startswith("command line: model.free.class: nothing is built here")


def test_a_number_is_referred_to_as_the_file_has_it(folder):
    words = [
        "optimizer.clip=1",
        "steps=${optimizer.clip}",
    ]  # a float, written as a whole number
    assert load_recipe(folder / "good.yaml", words)["steps"] == 1
