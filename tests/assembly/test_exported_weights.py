"""Exports: bit-equal, named by their content, refused where they do not fit."""

import json
import os
import shutil

import pytest
import torch

from unify.assembly.exported_weights import check_written, load_export, save_export
from unify.nn.frozen import freeze
from unify.nn.init import initialise
from unify.runs.export_folder import hash_files, stamps
from unify.runs.folder import Run
from unify.tokenizers.text import BPE
from unify.tokenizers.vq import VQ, FSQCodes, RotationCodebook

NODE = {"class": "unify.tokenizers.vq.VQ", "widths": [8, 8], "weights": "gone"}


def make(seed):
    model = VQ(RotationCodebook(size=16), widths=[8, 8])
    initialise(model, seed)
    return model.eval()


def test_export_round_trip_is_bit_equal_and_named_by_its_content(tmp_path):
    one, other = make(0), make(1)
    digest = save_export(one, NODE, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "class": NODE["class"],
        "args": {"widths": [8, 8]},
        "hash": digest,
    }
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    load_export(other, tmp_path)
    assert torch.equal(one.encode(images), other.encode(images))
    assert one.content_hash() == other.content_hash()
    assert save_export(make(1), NODE, tmp_path / "b") != digest


def test_weights_that_do_not_fit_or_were_changed_are_refused(tmp_path):
    save_export(make(0), NODE, tmp_path)
    with pytest.raises(ValueError, match="quantizer"):
        load_export(VQ(FSQCodes(), widths=[8, 8]), tmp_path)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="differ from the hash"):
        load_export(make(0), tmp_path)


def test_a_part_of_an_export_is_loaded_by_its_name(tmp_path):
    whole = torch.nn.ModuleDict({"read": make(0), "draw": make(1), "kept": make(2)})
    freeze(whole["kept"]).source_hash = "0123456789ab"
    digest = save_export(whole, NODE, tmp_path)
    images, part = torch.rand(2, 3, 16, 16) * 2 - 1, make(3)
    load_export(part, tmp_path, "draw")
    assert torch.equal(part.encode(images), whole["draw"].encode(images))
    assert part.pretrained
    other = make(3)
    load_export(other, tmp_path, "read")
    assert len({digest, part.source_hash, other.source_hash}) == 3
    for name in ("kept", "text"):
        with pytest.raises(ValueError, match=f"holds no weights of {name}: a tokenizer, or what"):
            load_export(make(0), tmp_path, name)


def test_a_vocabulary_is_exported_too(tmp_path):
    one, other = BPE(300), BPE(300)
    one.fit(["a red circle", "a red square"])
    digest = save_export(one, {"class": "unify.tokenizers.text.BPE", "vocab_size": 300}, tmp_path)
    load_export(other, tmp_path)
    assert other.content_hash() == one.content_hash()
    assert digest == hash_files(tmp_path)


def test_a_finished_run_with_the_weights_of_another_is_refused_and_a_copy_of_it_is_not(tmp_path):
    runs = [Run(tmp_path / name) for name in ("one", "other")]
    for seed, run in enumerate(runs):
        weights = save_export(make(seed), NODE, run.folder / "export")
        run.update(weights=weights, written=stamps(run.folder / "export"))
        check_written(run)
    shutil.copytree(runs[0].folder, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "export" / "model.safetensors", ns=(1, 1))
    check_written(Run(tmp_path / "copy"))
    for copy in (shutil.copy, shutil.copy2, os.replace):
        copy(*(run.folder / "export" / "model.safetensors" for run in reversed(runs)))
        with pytest.raises(ValueError, match=r"one/export: the weights differ from the hash"):
            check_written(runs[0])
    (runs[0].folder / "export" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="the weights differ"):
        check_written(runs[0])
    runs[0].update(written=None)
    check_written(runs[0])  # of an older version
