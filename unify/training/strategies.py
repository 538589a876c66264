"""How a run is spread over devices, and what it writes to resume from.

    auto    one process; `ddp` where there are several ranks
    ddp     every rank has the whole model, and they average their gradients
    fsdp    parameters, gradients, optimizer state and average in shards (FSDP2, arXiv:2304.11277);
            on one rank there is nothing to cut

A checkpoint is the same of all three: a folder of

    shard-*.safetensors    weights, and optimizer state by the names of the weights, as
                           torch.distributed.checkpoint cuts them over the ranks
    rest.pt                loops, schedule, callbacks: plain values

so that any number of ranks resumes what any other has saved, in shards or not, and none holds code.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from unify.distributed.ranks import World, all_or_error, device_of, is_first, ranks
from unify.nn.frozen import names_of_one
from unify.schema.experiment import Machine

REST = "rest.pt"
warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # of one process


def strategy_of(machine: Machine, world: World, sharded: bool) -> Strategy:
    """The strategy that `machine.strategy` names; `sharded`: whether the model may be in shards."""
    device = device_of(machine.accelerator)
    timeout = timedelta(seconds=machine.timeout)
    if machine.strategy == "fsdp" and sharded and world.size > 1:
        if device.type == "mps":
            raise ValueError("machine.strategy fsdp runs on cuda and cpu; not on mps")
        return Sharded(data_parallel_size=world.size, tensor_parallel_size=1, timeout=timeout)
    if world.size > 1:
        # what no loss of a run reaches has no gradient, as in one process
        return Replicated(timeout=timeout, find_unused_parameters=True)
    return Single(device)


def environment_of(world: World) -> Any:
    """Lightning's view of the launcher: never its own guess, which in SLURM requeues jobs."""
    return TorchElasticEnvironment() if world.size > 1 else _Alone()


class _Alone(LightningEnvironment):
    """One process, whatever LOCAL_RANK and the like a scheduler has set."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


class ByName(Strategy):
    """Saves and loads by the names of parameters; all ranks call it, as it is one of theirs."""

    deferred = False  # whether `save_checkpoint` leaves the tensors to `write`
    _kept: Any = {}  # what `write` writes
    restore_checkpoint_after_setup = True  # where optimizers and shards are there
    lightning_restore_optimizer = True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}  # `save_checkpoint` takes it from where it is

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """What is no tensor of a parameter's shape; numbers by name of the parameter."""
        numbers = {
            name: {key: _plain(value) for key, value in state.items() if not _shaped(value, p)}
            for name, p, state in self._states(optimizer)
        }
        kinds = {
            name: [key for key, value in state.items() if _shaped(value, p)]
            for name, p, state in self._states(optimizer)
        }
        groups = [
            {k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups
        ]
        return {"numbers": numbers, "tensors": kinds, "groups": groups}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """With `deferred`, tensors are copied into host memory, and `write` writes them later."""
        self._folder = Path(filepath)
        all_or_error(lambda: _save_rest(checkpoint, self._folder) if is_first() else None)
        self._kept = self._tensors()
        if self.deferred:
            self._kept = DefaultStager(StagingOptions(False, False, False, False)).stage(self._kept)
        else:
            self.write()

    def write(self, group: Any = None) -> None:
        """Write the tensors of the last `save_checkpoint`, with all ranks of the group."""
        writer = HuggingFaceStorageWriter(str(self._folder), save_distributed=True)
        kept, self._kept = self._kept, {}
        with files():
            dcp.save(kept, storage_writer=writer, process_group=group, no_dist=ranks() == 1)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        self._folder = Path(checkpoint_path)
        return read_rest(self._folder)

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        own, saved = self._weights(), shapes(self._folder)
        found = {k: shape for k, shape in saved.items() if not k.startswith(OPTIMIZER)}
        module = self.lightning_module
        assert module is not None
        if {k: v.shape for k, v in own.items()} != found:  # its own error says what is wrong
            empty = {k: torch.empty(shape, device="meta") for k, shape in found.items()}
            module.load_state_dict(empty)
            raise ValueError(f"{self._folder} is of another model")
        self._read(own)
        module.load_state_dict({k: own[first] for k, first in self._twins().items()})

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        for optimizer, said in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = dict(self._parameters(optimizer))
            if lacking := names.keys() ^ (said["numbers"].keys() & said["tensors"].keys()):
                some = ", ".join(sorted(lacking)[:4])
                raise ValueError(
                    f"{self._folder} has optimizer state of other parameters than are trained "
                    f"here ({some}); resume with the settings it was saved under"
                )
            tensors = {}
            for name, parameter in names.items():
                optimizer.state[parameter] = state = {
                    key: _like(value, parameter) for key, value in said["numbers"][name].items()
                }
                for kind in said["tensors"][name]:
                    state[kind] = torch.empty_like(parameter, requires_grad=False)
                    tensors[f"{OPTIMIZER}{kind}.{name}"] = state[kind]
            self._read(tensors)
            for group, known in zip(optimizer.param_groups, said["groups"], strict=True):
                group.update(known)

    def _read(self, tensors: dict[str, Tensor]) -> None:
        """Fill tensors, in place."""
        reader = HuggingFaceStorageReader(str(self._folder))
        with files():
            dcp.load(tensors, storage_reader=reader, no_dist=ranks() == 1)

    def _tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds in shards."""
        kept = self._weights()
        for optimizer in self.optimizers:
            for name, parameter, state in self._states(optimizer):
                for kind, value in state.items():
                    if _shaped(value, parameter):
                        kept[f"{OPTIMIZER}{kind}.{name}"] = value
        return kept

    def _weights(self) -> dict[str, Tensor]:
        """The module's state: what has several names (tied weights) under its first."""
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict()
        return {key: state[key] for key in dict.fromkeys(self._twins().values())}

    def _twins(self) -> dict[str, str]:
        """Names in the module's state -> the first name of the same parameter."""
        module = self.lightning_module
        assert module is not None
        named = names_of_one(module)
        return {key: named.get(key, key) for key in module.state_dict()}

    def _parameters(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
        assert self.lightning_module is not None
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = self.lightning_module.named_parameters()
        return [(name, p) for name, p in named if id(p) in mine]

    def _states(self, optimizer: torch.optim.Optimizer):
        for name, parameter in self._parameters(optimizer):
            yield name, parameter, optimizer.state.get(parameter, {})


def _save_rest(checkpoint: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    torch.save(checkpoint, folder / REST)


def read_rest(folder: Path) -> dict[str, Any]:
    """The plain values of a checkpoint; ValueError for anything else."""
    try:
        return torch.load(folder / REST, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(f"{folder / REST} holds code, and is not read") from error


def own_files(state: Path, rank: int) -> list[Path]:
    """Those of a checkpoint that a rank has written."""
    own = sorted(state.glob(f"shard-{rank + 1:05d}-*"))
    return [state / REST, *own] if rank == 0 else own


OPTIMIZER = "optimizer."  # what names of optimizer state start with


class Single(ByName, SingleDeviceStrategy):
    """One process, one device."""


class Replicated(ByName, DDPStrategy):
    """The whole model on every rank."""


class Sharded(ByName, ModelParallelStrategy):
    """Shards of the model on every rank: `Experiment.configure_model` cuts it (sharding.py)."""


@contextmanager
def files() -> Iterator[None]:
    """An error of torch.distributed.checkpoint is no Exception; here it is an OSError."""
    try:
        yield
    except CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise OSError(f"checkpoint: {first}") from error


def _shaped(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _like(value: Any, parameter: Tensor) -> Any:
    """Optimizers keep their count of steps in a tensor."""
    if not isinstance(value, float):
        return value
    return torch.tensor(value, dtype=torch.float32, device=parameter.device)


def shapes(folder: Path) -> dict[str, torch.Size]:
    """Of every tensor that a checkpoint holds."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: entry.size for name, entry in found.items()}  # type: ignore[union-attr]
