"""Checkpoints, exports and pretrained models from strangers: nothing that they bring is executed.

Each payload would make the canary, a file; the first test shows that it would.
"""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from payloads import each_call, evil, payload
from safetensors import SafetensorError
from test_pretrained import random_model
from tiny_module import run

from unify.assembly.exported_weights import load_export, save_export
from unify.config import ConfigError, load_recipe
from unify.nn.init import initialise
from unify.nn.pretrained import LlamaTrunk, PretrainedTrunk
from unify.nn.pretrained_vlm import PretrainedVLM
from unify.nn.vision import TimmEncoder
from unify.runs.checkpoint_folder import MANIFEST, STATE, latest_valid, step_of, steps
from unify.runs.export_folder import hash_files
from unify.tokenizers.text import BPE, PretrainedText
from unify.tokenizers.vq import VQ, RotationCodebook
from unify.training.strategies import REST

pytestmark = [
    pytest.mark.fault(29),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended"),
]


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.mark.fault(29, times=0)
@each_call
def test_a_payload_works_where_it_is_let(canary, call):
    pickle.loads(pickle.dumps(payload(call, canary)))
    assert canary.exists()


# Checkpoints


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run(folder, 3)
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def sealed(folder, spoil):
    """Every checkpoint spoilt, under a manifest that agrees: a stranger can write one, too."""
    for path in steps(folder / "checkpoints"):
        spoil(path / STATE)
        files = {
            file.relative_to(path).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            for file in path.rglob("*")
            if file.is_file() and file.name != MANIFEST
        }
        (path / MANIFEST).write_text(json.dumps({"step": step_of(path), "files": files}))
    assert latest_valid(folder / "checkpoints") is not None
    return folder


REFUSED = (pickle.UnpicklingError, SafetensorError, ValueError, OSError, RuntimeError)


@each_call
@pytest.mark.parametrize("form", ["zip", "plain"])
def test_a_checkpoint_s_values_are_no_code(copied, canary, call, form):
    def spoil(state):
        bomb = {"state_dict": payload(call, canary)}
        torch.save(bomb, state / REST, _use_new_zipfile_serialization=form == "zip")

    sealed(copied, spoil)
    with pytest.raises(REFUSED):
        run(copied, 5)
    assert not canary.exists()


@pytest.mark.parametrize("form", ["plain", "zip"])
def test_a_checkpoint_s_shard_is_no_pickle(copied, canary, form):
    def spoil(state):
        for shard in state.glob("*.safetensors"):
            if form == "zip":
                torch.save(payload("os.system", canary), shard)
            else:
                shard.write_bytes(pickle.dumps(payload("os.system", canary)))

    sealed(copied, spoil)
    with pytest.raises(REFUSED):
        run(copied, 5)
    assert not canary.exists()


def test_metadata_of_older_checkpoints_of_torch_are_not_read(copied, canary):
    """torch.distributed.checkpoint unpickles a file of that name wherever it reads its own kind."""

    def spoil(state):
        for name in (".metadata", "__0_0.distcp", "state.ckpt"):
            (state / name).write_bytes(pickle.dumps(payload("os.system", canary)))

    run(sealed(copied, spoil), 5)
    assert latest_valid(copied / "checkpoints").name == "step-00000005"
    assert not canary.exists()


def test_what_a_link_in_a_checkpoint_points_to_is_read_and_never_removed(copied, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()

    def spoil(state):
        for shard in state.glob("*.safetensors"):
            place = outside / f"{state.parent.name}-{shard.name}"
            shard.rename(place)
            shard.symlink_to(place)

    sealed(copied, spoil)
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    run(copied, 5, keep=1)
    assert len(steps(copied / "checkpoints")) == 1
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before


@pytest.mark.parametrize("name", ["/dev/zero", "../../../../../../../etc/passwd", "\0"])
def test_a_manifest_of_odd_paths_is_a_damaged_one(copied, name):
    for path in steps(copied / "checkpoints"):
        manifest = json.loads((path / MANIFEST).read_text())
        manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
        (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match="skipping the damaged checkpoint"):
        assert latest_valid(copied / "checkpoints") is None


# Exports

NODE = {
    "class": "unify.tokenizers.vq.VQ",
    "widths": [8, 8],
    "quantizer": {"class": "unify.tokenizers.vq.RotationCodebook", "size": 16},
}


def make():
    model = VQ(RotationCodebook(size=16), widths=[8, 8])
    initialise(model, 0)
    return model.eval()


def exported(folder, **description):
    """An export whose description agrees with its files."""
    saved = json.loads((folder / "config.json").read_text()) if folder.exists() else {}
    if not saved:
        save_export(make(), NODE, folder)
        saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(saved | {"hash": hash_files(folder)} | description)
    )
    return folder


@pytest.mark.parametrize("form", ["plain", "zip"])
def test_exported_weights_are_no_pickle(tmp_path, canary, form):
    file = exported(tmp_path / "vq") / "model.safetensors"
    if form == "zip":
        torch.save({"w": payload("os.system", canary)}, file)
    else:
        file.write_bytes(pickle.dumps(payload("os.system", canary)))
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file"):
        load_export(make(), exported(tmp_path / "vq"))
    assert not canary.exists()


def test_what_lies_beside_exported_weights_is_left_alone(tmp_path, canary):
    folder = exported(tmp_path / "vq")
    for name in ("model.pt", "pytorch_model.bin", "model.pkl"):
        (folder / name).write_bytes(pickle.dumps(payload("os.system", canary)))
    evil(folder, canary)
    load_export(make(), exported(folder))
    assert not canary.exists()


VQ_CLASS = NODE["class"]
DESCRIPTIONS = {
    "os.system": ("os.system", {}),
    "Popen": ("subprocess.Popen", {"args": "touch canary"}),
    "eval": ("builtins.eval", {}),
    "a class of Python's": ("collections.OrderedDict", {}),
    "a class that unify imports": ("unify.distributed.process_pool.subprocess.Popen", {}),
    "a file beside": ("./evil.py:Evil", {}),
    "a file beside, as of unify": ("unify.tokenizers/../../vq/evil.py:Evil", {}),
    "a part in a file beside": (VQ_CLASS, {"quantizer": {"class": "./evil.py:Evil"}}),
    "a part of os": (VQ_CLASS, {"quantizer": {"class": "os.system"}}),
    "a part of a list": (VQ_CLASS, {"quantizer": [{"class": "./evil.py:Evil"}]}),
    "a run beside": (VQ_CLASS, {"quantizer": {"weights": {"run": "evil.yaml"}}}),
    "a run beside, with a class": (VQ_CLASS, {**NODE, "weights": {"run": "./evil.yaml"}}),
    "a folder above": (VQ_CLASS, {"quantizer": {"weights": "../../evil"}}),
    "no class": (3, {}),
    "no arguments": (VQ_CLASS, [1]),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_an_export_describes_classes_of_unify_and_no_file(tmp_path, canary, case, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, arguments = DESCRIPTIONS[case]
    folder = exported(tmp_path / "vq", **{"class": name, "args": arguments})
    evil(folder, canary)
    (folder / "evil.yaml").write_text("model: {class: ./evil.py:Evil}\n")
    path = tmp_path / "mine.yaml"
    experiments = Path(__file__).parents[2] / "experiments"
    path.write_text(f"base: {experiments}/ar_vq.yaml\nmodel: {{image: {{weights: vq}}}}\n")
    with pytest.raises(ConfigError, match=r"vq/config\.json does not describe a part"):
        load_recipe(path)
    assert not canary.exists()


@pytest.mark.parametrize("content", ["pickle", "{}", '{"model": {"type": "BPE"}}', "[" * 100_000])
def test_a_vocabulary_is_read_as_one(tmp_path, canary, content):
    data = pickle.dumps(payload("os.system", canary)) if content == "pickle" else content.encode()
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"tokenizer\.json is no vocabulary"):
        BPE(300).load(tmp_path)
    assert not canary.exists()


# Pretrained models of others


@pytest.fixture
def model(tmp_path):
    """A folder as the hub has them."""
    random_model("Llama").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@each_call
@pytest.mark.parametrize("kind", [PretrainedTrunk, LlamaTrunk])
def test_pickled_weights_of_a_pretrained_model_are_no_code(model, canary, kind, call):
    (model / "model.safetensors").unlink()
    torch.save({"model.norm.weight": payload(call, canary)}, model / "pytorch_model.bin")
    with pytest.raises(REFUSED):
        kind(str(model))
    assert not canary.exists()


def test_safetensors_of_a_pretrained_model_are_no_pickle(model, canary):
    (model / "model.safetensors").write_bytes(pickle.dumps(payload("os.system", canary)))
    with pytest.raises(REFUSED):
        PretrainedTrunk(str(model))
    assert not canary.exists()


@pytest.mark.parametrize("kind", [PretrainedTrunk, LlamaTrunk, PretrainedVLM, PretrainedText])
def test_code_of_a_pretrained_model_is_not_run_and_nobody_is_asked(
    model, canary, kind, monkeypatch
):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    names = {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    names |= dict.fromkeys(("AutoModel", "AutoModelForCausalLM"), "evil.Model")
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": names}
    (model / "config.json").write_text(json.dumps(config))
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": names}))
    evil(model, canary)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        kind(str(model))
    assert not canary.exists()


def test_a_checkpoint_of_timm_is_no_code(tmp_path, canary):
    torch.save({"state_dict": payload("os.system", canary)}, tmp_path / "vit.pth")
    with pytest.raises(REFUSED):
        TimmEncoder("test_vit", pretrained=str(tmp_path / "vit.pth"))
    assert not canary.exists()
