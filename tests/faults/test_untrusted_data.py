"""Shards, YAML, journals and addresses from strangers: they are data, and nothing is executed."""

import json
import pickle

import numpy as np
import pytest
from config_parts import GOOD, fill, write
from payloads import evil, payload
from tar_shards import fit_index, pairs, tar

from unify.config import ConfigError, check_file, load_recipe, read
from unify.data.adapters.index import index_folder
from unify.data.adapters.stored import Damaged
from unify.data.shards import Shards
from unify.runs.journal import Journal
from unify.tracking.mlflow_delivery import Shipment

pytestmark = pytest.mark.fault(29)


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


# Data


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    tar(folder / "shard-000000.tar", pairs(3))
    index_folder(folder)
    return folder


@pytest.mark.parametrize("form", ["object array", "pickle"])
def test_the_columns_of_an_index_are_no_pickle(shards, canary, form):
    bomb = payload("os.system", canary)
    if form == "pickle":
        (shards / "columns.npz").write_bytes(pickle.dumps(bomb))
    else:
        np.savez(shards / "columns.npz", start=np.array([bomb], object), text=np.array([True]))
    with pytest.raises(ValueError, match=r"index of .* is damaged"):
        Shards(str(shards), size=16)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pipe:touch canary", "| touch canary", "../outside.tar"])
def test_a_shard_s_name_is_a_file_s_name(shards, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = (shards / "records.jsonl").read_bytes().replace(b"shard-000000.tar", name.encode())
    (shards / "records.jsonl").write_bytes(rows)
    fit_index(shards)
    source = Shards(str(shards), size=16, validation=0, test=0)
    with pytest.raises(Damaged, match="the shard is missing"):
        source.record("image", "train", 0)
    assert not (tmp_path / "canary").exists()


# YAML

TEXTS = {
    "os.system": "steps: !!python/object/apply:os.system ['touch canary']",
    "subprocess": "steps: !!python/object/apply:subprocess.check_output [[touch, canary]]",
    "eval": "steps: !!python/object/apply:eval [\"open('canary', 'w')\"]",
    "new": "steps: !!python/object/new:os.system ['touch canary']",
    "module": "steps: !!python/module:evil",
    "a tag of its own": "steps: !evil {a: 1}",
    "eval resolver": 'steps: "${eval:\'open(\\"canary\\", \\"w\\")\'}"',
    "resolver of a shell": 'steps: "${shell:touch canary}"',
    "create": 'steps: "${oc.create:{_target_: os.system}}"',
    "decode": 'steps: "${oc.decode:1}"',
    "nested": 'steps: "${oc.env:${oc.env:HOME}}"',
    "class": "model: {class: os.system, command: touch canary}",
    "class in a list": "evaluation: [{class: subprocess.Popen, args: touch canary}]",
    "a function of unify": "model: {class: unify.cli.main}",
    "target": "model: {_target_: os.system, command: touch canary}",
    "base of a pipe": "base: '| touch canary'",
    "base of a page": "base: http://127.0.0.1:9/evil.yaml",
    "weights of a pipe": "model: {trunk: {weights: '| touch canary'}}",
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_yaml_is_data(tmp_path, case, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    evil(tmp_path, tmp_path / "canary")
    own = TEXTS[case] if case.startswith("base") else f"base: good.yaml\n{TEXTS[case]}"
    path = write(tmp_path, "hostile.yaml", own)
    with pytest.raises(ConfigError, match=r"hostile\.yaml:\d"):
        load_recipe(path)
    assert check_file(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["./evil.py:Evil", "{}/evil.py:Evil", "../x/evil.py:Evil"])
def test_a_stored_configuration_runs_no_file(tmp_path, canary, name):
    folder = tmp_path / "x"
    folder.mkdir()
    evil(folder, canary)
    path = write(fill(folder), "config.yaml", GOOD.replace("./parts.py:Model", name.format(folder)))
    with pytest.raises(ConfigError, match="only for a YAML named on the command line"):
        read(path)
    assert not canary.exists()


# Journals and trackers

LINES = ["[1]", "null", '{"a": 1}', '{"step": "1", "kind": "train"}', "[" * 200_000, "\x80\x04."]


@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_line_that_is_no_record_is_named(tmp_path, number):
    good = '{"step": 1, "kind": "train"}\n'
    (tmp_path / "journal.jsonl").write_text(f"{good}{LINES[number]}\n{good}", "latin-1")
    for reads in (Journal(tmp_path).records, lambda: Journal(tmp_path).cut(1)):
        with pytest.raises(ValueError, match=r"journal\.jsonl, line 2 is damaged"):
            reads()


@pytest.mark.parametrize(
    "uri", ["evil://os.system", "| touch canary", "$(touch canary)", "python:os.system('x')"]
)
def test_a_tracker_s_uri_is_no_command(tmp_path, canary, uri, monkeypatch):
    from mlflow.exceptions import MlflowException

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "study" / "one"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"study": "s", "state": "finished"}))
    with pytest.raises(MlflowException):
        Shipment(folder, uri).send()
    assert not canary.exists()
