"""The command line in a process of its own, from the fork server."""

import os
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from command_child import Commands
from places import ROOT


def unify(*arguments, cwd=ROOT):
    """Run a command; its status, output and errors."""
    with TemporaryDirectory() as folder:
        ended = Commands(Path(folder))(*arguments, cwd=cwd, **os.environ)
    return CompletedProcess(arguments, ended.status, ended.out, ended.err)
