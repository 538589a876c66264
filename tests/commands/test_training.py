"""`unify train` and `unify check` as a user meets them."""

import json

import pytest
from command_line import unify
from places import ROOT


def test_files_that_are_right_are_said_to_be(tmp_path):
    files = [ROOT / "experiments" / name for name in ("ar_vq.yaml", "studies/quickstart.yaml")]
    done = unify("check", "--json", *files)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == {str(path): [] for path in files}


@pytest.mark.fault(28)
def test_all_errors_at_once_each_with_file_and_key(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(
        f"base: {ROOT}/experiments/ar_vq.yaml\n"
        "steps: many\noptimizer: {lrr: 1.0}\nmodel: {trunk: {dept: 3}}\n"
    )
    done = unify("check", path)
    assert done.returncode == 1
    for part in ("broken.yaml:2: steps", "optimizer.lrr", "'lr'", "model.trunk.dept", "'depth'"):
        assert part in done.stdout


def test_print_config_is_complete_and_reads_back(tmp_path):
    done = unify("train", "-c", "experiments/transfusion.yaml", "--print-config", "steps=7")
    assert done.returncode == 0, done.stderr
    for line in ("steps: 7", "condition_time: 0.5", "weight_decay: 0.01", "workers: 0"):
        assert line in done.stdout
