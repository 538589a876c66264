"""Loading: bases, `tiny`, and the words of the command line, merged in this order."""

from typing import Any

import pytest
from config_parts import message, write

from unify.config import load_recipe


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


def test_tiny_merges_before_the_command_line(folder):
    small = load_recipe(folder / "good.yaml", ["steps=3"], tiny=True)
    assert (small["steps"], small["model"]["trunk"]["dim"]) == (3, 4)


@pytest.mark.parametrize(
    ("word", "keys", "value"),
    [
        ("optimizer.lr=1e-4", ("optimizer", "lr"), 1e-4),
        ("--steps=7", ("steps",), 7),
        ("optimizer.clip=1", ("optimizer", "clip"), 1.0),
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
    printed = message(folder / "good.yaml", (word,))
    assert printed.startswith(f"command line: {key}: ")
    assert remedy in printed


@pytest.mark.fault(28)
def test_a_missing_file_is_one_clear_problem(folder):
    printed = message(folder / "goood.yaml")
    assert "goood.yaml: No such file" in printed
    assert "did you mean 'good.yaml'?" in printed
