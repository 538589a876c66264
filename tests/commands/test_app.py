"""The app of all commands."""

import subprocess
import sys
from contextlib import suppress

import pytest
import typer
from command_line import unify

from unify.commands.arguments import echo
from unify.support.stop_protocol import LostOutput


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


@pytest.mark.fault(41)
def test_output_that_has_no_room_is_named(monkeypatch):
    # closing it tries again
    with suppress(OSError), open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        with pytest.raises(LostOutput, match=r"standard output cannot be written \(No space left"):
            echo("x")
    patch.undo()


def test_a_reader_that_left_is_no_error_of_ours(monkeypatch):
    def fail(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr(typer, "echo", fail)
    with pytest.raises(BrokenPipeError):
        echo("x")
