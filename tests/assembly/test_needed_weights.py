"""Weights that a run uses are those that it recorded, its own and others', at every use."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from places import EXPERIMENTS
from safetensors.torch import load_file, save_file

from unify.assembly.assemble import open_run
from unify.config import load_recipe
from unify.evaluation.draw_samples import SampleRequest, sample
from unify.runs.export_folder import hash_files
from unify.runs.folder import Run
from unify.study.jobs import StudyRequest
from unify.study.run_study import run_study
from unify.training.checkpoint_export import export
from unify.training.train_run import train

TOKENIZER = {
    **{"base": str(EXPERIMENTS / "tokenizers" / "shapes_vae.yaml"), "name": "tok"},
    **{"study": "tokenizers", "steps": 2, "model": {"widths": [8, 8, 8]}, "evaluation": []},
    "data": {"tasks": {"image": 2}},
}
MODEL = {
    **{"base": str(EXPERIMENTS / "transfusion.yaml"), "name": "exp", "steps": 2, "evaluation": []},
    "data": {"tasks": {"text_to_image": 2, "caption": 2, "vqa": 2}},
    "model": {
        "trunk": {"dim": 32, "depth": 2, "heads": 2},
        "text": {"class": "unify.tokenizers.text.Bytes"},
        "image": {"weights": {"run": "tok.yaml"}},
    },
    "image_sampling": {"steps": 2},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder of a run and of the tokenizer's run that it needs."""
    folder = tmp_path_factory.mktemp("kept")
    for name, content in (("tok", TOKENIZER), ("exp", MODEL)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    train(config(folder), lambda text: None)
    return folder


def config(folder, *words):
    words = ["machine.tracker=none", f"machine.runs={folder}/runs", *words]
    return load_recipe(folder / "exp.yaml", words)


@pytest.fixture
def folder(kept, tmp_path):
    """A copy of it: run.json still names the place of the original."""
    return Path(shutil.copytree(kept, tmp_path / "copy"))


def run_in(folder, name="exp"):
    (run,) = folder.glob(f"runs/*/{name}-*")
    return Run(run)


def spoil(run):
    """Other weights, under a hash in config.json that agrees; returns it."""
    path = run.folder / "export" / "model.safetensors"
    save_file({name: 0.3 * value for name, value in load_file(path).items()}, path)
    found = hash_files(path.parent)
    described = json.loads((path.parent / "config.json").read_text())
    (path.parent / "config.json").write_text(json.dumps({**described, "hash": found}))
    return found


USES = {
    "eval and study": lambda folder: open_run(run_in(folder).folder),
    "sample": lambda folder: sample(run_in(folder).folder, SampleRequest(["a red circle"])),
    "export": lambda folder: export(run_in(folder)),
    "another run": lambda folder: train(config(folder, "steps=1"), lambda text: None),
    "resume": lambda folder: resume(folder),
}


def resume(folder):
    run_in(folder).update(state="stopped")
    train(config(folder), lambda text: None)


@pytest.mark.parametrize("use", USES)
def test_needed_weights_that_have_changed_are_refused_with_both_hashes(folder, use):
    wanted = run_in(folder, "tok").info["weights"]
    found = spoil(run_in(folder, "tok"))
    with pytest.raises(ValueError, match=f"tok-.*it is {found}, and was {wanted}; put .* back"):
        USES[use](folder)


@pytest.mark.parametrize("use", ["eval and study", "sample"])
def test_a_run_s_own_weights_that_have_changed_are_refused_with_both_hashes(folder, use):
    wanted = run_in(folder).info["weights"]
    found = spoil(run_in(folder))
    with pytest.raises(ValueError, match=f"exp-.*it is {found}, and was {wanted}; put .* back"):
        USES[use](folder)


@pytest.mark.parametrize("damage", ["cut", "gone", "no file", "another file"])
def test_damaged_weights_are_refused_with_both_hashes(folder, damage):
    path = run_in(folder, "tok").folder / "export" / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "another file":
        path.with_name("more.bin").write_bytes(b"x")
    elif damage == "no file":
        path.unlink()
    else:
        path.write_bytes(b"")
    wanted, found = run_in(folder, "tok").info["weights"], hash_files(path.parent)
    with pytest.raises(ValueError, match=f"it is {found}, and was {wanted}"):
        open_run(run_in(folder).folder)


def test_places_beside_the_run_are_looked_at_first(kept, folder, tmp_path):
    older = Path(shutil.copytree(kept, tmp_path / "older"))
    run = run_in(folder)
    needed = {
        key: {**part, "folder": str(run_in(older, "tok").folder)}
        for key, part in run.info["needed"].items()
    }
    run.update(needed=needed)
    open_run(run.folder)
    spoil(run_in(older, "tok"))
    open_run(run.folder)  # the copy beside it wins
    shutil.rmtree(run_in(folder, "tok").folder)
    with pytest.raises(ValueError, match=re.escape(str(older))):
        open_run(run.folder)


def test_an_export_that_was_given_by_its_folder_is_compared_too(folder, tmp_path):
    shutil.copytree(run_in(folder, "tok").folder, tmp_path / "given")
    given = MODEL["model"] | {"image": {"weights": str(tmp_path / "given" / "export")}}
    (folder / "exp.yaml").write_text(yaml.safe_dump({**MODEL, "model": given}))
    run = train(config(folder, "steps=1"), lambda text: None)
    open_run(run.folder)
    wanted, found = run_in(folder, "tok").info["weights"], spoil(Run(tmp_path / "given"))
    with pytest.raises(ValueError, match=f"it is {found}, and was {wanted}"):
        open_run(run.folder)


def test_a_run_from_before_hashes_were_recorded_is_opened(folder):
    run = run_in(folder)
    needed = {key: {"folder": part["folder"]} for key, part in run.info["needed"].items()}
    run.update(needed=needed)
    opened, _, _ = open_run(run.folder)
    assert opened.folder == run.folder
    spoil(run_in(folder, "tok"))  # the needed run's own record is left to compare with
    with pytest.raises(ValueError, match=r"differ from the hash that .* recorded"):
        open_run(run.folder)


def test_weights_are_read_once(folder, monkeypatch):
    """They are hashed as they are loaded: no file is read for its hash alone."""
    read = []
    for module in ("unify.runs.export_folder", "unify.assembly.exported_weights"):
        monkeypatch.setattr(f"{module}.hash_files", read.append)
    open_run(run_in(folder).folder)
    assert read == []


# Runs that are shared


STUDY = {"arms": {"one": str(EXPERIMENTS / "transfusion.yaml")}, "set": {"evaluation": []}}


@pytest.fixture
def donor(tmp_path):
    """A finished run of a study; another asks for the same training."""
    for name in ("mini", "other"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **STUDY}))
    ask(tmp_path, "mini")
    (run,) = tmp_path.glob("runs/mini/one-*")
    return Run(run)


def ask(folder, name):
    said = []
    words = ["machine.tracker=none", f"machine.runs={folder}/runs"]
    made = run_study(StudyRequest(f"{folder}/{name}.yaml", words, tiny=True), said.append)
    assert made.failed == {}
    return " ".join(said)


DAMAGE = {
    "weights": lambda run: spoil_byte(run.folder / "export" / "model.safetensors"),
    "no weights": lambda run: (run.folder / "export" / "model.safetensors").unlink(),
    "journal": lambda run: spoil_byte(run.folder / "journal.jsonl", 0),
    "other weights": spoil,
}


def spoil_byte(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.unlink()  # a hard link's other name keeps its bytes
    path.write_bytes(bytes(content))


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_donor_is_named_and_passed_over_and_the_run_is_trained(donor, damage):
    DAMAGE[damage](donor)
    runs = donor.folder.parents[2]
    with pytest.warns(UserWarning, match=f"{donor.folder.name} is passed over, though trained"):
        said = ask(runs, "other")
    assert "trained already" not in said
    (other,) = runs.glob("runs/other/one-*")
    open_run(other)
    assert "trained already" in ask(runs, "other")


def test_a_donor_whose_facts_are_cut_is_passed_over(donor):
    (donor.folder / "run.json").write_text('{"state": "fini')
    runs = donor.folder.parents[2]
    assert "trained already" not in ask(runs, "other")


def test_trained_already_says_when_the_code_is_another(donor, monkeypatch):
    runs = donor.folder.parents[2]
    (donor.folder / "git.diff").unlink()
    for name in ("mini", "other"):
        assert "(by code" not in ask(runs, name)
    now = {"sha": "f" * 40, "dirty": False}
    monkeypatch.setattr("unify.runs.equal_training.git_state", lambda: now)
    shutil.rmtree(runs / "runs" / "other")
    for name in ("mini", "other", "other"):
        said = ask(runs, name)
        assert re.search(r"trained already.* \(by code \w+.*, which is now ffffffffffff\)", said)
