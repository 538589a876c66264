"""How much memory a training takes, as the system saw it: bytes printed. Not a test itself.

memory_child.py FILE.yaml FOLDER [key=value ...]

Two steps of the file in its tiny form, with the same `machine`, come first: what is loaded and
compiled on first use is no part of what the steps then add to the process.
"""

import ctypes
import gc
import sys
from pathlib import Path

import lightning as L

from unify.config import load_recipe
from unify.training.train_run import train

STEPS = 2  # the second has moments and the average of the first beside all else


class Highest(L.Callback):
    """The most that the process has held, after every step."""

    def __init__(self):
        self.bytes = 0

    def on_train_batch_end(self, *_):
        self.bytes = of_process("VmHWM")


def of_process(line: str) -> int:
    """Bytes, from /proc (Linux)."""
    value = Path("/proc/self/status").read_text().partition(f"{line}:")[2]
    return 1024 * int(value.split()[0])


def start_anew() -> None:
    """VmHWM, the most that the process has held, counts from now on."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def main(file: str, folder: str, *words: str) -> None:
    own = [f"machine.runs={folder}", "machine.tracker=none", "machine.accelerator=cpu"]
    machine = [word for word in words if word.startswith("machine.")]
    train(load_recipe(file, [*own, *machine], tiny=True), lambda _: None)
    start_anew()
    before, highest = of_process("VmRSS"), Highest()
    train(load_recipe(file, [*own, f"steps={STEPS}", *words], tiny=True), lambda _: None, [highest])
    print(highest.bytes - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
