"""The entry of the command line: how a process ends, and what a user reads of an error."""

import subprocess
import sys

import pytest
from command_line import unify


@pytest.mark.slow
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
    assert done.stderr.startswith("unify: standard output cannot be written (No space left")


def test_a_user_error_is_one_message_and_no_traceback(tmp_path):
    done = unify("train", "-c", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("unify: ")
    assert "Traceback" not in done.stderr
    assert "Traceback" in unify("train", "-c", "nowhere.yaml", "--debug", cwd=tmp_path).stderr
