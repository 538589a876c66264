"""Start one command as several ranks on this machine, as torchrun does, but pass signals on.

STOP_SIGNALS are passed on, and ranks get the time they need to save: it is the scheduler that ends
the job, or a second Ctrl-C. When a rank fails the others cannot go on; they have GRACE seconds to
say why.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from unify.distributed.process_pool import passed_on, threads_of
from unify.distributed.ranks import free_port, from_slurm
from unify.support.stop_protocol import status_of, stop_signals_to

GRACE = 20.0  # seconds


def spawns(machine: dict[str, Any]) -> bool:
    """True if this process must start the ranks that `machine` asks for, and be none of them.

    ValueError if several nodes are asked for without a launcher.
    """
    from_slurm()
    if "RANK" in os.environ or machine["devices"] * machine["nodes"] == 1:
        return False
    if machine["nodes"] > 1:
        raise ValueError(
            f"machine.nodes is {machine['nodes']}, but this is one process on one machine: start "
            "one on each node by srun or torchrun, or let `unify submit` do it"
        )
    return True


def spawn(devices: int, say: Callable[[str], None]) -> int:
    """Run the command line of this process as `devices` ranks and wait for them.

    Returns:
        0, or the exit status of the first that failed: 128 + number if a signal ended it; that of
        the signal if one came to this process.
    """
    command = [sys.executable, "-m", "unify.cli", *sys.argv[1:]]
    processes = [
        subprocess.Popen(command, env=os.environ | seat, preexec_fn=_end_with_parent)
        for seat in _seats(devices)
    ]

    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        received.append(number)
        for process in processes:
            process.send_signal(passed_on(number))

    def kill() -> None:
        for process in processes:
            process.kill()

    with stop_signals_to(stop, kill):
        status = _watch(processes, say)
    return status_of(received[0]) if status and received else status


def _seats(devices: int) -> list[dict[str, str]]:
    """Environment of each rank, as torchrun sets it."""
    share = threads_of(devices)
    threads = min(share, int(os.environ.get("OMP_NUM_THREADS", share)))
    common = {
        "WORLD_SIZE": devices,
        "LOCAL_WORLD_SIZE": devices,
        "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "OMP_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": 1,
    }
    seats = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in range(devices)]
    return [{key: str(value) for key, value in seat.items()} for seat in seats]


def _watch(processes: list[subprocess.Popen], say: Callable[[str], None]) -> int:
    """Wait for all and return as `spawn`; GRACE seconds after one has failed kill the others."""
    status, deadline = 0, None
    while None in [process.poll() for process in processes]:
        failed = [r for r, p in enumerate(processes) if p.returncode]
        if failed and deadline is None:
            status, deadline = processes[failed[0]].returncode, time.monotonic() + GRACE
            if status < 0:
                say(f"rank {failed[0]} was ended by {signal.Signals(-status).name}")
                status = 128 - status
        if deadline is not None and time.monotonic() > deadline:
            alive = [r for r, p in enumerate(processes) if p.poll() is None]
            say(f"ending rank {', '.join(map(str, alive))}: rank {failed[0]} has failed")
            for rank in alive:
                processes[rank].kill()
            deadline = float("inf")
        time.sleep(0.05)
    return status or next((p.returncode for p in processes if p.returncode), 0)


def _end_with_parent() -> None:
    """Ask the kernel to kill this child when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
