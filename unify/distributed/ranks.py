"""Ranks: the processes that train one model together. Code for one device asks here, and only here.

    srun         makes one process of SLURM_* per task; `join` makes RANK .. of them
    torchrun     has set RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT
    bare         `unify train` with `machine.devices: 4` starts four ranks (launch.py)

A launcher decides how many ranks there are; `machine.devices` and `machine.nodes` follow it.
"""

from __future__ import annotations

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
from unify.support.stop_protocol import EX_TEMPFAIL, end_process

T = TypeVar("T")
C = TypeVar("C")
Environment = MutableMapping[str, str]


@dataclass(frozen=True)
class World:
    """This process among those that were launched together."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1  # on this node

    @property
    def nodes(self) -> int:
        return self.size // self.local_size


def world(environment: Environment = os.environ) -> World:
    """What the launcher says; of one process where there is none."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return World()
    size = int(environment["WORLD_SIZE"])
    found = World(
        rank=int(environment["RANK"]),
        local_rank=int(environment.get("LOCAL_RANK", 0)),
        size=size,
        local_size=int(environment.get("LOCAL_WORLD_SIZE", size)),
    )
    if found.size % found.local_size:
        raise ValueError(
            f"{found.size} ranks do not lie evenly on nodes of {found.local_size}; start as many "
            "on every node"
        )
    return found


def from_slurm(environment: Environment = os.environ) -> None:
    """What torchrun would set, for a task of a SLURM step of several; nothing elsewhere."""
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
    """`rack[1-2]n[07-09,12],other` -> rack1n07."""
    first = re.split(r",(?![^\[]*\])", hosts)[0]  # the comma in brackets is of one name
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first) or "127.0.0.1"


def join(timeout_s: float = 1800.0, accelerator: str = "auto") -> World:
    """Enter the group of all ranks, if there are several; at once where that was done before.

    An exchange between ranks that takes longer than `timeout_s` is an error on all of them.
    """
    from_slurm()
    here = world()
    if here.size == 1 or dist.is_initialized():
        return here
    device = device_of(accelerator)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, *_ = next(dist.rendezvous("env://", here.rank, here.size))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore("group", store),
        rank=here.rank,
        world_size=here.size,
        timeout=timedelta(seconds=timeout_s),
    )
    global _heartbeat, _timeout
    _timeout = timedelta(seconds=timeout_s)
    _heartbeat = Heartbeat(dist.PrefixStore("heartbeat", store), here.rank, here.size)
    return here


_heartbeat: Heartbeat | None = None
_timeout = timedelta(minutes=30)  # of an exchange


def free_port() -> int:
    """One of this machine's, for ranks to meet at: below those that the kernel gives away itself,
    as it is free again until they do. OSError if there is none."""
    for port in random.SystemRandom().sample(range(20000, 32000), 200):
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port from 20000 to 32000 is free for the ranks to meet at")


def end(status: int) -> NoReturn:
    """Leave the group, and end this process once what it has begun is written."""
    together = dist.is_initialized()
    if together and status in (0, EX_TEMPFAIL):  # else others may be gone, and would be waited for
        dist.destroy_process_group()
    end_process(status, join_threads=not together)


def silent_ranks() -> str:
    """The ranks that no longer count in the store, in words."""
    return _heartbeat.silent() or "all still answer" if _heartbeat else "they have not met"


def device_of(accelerator: str = "auto") -> torch.device:
    """This rank's device: `auto` is a GPU where there is one."""
    if accelerator == "auto":
        mps = torch.backends.mps.is_available()
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    kind = "cuda" if accelerator in ("cuda", "gpu") else accelerator
    return torch.device(kind, world().local_rank) if kind == "cuda" else torch.device(kind)


def ranks() -> int:
    """How many ranks exchange."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this rank speaks and writes for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank; the same answer on all."""
    if ranks() == 1:
        return flag
    sum_of = torch.tensor(float(flag))
    dist.all_reduce(sum_of)
    return bool(sum_of > 0)


def broadcast_first(value: T) -> T:
    """The first rank's value, on all."""
    if ranks() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def all_gather(value: T, group: Any = None) -> list[T]:
    """Every rank's value, on all."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value, group)
    return values


def all_or_error(work: Callable[[], T], group: Any = None) -> list[T]:
    """What `work` returns on every rank. A file that one cannot write is an OSError on all."""
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
    """A group of the same ranks for a thread that exchanges while they train; None of one rank."""
    return dist.new_group(backend="gloo", timeout=_timeout) if ranks() > 1 else None


@contextmanager
def in_step() -> Iterator[None]:
    """All ranks do the same in here, as what is in shards needs them to; see `any_rank_in_step`."""
    global _in_step
    before, _in_step = _in_step, True
    try:
        yield
    finally:
        _in_step = before


_in_step = False


def any_rank_in_step(flag: bool) -> bool:
    """`any_rank` where all ranks are in step: whether a loop goes on is for all of them to say."""
    return any_rank(flag) if _in_step else flag


def split_over_ranks(chunks: Sequence[C], work: Callable[[C], T]) -> list[T]:
    """What `work` makes of every chunk, in their order, on all ranks.

    Where the ranks are in step each does its share, and all call `work` equally often, as what is
    in shards needs them to: some do the last chunk once more. Results travel: keep them on the CPU.
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
    """A tensor that may be in shards, whole on all ranks, which all must ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor that may be in shards; it shares memory with it."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
