"""Two ranks in shards, of which one or both are told to stop, killed, frozen, or at odds.

Real commands and real signals; `pytest --drill` injects as many as docs/reliability.md has.
"""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from command_child import TRAIN, Commands, run_within, seats, weights

from unify.runs.checkpoint_folder import latest_valid, step_of
from unify.runs.journal import Journal

pytestmark = pytest.mark.slow
SHARDS = ["machine.strategy=fsdp", "machine.accelerator=cpu", "machine.precision=32-true"]
SAVING = [*TRAIN, *SHARDS, "machine.tracker=none", "logging.checkpoint_every=1"]


@pytest.fixture
def unify(tmp_path):
    return Commands(tmp_path)


def start(unify, runs, *words, own=((), ())):
    """Both ranks; `own`: words of one of them."""
    common = [*SAVING, f"machine.runs={runs}", *words]
    elsewhere = {"TMPDIR": "/dev/shm"}  # another file system
    return [
        unify.start(*common, *own[rank], **elsewhere, **seat) for rank, seat in enumerate(seats(2))
    ]


def reached(runs):
    return max((int(p.name[5:]) for p in runs.glob("*/*/checkpoints/step-*")), default=0)


def until(runs, step, processes, seconds=120):
    """Both are past a checkpoint, or have ended."""
    end = time.monotonic() + seconds
    while reached(runs) < step and all(process.is_alive() for process in processes):
        assert time.monotonic() < end
        time.sleep(0.005)


def interrupted(unify, runs, steps, times, numbers, whom):
    """A run that is signalled so many times; what its ranks' statuses were."""
    chance, statuses = random.Random(f"{numbers}{whom}"), []
    while len(statuses) < times and reached(runs) < steps:
        ranks = start(unify, runs, f"steps={steps}")
        until(runs, reached(runs) + 1, ranks)
        time.sleep(chance.random() * 0.3)
        for rank in whom:
            if ranks[rank].is_alive():
                os.kill(ranks[rank].pid, chance.choice(numbers))
        statuses.append([unify.ended(process).status for process in ranks])
    ended = [unify.ended(process, 900) for process in start(unify, runs, f"steps={steps}")]
    assert [one.status for one in ended] == [0, 0], ended
    return statuses


def outcome(runs):
    (run,) = [path.parent for path in runs.glob("*/*/run.json")]
    return weights(runs), Journal(run).records("train")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Weights and journal of a run of so many steps that nothing happens to."""
    known = {}

    def of(steps):
        if steps not in known:
            folder = tmp_path_factory.mktemp("calm")
            for one in start(Commands(folder), folder, f"steps={steps}"):
                one.join(900)
                assert one.exitcode == 0
            known[steps] = outcome(folder)
        return known[steps]

    return of


WHOM = [(1,), (0, 1), pytest.param((0,), marks=pytest.mark.drill)]


@pytest.mark.fault(11)
@pytest.mark.parametrize("whom", WHOM)
def test_ranks_that_are_told_to_stop_save_and_go_on_bit_equal(
    unify, tmp_path, calm, whom, often, record_property
):
    times = often(2, 40)
    numbers, steps = [signal.SIGTERM, signal.SIGUSR1], 12 * times
    statuses = interrupted(unify, tmp_path, steps, times, numbers, whom)
    record_property("times", len(statuses))
    assert all(one in ([75, 75], [0, 0]) for one in statuses), statuses
    assert len(statuses) >= min(times, 2)
    assert outcome(tmp_path) == calm(steps)


@pytest.mark.fault(7)
@pytest.mark.parametrize("whom", WHOM)
def test_killed_ranks_lose_what_was_not_saved_and_end_bit_equal(
    unify, tmp_path, calm, whom, often, record_property
):
    times = often(2, 34)
    steps = 12 * times
    statuses = interrupted(unify, tmp_path, steps, times, [signal.SIGKILL], whom)
    record_property("times", len(statuses))
    for one in statuses:
        assert all(status in (-9, 69, 0) for status in one), statuses
    assert outcome(tmp_path) == calm(steps)


LOST = {
    "frozen": (signal.SIGSTOP, "is silent"),
    "killed": (signal.SIGKILL, "is silent"),
    "crashed": (signal.SIGSEGV, "is silent"),
}


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("how", "victim"),
    [
        *(("frozen", 0), ("killed", 1), ("crashed", 1)),
        *(
            pytest.param(*case, marks=pytest.mark.drill)
            for case in (("frozen", 1), ("killed", 0), ("crashed", 0))
        ),
    ],
)
def test_a_rank_that_is_lost_is_named_by_the_other(unify, tmp_path, how, victim, record_property):
    number, message = LOST[how]
    ranks = start(unify, tmp_path, "steps=100000", "machine.timeout=15")
    until(tmp_path, 2, ranks)
    begin = time.monotonic()
    os.kill(ranks[victim].pid, number)
    ended = unify.ended(ranks[1 - victim], 120)
    record_property("seconds", time.monotonic() - begin)
    unify.ended(ranks[victim], 0)
    assert ended.status == 69, ended
    (line,) = [line for line in ended.err.splitlines() if line.startswith("unify: ")]
    assert f"unify: rank {1 - victim} has lost other ranks" in line
    assert f"rank {victim}" in line
    assert message in line if victim else ("does not answer" in line or "is gone" in line)
    result = latest_valid(next(tmp_path.glob("*/*/checkpoints")))
    assert result is not None
    assert step_of(result) >= 1


UNEVEN = [("steps=60", "steps=20"), ("data.tasks.caption=4", "data.tasks.caption=2")]


@pytest.mark.fault(31)
@pytest.mark.parametrize("words", UNEVEN)
def test_ranks_that_were_started_differently_are_refused_by_name(
    unify, tmp_path, words, record_property
):
    begin = time.monotonic()
    ranks = start(unify, tmp_path, own=[(word,) for word in words])
    ended = [unify.ended(process, 120) for process in ranks]
    record_property("seconds", time.monotonic() - begin)
    for one in ended:
        assert one.status == 1, ended
        assert f"rank 1 was started with {words[1]}, and rank 0 {words[0]}: start all" in one.err
    assert not list(tmp_path.glob("default/*/journal.jsonl")), "before anything was trained"


@pytest.mark.fault(31)
def test_ranks_that_read_different_data_are_refused(unify, tmp_path):
    """A file on one node that is another on the next."""
    path = tmp_path / "parts.py"
    path.write_text(DATA.format(number="os.environ['RANK']"))
    ranks = start(unify, tmp_path, f"data.source.class={path}:Mine")
    for one in [unify.ended(process, 120) for process in ranks]:
        assert one.status == 1, one
        assert "rank 1 reads other data" in one.err


DATA = """import os
from unify.data.shapes import Shapes


class Mine(Shapes):
    def fingerprint(self):
        return "data" + {number}
"""


def test_the_launcher_ends_ranks_that_wait_for_a_lost_one(tmp_path):
    words = [*SAVING, "machine.devices=2", f"machine.runs={tmp_path}", "machine.timeout=15"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "unify.cli", *words, "steps=100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while reached(tmp_path) < 2:
        assert launcher.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    first, _ = children(launcher.pid)
    os.kill(first, signal.SIGSTOP)  # not the one that it looks at last
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 69
    assert "ending rank 0: rank 1 has failed" in out
    assert "rank 1 has lost other ranks" in err


def children(process):
    told = subprocess.run(["ps", "--ppid", str(process), "-o", "pid="], capture_output=True)
    return sorted(int(word) for word in told.stdout.split())


@pytest.mark.fault(33)
@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.drill)])
def test_a_loader_process_that_dies(unify, tmp_path, which, record_property):
    words = [*TRAIN, f"machine.runs={tmp_path}", "machine.tracker=none", "machine.workers=2"]
    process = unify.start(*words, "steps=100000", "logging.checkpoint_every=5")
    until(tmp_path, 5, [process])
    begin, workers = time.monotonic(), children(process.pid)
    os.kill(workers[which], signal.SIGKILL)
    ended = unify.ended(process, 60)
    record_property("seconds", time.monotonic() - begin)
    assert ended.status == 1, ended
    # by its SIGCHLD, or by a batch of its own that can no longer be fetched
    messages = (
        f"(pid {workers[which]}) is killed",
        f"(pid(s) {workers[which]}) exited unexpectedly",
    )
    assert any(one in ended.err for one in messages), ended.err
    assert "the same command goes on" in ended.err
    assert not any(Path(f"/proc/{one}").exists() for one in workers), "none is left"


@pytest.mark.fault(34)
def test_a_host_without_memory(unify, tmp_path, record_property):
    rows = "data.tasks={text_to_image: 2048, caption: 2048, vqa: 2048}"
    words = [*TRAIN, rows, "steps=2", f"machine.runs={tmp_path}", "machine.tracker=none"]
    begin = time.monotonic()
    ended = unify.ended(unify.start(*words, target=partial(run_within, 600)))
    record_property("seconds", time.monotonic() - begin)
    assert ended.status == 1, ended
    assert "lower machine.micro_batch" in ended.err
    assert "the same command goes on" in ended.err
    assert unify(*words, "machine.micro_batch=96").status == 0, "with what the message says"
