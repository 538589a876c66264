"""Checks of devices: which there are, that they compute right, that ranks can exchange."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from unify.doctor.finding import Finding, cause, seat, within

EXCHANGE = (sys.executable, "-m", "unify.doctor.exchange")
LIMIT = 90.0  # seconds that ranks may take: most of what they need is the import of torch
ROUNDING = 0.02  # bf16 makes about 0.003


def devices() -> list[Finding]:
    """Every GPU (in a step, the rank's own) and the CPU, each tried with a product in bf16."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        has_cuda = torch.cuda.is_available()  # its warning says why not
    findings = _gpus(torch.cuda.device_count()) if has_cuda else []
    if torch.backends.mps.is_available():
        findings.append(_product("mps", "Apple GPU"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    findings.append(_product("cpu", f"{cores} cores, {torch.get_num_threads()} threads of torch"))
    return findings if has_cuda else [_no_gpu("; ".join(str(w.message) for w in caught)), *findings]


def _gpus(count: int) -> list[Finding]:
    _, world = seat()
    if world.size == 1:
        return [_gpu(index) for index in range(count)]
    if world.local_rank < count:
        return [_gpu(world.local_rank)]
    do = "let each task see all of its node: --gpus-per-node instead of --gpus-per-task"
    found = f"the rank {world.local_rank} of this node takes that GPU, and sees {count}"
    return [Finding("cuda", "problem", found, do)]


def _gpu(index: int) -> Finding:
    try:
        return _gpu_that_answers(index)
    except RuntimeError as error:
        do = "see nvidia-smi: is it another's alone, or lost until its driver is loaded again?"
        return Finding(f"cuda:{index}", "problem", cause(error), do)


def _gpu_that_answers(index: int) -> Finding:
    import torch

    card = torch.cuda.get_device_properties(index)
    free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(index))
    text = (
        f"{card.name}, {free:.0f} of {total:.0f} GiB free, compute capability "
        f"{card.major}.{card.minor}{_driver(index)}"
    )
    result = _product(f"cuda:{index}", text)
    if result.state != "ok":
        return result
    with torch.cuda.device(index):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            do = "machine.precision=32-true: in bf16 it would be slow"
            return Finding(result.name, "note", f"{text}; it has no bf16 of its own", do)
    if free < 0.8 * total:
        return Finding(result.name, "note", f"{text}: in use by others", "see nvidia-smi for whose")
    return result


def _driver(index: int) -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", f"--id={index}"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return f", driver {done.stdout.strip()}"
    return ""


def _product(device: str, text: str) -> Finding:
    """Check that a product of two bf16 matrices on the device is that of fp32 up to rounding."""
    import torch

    a, b = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
    exact = a @ b
    try:
        product = (a.to(device).bfloat16() @ b.to(device).bfloat16()).float().cpu()
    except RuntimeError as error:
        do = (
            f"install a torch that is built for this device (this one: CUDA {torch.version.cuda}), "
            "or machine.accelerator=cpu"
        )
        return Finding(device, "problem", f"{text}: no bf16 product: {cause(error)}", do)
    off = ((product - exact).norm() / exact.norm()).item()
    if not off < ROUNDING:
        do = "do not train on it; have the device looked at (nvidia-smi -q: ECC errors)"
        return Finding(device, "problem", f"{text}: a bf16 product is off by {off:.2g}", do)
    return Finding(device, "ok", f"{text}; bf16 product right to {off:.1g}")


def _no_gpu(reasons: str) -> Finding:
    import torch

    built = f"torch {torch.__version__} is built for "
    built += f"CUDA {torch.version.cuda}" if torch.version.cuda else "no GPU"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if Path("/dev/nvidia0").exists() and not hidden:
        do = (
            "compare nvidia-smi's driver with torch's CUDA: a newer driver, or a torch for this "
            "one; in a SLURM job, ask for the GPU (--gpus)"
        )
        return Finding("cuda", "problem", f"a GPU is here, unused; {built}. {reasons}".strip(), do)
    if not torch.version.cuda:
        return Finding("cuda", "ok", f"{built}, and none is here")
    why = "CUDA_VISIBLE_DEVICES hides all GPUs" if hidden else "there is no GPU here"
    do = "nothing, if the CPU is meant; on a cluster: srun --gpus=1 unify doctor"
    return Finding("cuda", "note", f"{built}, and {why}", do)


def ranks(command: Sequence[str] = EXCHANGE, limit: float = LIMIT) -> list[Finding]:
    """An all_reduce of real processes: a rank for each GPU, or two over gloo, or this step's."""
    import torch

    here, world = seat()
    gpus, step = torch.cuda.device_count(), world.size > 1
    if step and not _resolves(here["MASTER_ADDR"]):
        return [_unresolved(here["MASTER_ADDR"])]
    seats = [here] if step else _seats(here, min(gpus, 8) or 2)
    version = ""
    if torch.distributed.is_nccl_available():
        version = ".".join(map(str, torch.cuda.nccl.version()))
    name = "nccl" if gpus else "gloo"
    many = f"{world.size if step else len(seats)} ranks"
    many += f" of this step (at {here['MASTER_ADDR']})" if step else " of this machine"
    if trouble := _exchange(command, seats, limit):
        return [Finding(name, "problem", f"{many} {trouble}", _advice(bool(gpus), step))]
    built = f"; NCCL {version} is built in" if version else ""
    also = built if gpus else f"{built}, and there is no GPU to try it on" if built else ""
    return [Finding(name, "ok", f"{many} have exchanged{also}")]


def _resolves(address: str) -> bool:
    try:
        return bool(within(10.0, lambda: socket.getaddrinfo(address, None)))
    except (OSError, TimeoutError):
        return False


def _unresolved(address: str) -> Finding:
    """A finding instead of a try: ranks would look for the address for minutes."""
    do = (
        "have it put into /etc/hosts or DNS, or give its address: environment: {MASTER_ADDR: ...} "
        "in the cluster's YAML (127.0.0.1 where all is one machine)"
    )
    return Finding("ranks", "problem", f"they meet at {address}, which has no address here", do)


def _seats(here: dict[str, str], count: int) -> list[dict[str, str]]:
    from unify.distributed.ranks import free_port  # it needs a torch that works

    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": free_port()}
    here = here | {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    seats = [common | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [here | {key: str(value) for key, value in seat.items()} for seat in seats]


def _exchange(command: Sequence[str], seats: Sequence[dict[str, str]], limit: float) -> str:
    """Run the ranks; returns what went wrong in words, or an empty text."""
    processes: list[subprocess.Popen] = []
    with ExitStack() as files:  # not pipes: a full pipe that nobody reads would block its rank
        logs = [files.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in seats]
        try:
            for seat, log in zip(seats, logs, strict=True):
                processes.append(subprocess.Popen(command, env=seat, stdout=log, stderr=log))
            failed, answered = _watch(processes, time.monotonic() + limit)
        finally:
            for process in processes:
                process.kill()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
        if failed is not None:
            status = processes[failed].returncode
            end = signal.Signals(-status).name if status < 0 else f"status {status}"
            rank = seats[failed]["RANK"]
            return f"cannot exchange: rank {rank} ended with {end}{_last_line(logs[failed])}"
        last_lines = "".join(map(_last_line, logs))
        return "" if answered else f"did not exchange within {limit:g} s{last_lines}"


def _watch(processes: list[subprocess.Popen], deadline: float) -> tuple[int | None, bool]:
    """Wait until a rank fails or all end; (the first that failed, whether all have ended)."""
    while time.monotonic() < deadline:
        states = [process.poll() for process in processes]
        failed = next((rank for rank, status in enumerate(states) if status), None)
        if failed is not None or None not in states:
            return failed, None not in states
        time.sleep(0.05)
    return None, False


def _last_line(log: IO[str]) -> str:
    """The last line that a rank printed: its error rather than the stack above it."""
    log.seek(0)
    lines = [line for line in log.read().splitlines() if line.strip()]
    lines = [line for line in lines if "Error" in line] or lines
    return f"; {lines[-1].strip()}" if lines else ""


def _advice(gpus: bool, step: bool) -> str:
    where = "MASTER_ADDR must be a name or address of the first node that all can reach; "
    name = "NCCL_SOCKET_IFNAME" if gpus else "GLOO_SOCKET_IFNAME"
    now = f" (now {os.environ[name]})" if name in os.environ else ""
    advice = f"{where if step else ''}set {name}{now} to the network that ranks are to use"
    if not gpus:
        return f"{advice}{'' if step else ' (here: lo)'}, and see that no firewall is between them"
    return f"{advice}; see what NCCL_DEBUG=INFO says; try NCCL_P2P_DISABLE=1, NCCL_IB_DISABLE=1"
