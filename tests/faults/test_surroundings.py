"""What surrounds a run: its secrets stay out of what it writes, and the rest out of its weights."""

import json
import os
import subprocess
import sys
import warnings

import pytest
import yaml
from command_child import TRAIN, Commands, weights
from places import ROOT

from unify.runs.checkpoint_folder import latest_valid


@pytest.fixture
def unify(tmp_path):
    return Commands(tmp_path)


# Secrets

SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "MLFLOW_TRACKING_PASSWORD": "correct-horse-battery",
    "MLFLOW_TRACKING_TOKEN": "mlflow-token-0a1b2c3d",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "GITHUB_TOKEN": "ghp_abcdefghijklmnopqrstuvwxyz0123",
    "HTTPS_PROXY": "http://someone:hunter2-of-the-proxy@127.0.0.1:9",
}


@pytest.mark.slow
@pytest.mark.fault(30, times=len(SECRETS))
def test_no_secret_of_the_environment_reaches_the_disk(unify, tmp_path):
    runs = tmp_path / "runs"
    words = [*TRAIN, "steps=3", "logging.metrics_every=1", "logging.samples_every=3"]
    ended = unify(*words, f"machine.runs={runs}", TZ="Europe/Berlin", **SECRETS)
    assert ended.status == 0, ended.err
    (run,) = runs.glob("default/*")
    assert unify("sync", run, **SECRETS).status == 0
    facts = json.loads((run / "run.json").read_text())
    assert facts["environment"]["variables"]["TZ"] == "Europe/Berlin", "some are written down"
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    database = files[runs / "mlflow.db"]
    assert b"optimizer.weight_decay" in database
    assert any("mlartifacts" in path.parts for path in files)
    parts = ["hunter2-of-the-proxy", *SECRETS.values()]
    assert [(s, p) for s in parts for p, data in files.items() if s.encode() in data] == []


# Odd surroundings

ODD = {
    "plain": ({"PYTHONHASHSEED": "0"}, "runs", ""),
    "hash seed, time zone": ({"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati"}, "runs", ""),
    "odd folder": ({"PYTHONHASHSEED": "random"}, "Läufe, 模型 & 'so' weiter", ""),
    "locale, elsewhere": ({"PYTHONHASHSEED": "0", "LC_ALL": "C"}, "runs", "ein Ort mit ü"),
}


@pytest.mark.slow
@pytest.mark.fault(35, times=len(ODD) - 1)
def test_surroundings_do_not_reach_the_weights(tmp_path):
    result = {}
    for name, (variables, runs, where) in ODD.items():
        folder = tmp_path / name.replace(" ", "") / where
        folder.mkdir(parents=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
        command = [sys.executable, "-m", "unify.cli", *TRAIN, "machine.tracker=none", "steps=3"]
        place = json.dumps(runs, ensure_ascii=False)
        done = subprocess.run(
            [*command, f"machine.runs={place}"],
            env=environment,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        result[name] = weights(folder / runs)
        (run,) = (folder / runs).glob("default/*")
        assert yaml.safe_load((run / "config.yaml").read_text("utf-8"))["machine"]["runs"] == runs
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert latest_valid(run / "checkpoints") is not None
    assert [name for name in ODD if result[name] != result["plain"]] == []
