"""`unify sample`: what reaches the model of prompts, pictures and settings, and what is refused."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from places import ROOT

from unify import cli
from unify.assembly.assemble import open_run
from unify.commands import runs as run_commands
from unify.config import load_recipe
from unify.data.module import Data
from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.evaluation.draw_samples import too_long
from unify.evaluation.score_run import evaluate
from unify.flow import Solver
from unify.paradigm import Paradigm
from unify.schema.experiment import Machine
from unify.tokenizers.text import Bytes
from unify.training.train_run import train

WORLD = Shapes()
EDIT, COMPOSE = WORLD.record("edit", "test", 0), WORLD.record("compose", "test", 0)


@dataclass
class Settings:
    guidance: float = 1.0
    steps: int = 30
    solver: Solver = "euler"


class Recorder(Paradigm):
    """Draws nothing and remembers what it was asked for."""

    tasks = WORLD.tasks
    image_sampler = Settings

    def __init__(self):
        super().__init__()
        self.weight, self.asked = torch.nn.Parameter(torch.zeros(1)), {}

    def loss(self, batch, noise):
        raise NotImplementedError

    def sample_image(self, request, sampler):
        self.asked = vars(request) | vars(sampler)
        return torch.zeros(len(request), 3, 32, 32)


def test_a_prompt_that_is_cut_or_longer_than_training_read_is_named():
    model, data = Recorder(), Data(WORLD, {"text_to_image": 2}, {"prompt": 20})
    model.text = Bytes()
    assert too_long(model, data, ["a red circle", ""]) == []
    (beyond,) = too_long(model, data, ["a red circle and a blue square"])
    assert "has 32 tokens, and in training texts were cut after 20 (data.lengths)" in beyond
    (cut,) = too_long(model, data, ["a very long prompt " * 60, "a red circle"])
    assert cut.endswith("was cut after token 512")
    assert len(cut) < 80


@pytest.fixture
def pictures(tmp_path):
    """Two pictures of the world as files, the second twice as large."""
    names = [tmp_path / "one.png", tmp_path / "two.png"]
    Image.fromarray(EDIT.fields["source"]).save(names[0])
    Image.fromarray(EDIT.fields["image"]).resize((64, 64), 0).save(names[1])
    return names


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """What a run that trained on some tasks is asked for by a command."""

    def run(*tasks, **given):
        model, data = Recorder(), Data(WORLD, dict.fromkeys(tasks, 2))
        recipe = SimpleNamespace(
            model=model, data=data, machine=Machine(), image_sampling={"guidance": 3.0, "steps": 20}
        )
        monkeypatch.setattr(
            "unify.evaluation.draw_samples.open_run", lambda *_, **__: (None, None, recipe)
        )
        assert run_commands.sample(tmp_path, out=tmp_path / "out.png", **given) == 0
        facts = json.loads((tmp_path / "out.json").read_text())
        return model.asked | {"titles": facts["titles"]}

    return run


def test_settings_are_those_of_the_run_with_what_the_words_change(ask):
    asked = ask("text_to_image", prompt=["a", "b"], count=2, seed=5)
    assert (asked["guidance"], asked["steps"], asked["solver"]) == (3.0, 20, "euler")
    assert asked["prompts"] == asked["titles"] == ["a", "a", "b", "b"]
    assert asked["seed"] == 5
    assert asked["negative"] is asked["present"] is None
    assert not asked["sources"]
    words = ["steps=5", "solver=rk4", "guidance=2"]
    asked = ask("text_to_image", prompt=["a"], settings=words, negative="blurred")
    assert (asked["guidance"], asked["steps"], asked["solver"]) == (2.0, 5, "rk4")
    assert asked["negative"] == ["blurred"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("guidence=3", "guidence: unknown key; did you mean 'guidance'.* guidance, steps, solver"),
        ("temperature=1", "temperature: unknown key.*generate_image takes guidance, steps, solver"),
        ("seed=1", "seed: unknown key"),  # an option of the command
        ("steps=many", "steps: expected int, not 'many'"),
        ("solver=foo", "solver: expected one of 'euler', 'heun', 'rk4'"),
        ("steps", "steps: expected key=value"),
    ],
)
def test_a_setting_that_the_sampler_does_not_take_is_refused(ask, word, message):
    with pytest.raises(ValueError, match=message):
        ask("text_to_image", prompt=["a"], settings=[word])


def test_a_source_is_read_at_the_size_of_training_for_each_row(ask, pictures):
    asked = ask("edit", prompt=["remove it", "move it"], source=pictures[1:], count=2)
    (source,) = asked["sources"]
    assert source.shape == (4, 3, 32, 32)
    wanted = to_tensor(EDIT.fields["image"])
    assert all((row - wanted).abs().mean() < 0.05 for row in source)
    assert asked["present"] is None
    asked = ask("super_resolution", source=pictures[:1], count=2)
    assert asked["prompts"] is None
    assert asked["sources"][0].shape == (2, 3, 16, 16)
    assert asked["titles"] == ["one.png"] * 2


def test_a_run_that_copies_is_shown_what_to_copy(ask, pictures, monkeypatch):
    with pytest.raises(ValueError, match=r"1 source image\(s\) without a prompt; it learned image"):
        ask("image", source=pictures[:1])
    monkeypatch.setattr(Recorder, "copies", True)
    asked = ask("image", source=pictures[:1])
    assert asked["prompts"] is None
    assert [column.shape for column in asked["sources"]] == [(1, 3, 32, 32)]


def test_what_passes_through_the_language_model_is_scored(tmp_path):
    words = [f"machine.runs={tmp_path}", "machine.tracker=none"]
    words.append("evaluation=[{class: unify.metrics.copies.Copies, n: 5}]")
    config = load_recipe(ROOT / "experiments/queries_dit_reconstruct.yaml", words, tiny=True)
    run = train(config, lambda text: None)
    rows = evaluate(*open_run(run.folder)[::2], config)
    names = ("copy/psnr", "copy/exact", "copy/psnr/ceiling", "copy/exact/ceiling")
    assert {row["metric"]: row["n"] for row in rows} == dict.fromkeys(names, 5)
    psnr = next(row["value"] for row in rows if row["metric"] == "copy/psnr")
    assert 0 < psnr < 20
    assert (run.folder / "eval" / "copy.png").is_file()


def test_sources_that_are_not_given_are_absent_as_in_training(ask, pictures):
    asked = ask("compose", prompt=["put the first at the top left"], source=pictures[:1])
    assert [column.shape for column in asked["sources"]] == [(1, 3, 32, 32)] * 2
    assert [rows.tolist() for rows in asked["present"]] == [[True], [False]]
    asked = ask("compose", prompt=["put ..."], source=pictures)
    assert torch.equal(asked["sources"][0][0], to_tensor(EDIT.fields["source"]))
    assert asked["present"] is None
    asked = ask("compose", "edit", prompt=["remove it"], source=pictures[:1])  # the task with one
    assert (len(asked["sources"]), asked["present"]) == (1, None)


def test_what_a_run_has_not_learned_is_refused(ask, pictures, tmp_path):
    with pytest.raises(ValueError, match=r"from 2 source image\(s\) and a prompt; it learned edit"):
        ask("edit", prompt=["a"], source=pictures)
    with pytest.raises(ValueError, match=r"1 source image\(s\) without a prompt"):
        ask("edit", "caption", source=pictures[:1])
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"no\.png is not a picture .*: unsupported_format"):
        ask("edit", prompt=["a"], source=[tmp_path / "no.png"])
    with pytest.raises(ValueError, match="leave --negative out"):
        ask("text_to_image", arith="a + b", negative="c")
    with pytest.raises(ValueError, match="either --prompt or --arith"):
        ask("edit", arith="a + b", source=pictures)


def test_a_run_that_composes_is_trained_scored_and_tried_from_the_command_line(tmp_path):
    metric = "{class: unify.metrics.shapes_compositions.Compositions, n: 4, heldout: 2}"
    words = [f"machine.runs={tmp_path}", "machine.tracker=none", f"evaluation=[{metric}]"]
    config = load_recipe(ROOT / "experiments/editing/queries_dit_compose.yaml", words, tiny=True)
    assert config["data"]["tasks"] == {"compose": 2}
    run = train(config, lambda text: None)
    _, config, recipe = open_run(run.folder)
    rows = evaluate(run, recipe, config)
    assert {row["metric"]: row["n"] for row in rows}["compose/exact"] == 4
    shown = [image for image in COMPOSE.fields["sources"] if image is not None]
    given = []
    for number, image in enumerate(shown):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        given += ["--source", tmp_path / f"{number}.png"]
    out = tmp_path / "drawn.png"
    asked = ["-p", COMPOSE.fields["instruction"], "--negative", "gray", *given, "--out", out]
    for word in ("guidance=2", "image_guidance=1.5"):
        words = ["sample", run.folder, word, "steps=2", *asked]
        assert cli.app(list(map(str, words)), standalone_mode=False) == 0
        assert min(Image.open(out).size) > 32
        out.unlink()
    with pytest.raises(ValueError, match=r"QueriesDiT\.generate_image takes .*image_guidance"):
        cli.app(["sample", str(run.folder), "guidence=2", "-p", "a"], standalone_mode=False)
