"""Ranks: the processes that train one model together, what they exchange and where they meet.

    srun         starts one process per task with SLURM_*; `join` makes RANK and the like of them
    torchrun     sets RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT
    bare         `unify train` with `machine.devices: 4` starts four ranks (local_launch.py)

A launcher decides how many ranks there are; `machine.devices` and `machine.nodes` follow it. Every
exchange here is the identity in a process that is alone, so callers need not ask. Models never
import this file: what they need of other ranks is handed to them.
"""

import os
import random
import re
import socket
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from unify.distributed.heartbeat import Heartbeat
from unify.support.stop_protocol import STOPPED_BY, end_process

T = TypeVar("T")
C = TypeVar("C")
Environment = MutableMapping[str, str]


@dataclass(frozen=True)
class World:
    """Place of this process among those that were launched together."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1  # on this node

    @property
    def nodes(self) -> int:
        return self.size // self.local_size


def world(environment: Environment = os.environ) -> World:
    """The World that launcher variables describe; one process without a launcher.

    ValueError if the nodes have different numbers of ranks.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return World()
    size = int(environment["WORLD_SIZE"])
    launched = World(
        rank=int(environment["RANK"]),
        local_rank=int(environment.get("LOCAL_RANK", 0)),
        size=size,
        local_size=int(environment.get("LOCAL_WORLD_SIZE", size)),
    )
    if launched.size % launched.local_size:
        raise ValueError(
            f"{launched.size} ranks do not lie evenly on nodes of {launched.local_size}; start as "
            "many on every node"
        )
    return launched


def from_slurm(environment: Environment = os.environ) -> None:
    """Set torchrun's variables in a task of a SLURM step of several tasks; do nothing elsewhere.

    ValueError if the nodes have different numbers of tasks.
    """
    # not SLURM_NTASKS, which the batch script itself has as well
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if "SLURM_PROCID" not in environment or "RANK" in environment or tasks == 1:
        return
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", 1))
    if tasks % nodes:
        raise ValueError(
            f"{tasks} tasks do not lie evenly on {nodes} nodes; start as many on every node "
            "(--ntasks-per-node)"
        )
    hosts = environment.get("SLURM_STEP_NODELIST", "")
    port = 15000 + int(environment["SLURM_JOB_ID"]) % 10000
    environment.update(
        RANK=environment["SLURM_PROCID"],
        LOCAL_RANK=environment["SLURM_LOCALID"],
        GROUP_RANK=environment["SLURM_NODEID"],
        WORLD_SIZE=str(tasks),
        LOCAL_WORLD_SIZE=str(tasks // nodes),
    )
    if "MASTER_ADDR" not in environment:
        environment["MASTER_ADDR"] = first_host(hosts)
    environment.setdefault("MASTER_PORT", str(port))


def first_host(hosts: str) -> str:
    """First host of a SLURM node list: `rack[1-2]n[07-09,12],other` -> rack1n07."""
    first = re.split(r",(?![^\[]*\])", hosts)[0]  # commas in brackets separate no hosts
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first) or "127.0.0.1"


def join(timeout_s: float = 1800.0, accelerator: str = "auto") -> World:
    """Enter the group of all ranks; a process that is alone, or has entered, goes on at once.

    Args:
        timeout_s: seconds after which an exchange that some rank does not take part in is an error.
        accelerator: as `machine.accelerator`; decides between NCCL and gloo.

    Returns:
        the place of this process.
    """
    from_slurm()
    place = world()
    if place.size == 1 or dist.is_initialized():
        return place
    device = device_of(accelerator)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, *_ = next(dist.rendezvous("env://", place.rank, place.size))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.size,
        timeout=timedelta(seconds=timeout_s),
    )
    global _heartbeat, _timeout
    _timeout = timedelta(seconds=timeout_s)
    _heartbeat = Heartbeat(dist.PrefixStore("heartbeat", store), place.rank, place.size)
    return place


_heartbeat: Heartbeat | None = None
_timeout = timedelta(minutes=30)  # how long an exchange may take


def free_port() -> int:
    """A free port of this machine, for ranks to meet at; OSError if there is none.

    It lies below the ports that the kernel assigns by itself (Linux: from 32768), as it is free
    again until the first rank listens.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 200):
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port from 20000 to 32000 is free for the ranks to meet at")


def end(status: int) -> NoReturn:
    """Leave the group and end this process, with output and exit functions (see `end_process`)."""
    together = dist.is_initialized()
    if together and status in (0, *STOPPED_BY):  # on an error others may be gone: do not wait
        dist.destroy_process_group()
    end_process(status, join_threads=not together)


def silent_ranks() -> str:
    """A phrase that names the ranks whose heartbeat has stopped."""
    return _heartbeat.silent_ranks() or "all still answer" if _heartbeat else "they have not met"


def device_of(accelerator: str = "auto") -> torch.device:
    """Device of this rank; `auto` takes CUDA, else MPS, else the CPU."""
    if accelerator == "auto":
        mps = torch.backends.mps.is_available()
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    kind = "cuda" if accelerator in ("cuda", "gpu") else accelerator
    return torch.device(kind, world().local_rank) if kind == "cuda" else torch.device(kind)


def ranks() -> int:
    """Number of ranks in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """True on the rank that speaks and writes for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def any_rank(flag: bool) -> bool:
    """True on all ranks if the flag is set on any."""
    count = torch.tensor(float(flag))
    sum_over_ranks(count)
    return bool(count > 0)


def sum_over_ranks(tensor: Tensor) -> None:
    """Replace a tensor by its sum over all ranks, in place."""
    if ranks() > 1:
        dist.all_reduce(tensor)


def broadcast_first(value: T) -> T:
    """Value of the first rank, on all; it is pickled."""
    if ranks() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def all_gather(value: T, group: Any = None) -> list[T]:
    """Values of all ranks in their order, on all; they are pickled."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value, group)
    return values


def all_or_error(work: Callable[[], T], group: Any = None) -> list[T]:
    """Results of `work` on every rank; a file that one cannot write is an OSError on all.

    Without it the others would wait for the one that failed until their exchange times out.
    """
    mine, problem = None, ""
    try:
        mine = work()
    except (OSError, RuntimeError) as error:  # torch.save's is a RuntimeError
        problem = str(error)
    results = all_gather((mine, problem), group)
    if problems := [f"rank {rank}: {why}" for rank, (_, why) in enumerate(results) if why]:
        raise OSError(problem if ranks() == 1 else "; ".join(problems))
    return [value for value, _ in results]  # type: ignore[misc]


def thread_group() -> Any:
    """Make a group of the same ranks for a thread that exchanges while they train; None if alone.

    Two threads must not share a group: exchanges match by their order alone.
    """
    return dist.new_group(backend="gloo", timeout=_timeout) if ranks() > 1 else None


@contextmanager
def in_step() -> Iterator[None]:
    """Declare that all ranks run this block with the same calls, as a model in shards needs.

    `split_over_ranks` and `any_rank_in_step` exchange in here, and only in here.
    """
    global _in_step
    before, _in_step = _in_step, True
    try:
        yield
    finally:
        _in_step = before


_in_step = False


def any_rank_in_step(flag: bool) -> bool:
    """`any_rank` inside `in_step`, else the flag: tests a loop that all must leave at once."""
    return any_rank(flag) if _in_step else flag


def split_over_ranks(chunks: Sequence[C], work: Callable[[C], T]) -> list[T]:
    """Results of `work` for every chunk, in the order of the chunks, on all ranks.

    Inside `in_step` each rank works on its share. All call `work` equally often, as a model in
    shards needs them to, so some repeat the last chunk. Results are pickled: keep them on the CPU.
    """
    if not _in_step or ranks() == 1:
        return [work(chunk) for chunk in chunks]
    rank, size = dist.get_rank(), ranks()
    mine = [
        work(chunks[min(first + rank, len(chunks) - 1)]) for first in range(0, len(chunks), size)
    ]
    everyone = all_gather(mine)
    return [everyone[place % size][place // size] for place in range(len(chunks))]


def barrier() -> None:
    """Wait for all ranks."""
    if ranks() > 1:
        dist.barrier()


def full_tensor(tensor: Tensor) -> Tensor:
    """Whole tensor of one that may be in shards; all ranks must call."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_shard(tensor: Tensor) -> Tensor:
    """Part of this rank of a tensor that may be in shards; it shares the tensor's memory."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
