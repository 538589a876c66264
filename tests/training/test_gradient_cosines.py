"""Cosines between the gradients of losses: known values, no trace in training, a panel each."""

import json

import pytest
import torch
from places import ROOT
from report_study import write_study
from torch import nn

from unify.answers.study_records import load_study
from unify.config import load_recipe
from unify.report.page import render
from unify.runs.journal import Journal
from unify.training.gradient_cosines import block_of, cosines
from unify.training.train_run import train


class Two(nn.Module):
    """A shared block, and a head that one loss alone reaches."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
        self.head = nn.Linear(2, 1)


def test_cosines_are_those_of_the_inputs():
    """Of w x the gradient is x: the angle between losses is that between what they see."""
    model = Two()
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0])
    losses = {
        "a": 7.0 * model.blocks[0](x).sum(),
        "b": 0.1 * model.blocks[0](y).sum() + model.head(y).sum(),
        "c": -model.blocks[0](x).sum() + model.blocks[1](x).sum(),
    }
    result = cosines(model, losses)
    assert result == {
        "cosine/a|b/blocks.0": pytest.approx(0.6),
        "cosine/a|c/blocks.0": pytest.approx(-1.0),
        "cosine/b|c/blocks.0": pytest.approx(-0.6),
    }


def test_a_constant_is_no_loss():
    model = Two()
    losses = {"a": model.head(torch.ones(2)).sum(), "b": torch.ones(())}
    assert cosines(model, losses) == {}


def test_blocks_are_what_is_numbered():
    names = ["trunk.blocks.3.attention.q.weight", "embed.weight", "towers.0.blocks.1.norm"]
    assert [block_of(name) for name in names] == ["trunk.blocks.3", "embed", "towers.0"]


def trained(folder, every):
    words = [
        f"machine.runs={folder}", "machine.tracker=none", "steps=4", "logging.metrics_every=1",
        "optimizer.warmup=1", f"logging.gradients_every={every}",
    ]  # fmt: skip
    file = str(ROOT / "experiments/transfusion.yaml")
    return train(load_recipe(file, words, tiny=True), lambda _: None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [trained(tmp_path_factory.mktemp("runs"), every) for every in (0, 2)]


def test_measuring_leaves_no_trace_in_training(runs):
    without, measured = (Journal(run.folder) for run in runs)
    assert without.records("train") == measured.records("train")
    assert without.records("gradients") == []
    assert runs[0].info["weights"] == runs[1].info["weights"]


def test_records_precede_their_steps_and_name_every_block(runs):
    records = Journal(runs[1].folder).records("gradients")
    assert [record["step"] for record in records] == [1, 3]
    first, second = ({k[7:]: v for k, v in r.items() if k[:7] == "cosine/"} for r in records)
    blocks = {f"image_flow|text_ce/trunk.blocks.{i}" for i in (0, 1)}
    assert not blocks & first.keys(), "the flow's last layer starts at zero: nothing reaches them"
    assert blocks <= second.keys()
    assert all(-1 <= value <= 1 and value != 0 for value in second.values())


def test_the_report_draws_a_panel_for_each_pair_of_losses(tmp_path):
    folder = write_study(tmp_path / "study", steps=20)
    assert 'id="gradients"' not in render(load_study(folder))
    for journal in folder.glob("transfusion-*/journal.jsonl"):
        with journal.open("a") as file:
            for step in (1, 11):
                record = {
                    "step": step,
                    "kind": "gradients",
                    "cosine/flow|text/trunk.blocks.0": -0.25,
                }
                file.write(json.dumps(record) + "\n")
            unknown = {"step": 11, "kind": "gradients", "cosine/flow|text/embed": None}
            file.write(json.dumps(unknown) + "\n")
    page = render(load_study(folder))
    assert 'id="gradients"' in page
    assert "transfusion: flow and text" in page
    assert "trunk.blocks.0 -0.250" in page.replace("−", "-")
