"""The app of all commands."""

import subprocess
import sys

from command_line import unify


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
