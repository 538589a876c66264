"""The command line as a user meets it: real processes."""

import gc
import json
import subprocess
import sys

import pytest
from places import ROOT

from unify.support.fast_imports import fast_imports


def unify(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "unify.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys, unify.cli\n"
        "heavy = {'torch', 'lightning', 'transformers', 'diffusers', 'mlflow', 'timm', 'numpy'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    shown = unify("--help")
    assert shown.returncode == 0
    for command in ("train", "study", "eval", "sample", "report", "check", "bench", "data"):
        assert command in shown.stdout


def test_training_parts_import_only_what_they_use():
    code = (
        "import sys, lightning\n"  # brings transformers along, where that is installed
        "theirs = set(sys.modules)\n"
        "import unify.training.train_run, unify.paradigms.transfusion, unify.paradigms.ar_vq\n"
        "heavy = {'transformers', 'diffusers', 'timm', 'mlflow', 'vector_quantize_pytorch'}\n"
        "print(sorted(heavy & (sys.modules.keys() - theirs)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


LAST = """
import atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from unify import cli

def late(text):
    time.sleep(0.3)
    sys.stdout.write(f"{text} ")  # whole, though two write at once

def command(*_, **__):
    atexit.register(print, "function")
    threading.Thread(target=late, args=["thread"]).start()
    ThreadPoolExecutor(1).submit(late, "pool")
    return int(sys.argv[1])

cli.app = command
cli.main()
"""


@pytest.mark.parametrize("status", [0, 3])
def test_what_a_command_has_begun_is_done_before_it_ends(status):
    command = [sys.executable, "-c", LAST, str(status)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert sorted(done.stdout.split()) == ["function", "pool", "thread"]
    assert done.stdout.endswith("function\n"), "after the threads, as ever"
    assert not done.stderr


def test_output_that_cannot_be_written_is_no_success():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "unify.cli", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("unify: OSError")


def test_imports_are_quick_and_leave_collection_as_it_was():
    gc.unfreeze()  # what another test has imported so
    assert gc.get_freeze_count() == 0
    with fast_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    gc.unfreeze()


def test_every_shipped_file_checks():
    files = sorted((ROOT / "experiments").rglob("*.yaml"))
    done = unify("check", "--json", *files)
    assert done.returncode == 0, done.stdout
    verdicts = json.loads(done.stdout)
    assert len(verdicts) == len(files) > 10
    assert not any(verdicts.values())


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


def test_a_user_error_is_one_message_and_no_traceback(tmp_path):
    for arguments in (("train", "-c", "nowhere.yaml"), ("eval", tmp_path), ("study", "x.yaml")):
        done = unify(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("unify: ")
        assert "Traceback" not in done.stderr
    assert "Traceback" in unify("train", "-c", "nowhere.yaml", "--debug", cwd=tmp_path).stderr


def test_print_config_is_complete_and_reads_back(tmp_path):
    done = unify("train", "-c", "experiments/transfusion.yaml", "--print-config", "steps=7")
    assert done.returncode == 0, done.stderr
    for line in ("steps: 7", "condition_time: 0.5", "weight_decay: 0.01", "workers: 0"):
        assert line in done.stdout


def test_dry_run_lists_the_runs():
    done = unify("study", "experiments/studies/quickstart.yaml", "--dry-run")
    arms = [job["arm"] for job in json.loads(done.stdout)]
    assert arms == ["ar_vq", "transfusion", "dual_tower", "queries_dit", "crossflow"]


@pytest.fixture(scope="module")
def emoji_like(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for index in range(6):
        Image.new("RGB", (20, 20), (40 * index, 0, 0)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"red number {index}")
    (folder / "6.png").write_bytes(b"not a picture")
    (folder / "6.txt").write_text("broken")
    return folder


def test_import_says_what_it_left_out_and_check_finds_damage(emoji_like, tmp_path):
    out = tmp_path / "shards"
    done = unify("data", "import", emoji_like, out)
    assert done.returncode == 0, done.stderr
    assert "6" in done.stdout
    assert unify("data", "check", out).returncode == 0
    tar = next(out.glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[700] ^= 255
    tar.write_bytes(bytes(data))
    assert unify("data", "check", out).returncode == 1
    assert unify("data", "check", out, "--repair").returncode == 0
    assert unify("data", "check", out).returncode == 0
