"""What strangers might put into files: calls that make the canary, a file, once they are run."""

import os
import subprocess

import pytest


class Reduce:
    """Is a call once it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        raise AssertionError("only what it is unpickled to is called")


CALLS = {
    "os.system": lambda canary: Reduce(os.system, f"touch {canary}"),
    "subprocess": lambda canary: Reduce(subprocess.check_output, ["touch", str(canary)]),
    "eval": lambda canary: Reduce(eval, f"open({str(canary)!r}, 'w')"),
    "exec": lambda canary: Reduce(exec, f"open({str(canary)!r}, 'w')"),
    "open": lambda canary: Reduce(open, str(canary), "w"),
    "getattr": lambda canary: Reduce(
        Reduce(getattr, Reduce(__import__, "os"), "system"), f"touch {canary}"
    ),
}
each_call = pytest.mark.parametrize("call", CALLS)


def payload(call, canary):
    return CALLS[call](canary)


def evil(folder, canary):
    """A Python file that would be imported."""
    (folder / "evil.py").write_text(
        f"open({str(canary)!r}, 'w')\nfrom transformers import PretrainedConfig, PreTrainedModel\n"
        "class Evil: pass\nclass Config(PretrainedConfig): pass\nclass Model(PreTrainedModel): pass"
    )
