"""Faults that tests inject, counted over a test session and printed as one table.

    @pytest.mark.fault(10)                 a test, or each of its cases, injects one fault of row 10
    @pytest.mark.fault(16, times=118)      one that injects so many, and fails if one is not as told
    record_property("times", 100)          the same, where the test decides
    record_property("seconds", 0.8)        how long the message took, where there is one

`pytest --faults FILE` keeps what was counted; `python tests/fault_table.py FILE ...` prints the
table of several sessions as Markdown (docs/reliability.md).
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

ROWS = {
    1: ("resumed at every step", "weights and losses bit-equal"),
    2: ("resumed within accumulation, at an epoch's end", "bit-equal"),
    3: ("loader workers, 0 to 2", "samples without gap or repeat, in order"),
    4: ("ranks change: 1, 2, 4", "same samples in order, same loss"),
    5: ("workers change on resuming", "same samples in order"),
    6: ("optimizer state of another model", "refused by name"),
    7: ("SIGKILL at a random moment", "resumed; in the end bit-equal"),
    8: ("death at a system call of a save", "the old or the new checkpoint is valid"),
    9: ("$TMPDIR on another file system", "plays no part"),
    10: ("newest checkpoint damaged", "named, passed over, the one before is taken"),
    11: ("SIGTERM to one rank or all", "saved at a step's end, status 75"),
    12: ("SIGUSR1 within a step", "saved at the step's end, run not finished"),
    13: ("requeued, preempted, cancelled by SLURM", "goes on; bit-equal end"),
    14: ("node lost", "requeued, resumed"),
    15: ("two signals, or one during a save", "one save, whole"),
    16: ("tar cut", "noticed wherever it is cut"),
    17: ("tar header damaged", "noticed; the rest is read"),
    18: ("odd and broken images", "read as meant, or left out under a reason"),
    19: ("odd and broken captions and metadata", "kept as they are, or left out under a reason"),
    20: ("many bad records", "counted under their reasons; none usable: stops"),
    21: ("NaN or inf, on one rank or all", "all stop before the update; samples named"),
    22: ("loss spike", "in the journal as it is"),
    23: ("disk full", "older checkpoint whole; message says so"),
    24: ("run folder read-only, gone, or a file", "one message"),
    25: (
        "tracker down, silent, slow or talking nonsense",
        "trains on; 2 s at most for a whole command",
    ),
    26: ("tracker down half-way", "every record arrives later, once"),
    27: ("two writers of one run", "one wins; the other is told"),
    28: ("broken YAML", "refused with file, key and remedy"),
    29: ("hostile checkpoint, tar, YAML", "nothing is executed"),
    30: ("hostile captions; secrets in the environment", "no script node; no secret on disk"),
    31: ("uneven ranks", "refused before the first step; what differs is named"),
    32: ("rank frozen or dead", "all stop within seconds of the timeout; the rank is named"),
    33: ("loader worker dead or stuck", "error within the timeout; no process left"),
    34: ("host memory exhausted", "one message; resumes"),
    35: ("hash seed, locale, time zone, odd path", "same weights"),
    36: (
        "numbers out of range, outcomes not measured",
        "refused with file, key and range",
    ),
    37: ("names, words and texts that leave their place", "refused, or written out"),
    38: (
        "Ctrl-C, or the terminal lost",
        "saved at a step's end; status 130, 129",
    ),
    39: ("two writers of one study", "the second is told who holds it; a dead one holds nothing"),
    40: ("a file of a run or study empty, cut, of other types", "named; the other arms reported"),
    41: ("disk full at any file", "the old file whole; path and remedy named"),
    42: ("a file of another's in the place of ours", "named, and left as it is"),
    43: ("MLflow's runs, experiment or database deleted", "brought back or made anew"),
    44: ("MLflow's database newer, older, no database, locked", "one line with what to do"),
    45: ("a user, password or token in the tracker's address", "refused, nowhere repeated"),
}


class Faults:
    """Collects reports; each is (row, times, passed, seconds or None)."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.seen: list[tuple[int, int, bool, float | None]] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item):
        report = (yield).get_result()
        mark = item.get_closest_marker("fault")
        if mark is not None and report.when == "call" and not report.skipped:
            usual = mark.kwargs.get("times", 1)
            if self.config.getoption("--drill"):  # what a generator draws counts one by one there
                usual = mark.kwargs.get("examples", usual)
            times = dict(report.user_properties).get("times", usual)
            report.user_properties.append(("fault", [*mark.args, times]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        printed: dict[str, Any] = dict(report.user_properties)
        for name, value in report.user_properties:
            if name == "fault":
                self.seen.append((*value, report.passed, printed.get("seconds")))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.seen:
            terminalreporter.write_line("\n" + table(self.seen))
        target = self.config.getoption("--faults")
        if target:
            Path(target).write_text(json.dumps(self.seen))


def table(seen: Iterable[Any]) -> str:
    """Markdown: a line for each row that was injected, and their sum."""
    seen = [tuple(one) for one in seen]
    lines = ["| # | fault | stated behaviour | injected | as stated | not | seconds to message |"]
    lines.append("|--:|---|---|--:|--:|--:|--:|")
    for row, (fault, stated) in ROWS.items():
        own = [one for one in seen if one[0] == row]
        if own:
            lines.append(_line(str(row), fault, stated, own))
    lines.append(_line("", "all", "", seen))
    return "\n".join(lines)


def _line(row: str, fault: str, stated: str, own: list) -> str:
    injected, well = sum(n for _, n, _, _ in own), sum(n for _, n, passed, _ in own if passed)
    times = [seconds for *_, seconds in own if seconds is not None]
    printed = f"{statistics.median(times):.1f} (at most {max(times):.1f})" if times and row else ""
    return f"| {row} | {fault} | {stated} | {injected} | {well} | {injected - well} | {printed} |"


if __name__ == "__main__":
    print(table([one for file in sys.argv[1:] for one in json.loads(Path(file).read_text())]))
