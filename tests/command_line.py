"""The command line in a process of its own."""

import subprocess
import sys

from places import ROOT


def unify(*arguments, cwd=ROOT):
    """Run a command; its status, output and errors."""
    return subprocess.run(
        [sys.executable, "-m", "unify.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
