"""Which rank is silent: every one counts in the store where they met, as long as it lives.

An exchange that times out does not say who was missing. A rank that has ended or is frozen no
longer counts, while those that wait for it do.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

PERIOD = 1.0  # seconds from one count to the next
PATIENCE = 6.0  # seconds in which the store must answer


class Heartbeat:
    """Counts from now on, in a thread that ends with the process."""

    def __init__(self, store: Any, rank: int, size: int):
        self.store, self.rank, self.size = store, rank, size
        store.set(f"who/{rank}", f"{socket.gethostname()}, process {os.getpid()}")
        threading.Thread(target=self._count, daemon=True, name="heartbeat").start()

    def _count(self) -> None:
        with suppress(Exception):  # the store goes with the rank that keeps it
            while True:
                self.store.add(f"beats/{self.rank}", 1)
                time.sleep(PERIOD)

    def silent(self) -> str:
        """The ranks that no longer count, in words; empty where all do."""
        found: list[str] = []
        asking = threading.Thread(target=self._ask, args=(found,), daemon=True)
        asking.start()
        asking.join(PATIENCE)
        if asking.is_alive():
            return "rank 0, where all met, does not answer"
        return "; ".join(found)

    def _ask(self, found: list[str]) -> None:
        try:
            before = self._beats()
            time.sleep(3 * PERIOD)
            for rank, (old, new) in enumerate(zip(before, self._beats(), strict=True)):
                if old == new and rank != self.rank:
                    who = self.store.get(f"who/{rank}").decode()
                    found.append(f"rank {rank} ({who}) is silent")
        except Exception:
            found.append("rank 0, where all met, is gone")

    def _beats(self) -> list[int]:
        return [self.store.add(f"beats/{rank}", 0) for rank in range(self.size)]
