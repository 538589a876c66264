"""Heartbeats of ranks: each counts up in the store where they met, as long as it lives.

An exchange that times out does not say who was missing. A rank that has ended or is frozen no
longer counts, while those that wait for it do.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

PERIOD = 1.0  # seconds between counts
PATIENCE = 6.0  # seconds that the store has to answer


class Heartbeat:
    """Counts up from construction on, in a thread that stops with the process."""

    def __init__(self, store: Any, rank: int, size: int):
        self.store, self.rank, self.size = store, rank, size
        store.set(f"who/{rank}", f"{socket.gethostname()}, process {os.getpid()}")
        threading.Thread(target=self._count, daemon=True, name="heartbeat").start()

    def _count(self) -> None:
        with suppress(Exception):  # the store ends with the rank that keeps it
            while True:
                self.store.add(f"beats/{self.rank}", 1)
                time.sleep(PERIOD)

    def silent_ranks(self) -> str:
        """A phrase that names the ranks that do not count; empty if all do. Takes seconds."""
        silent: list[str] = []
        asking = threading.Thread(target=self._ask, args=(silent,), daemon=True)
        asking.start()
        asking.join(PATIENCE)  # a store whose host is gone may block for ever
        if asking.is_alive():
            return "rank 0, where all met, does not answer"
        return "; ".join(silent)

    def _ask(self, silent: list[str]) -> None:
        """Append a phrase for each rank whose count stands still for three periods."""
        try:
            before = self._beats()
            time.sleep(3 * PERIOD)
            for rank, (old, new) in enumerate(zip(before, self._beats(), strict=True)):
                if old == new and rank != self.rank:
                    who = self.store.get(f"who/{rank}").decode()
                    silent.append(f"rank {rank} ({who}) is silent")
        except Exception:
            silent.append("rank 0, where all met, is gone")

    def _beats(self) -> list[int]:
        return [self.store.add(f"beats/{rank}", 0) for rank in range(self.size)]
