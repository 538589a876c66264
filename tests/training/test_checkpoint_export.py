"""A checkpoint's weights, exported; validation loss, and the best checkpoint that it keeps."""

import shutil

import pytest
import torch
from places import ROOT
from safetensors.torch import load_file

from unify.assembly.assemble import assemble
from unify.assembly.exported_weights import load_export
from unify.config import load_recipe, read
from unify.runs.checkpoint_folder import step_of, steps
from unify.runs.folder import Run
from unify.runs.journal import Journal
from unify.runs.lookup import recorded_needed
from unify.training.checkpoint_export import export
from unify.training.train_run import train
from unify.training.validation import best_step

ARMS = ["ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow", "tokenizers/shapes_vae"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def trained(runs, arm, *words):
    words = [f"machine.runs={runs}", "machine.tracker=none", "machine.precision=32-true", *words]
    path = str(ROOT / "experiments" / f"{arm}.yaml")
    return train(load_recipe(path, words, tiny=True), lambda _: None)


@pytest.mark.parametrize("arm", ARMS)
def test_the_last_checkpoint_exports_what_the_run_did(runs, arm):
    run = trained(runs, arm, "steps=3", "logging.checkpoint_every=2")
    folder = export(run)
    name = "model.safetensors"
    assert (folder / name).read_bytes() == (run.folder / "export" / name).read_bytes()
    part = assemble(read(run.folder / "config.yaml"), recorded_needed(run)).model
    load_export(part, folder)
    raw = load_file(export(run, raw=True) / name)
    own = load_file(folder / name)
    assert raw.keys() == own.keys()
    assert any(not torch.equal(raw[key], own[key]) for key in raw), "the average is another"
    before = load_file(export(run, "2", run.folder / "two") / name)
    assert any(not torch.equal(before[key], own[key]) for key in own)


def test_what_is_not_there_is_said(runs):
    run = trained(runs, "transfusion", "steps=3", "logging.checkpoint_every=2")
    with pytest.raises(ValueError, match=r"steps 2, 3; --checkpoint takes last, best .* not 7"):
        export(run, "7")
    with pytest.raises(ValueError, match="no validation loss was measured"):
        export(run, "best")
    copied = run.folder.parent / "copied"
    shutil.copytree(run.folder, copied)
    (shard,) = (copied / "checkpoints" / "step-00000003" / "state").glob("shard-*")
    shard.write_bytes(b"x")
    with pytest.raises(ValueError, match="step-00000003 is damaged: state/shard"):
        export(Run(copied), "3")
    with pytest.warns(UserWarning, match="step-00000003"):
        assert export(Run(copied)).name == "export-step-00000002"


def test_the_best_checkpoint_stays(runs):
    spoil = "optimizer={lr: 0.3, warmup: 4, clip: 0, final_lr: 1.0}"  # it gets worse as it goes
    words = ["steps=8", "logging.checkpoint_every=1", "logging.keep_checkpoints=1", "ema=0", spoil]
    run = trained(runs, "transfusion", "logging.validation_rows=8", "seeds.init=5", *words)
    records = Journal(run.folder).records("validation")
    assert [record["step"] for record in records] == list(range(1, 9))
    losses = {record["step"]: record["loss"] for record in records}
    best = min(losses, key=lambda step: losses[step])
    assert best != 8, "else nothing is shown"
    assert [step_of(path) for path in steps(run.folder / "checkpoints")] == [best, 8]
    assert best_step(run.folder) == best
    assert export(run, "best").name == f"export-step-{best:08d}"
    without = trained(runs, "transfusion", "logging.validation_rows=0", "seeds.init=5", *words)
    assert without.folder == run.folder, "validation is no part of what is trained"


def test_measuring_leaves_training_as_it_was(runs, tmp_path):
    words = ["steps=4", "logging.checkpoint_every=1", "logging.metrics_every=1"]
    one = trained(tmp_path / "one", "crossflow", "logging.validation_rows=8", *words)
    other = trained(tmp_path / "other", "crossflow", *words)
    name = "export/model.safetensors"
    assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
    assert Journal(one.folder).records("train") == Journal(other.folder).records("train")
    assert all(record["loss"] > 0 for record in Journal(one.folder).records("validation"))
