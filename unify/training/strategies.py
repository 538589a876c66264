"""Strategies: how a run is spread over devices, and the checkpoints that it resumes from.

    auto    one process; `ddp` where there are several ranks
    ddp     every rank has the whole model, and they average their gradients
    fsdp    parameters, gradients, optimizer state and average in shards (FSDP2, arXiv:2304.11277);
            one rank is `auto`: there is nothing to cut

All three write the same kind of checkpoint, a folder of

    shard-*.safetensors    weights, and optimizer state by the names of the weights, as
                           torch.distributed.checkpoint cuts them over the ranks
    rest.pt                loops, schedule, callbacks: plain values

so that any number of ranks resumes what any other number has saved, in shards or not. Neither holds
code that loading would run.
"""

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
# one process saves without a process group on purpose
warnings.filterwarnings("ignore", message="torch.distributed is disabled")


def strategy_of(machine: Machine, world: World, sharded: bool) -> Strategy:
    """Lightning's strategy for `machine.strategy` in this process.

    Args:
        machine: the settings.
        world: place of this process.
        sharded: true if the model may be cut into shards, as paradigms may.

    Raises:
        ValueError: shards on a device that cannot exchange them.
    """
    device = device_of(machine.accelerator)
    timeout = timedelta(seconds=machine.timeout)
    if machine.strategy == "fsdp" and sharded and world.size > 1:
        if device.type == "mps":
            raise ValueError("machine.strategy fsdp runs on cuda and cpu; not on mps")
        return Sharded(data_parallel_size=world.size, tensor_parallel_size=1, timeout=timeout)
    if world.size > 1:
        # a parameter that no loss of a run reaches has no gradient; DDP would wait for one
        return Replicated(timeout=timeout, find_unused_parameters=True)
    return Single(device)


def environment_of(world: World) -> Any:
    """Tell Lightning what launched us: its own guess would, in SLURM, requeue the job itself."""
    return TorchElasticEnvironment() if world.size > 1 else _Alone()


class _Alone(LightningEnvironment):
    """A single process, whatever LOCAL_RANK and the like a scheduler has set."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


class ByName(Strategy):
    """Saves and loads tensors by the names of parameters; all ranks must call together.

    Names make a checkpoint independent of how parameters are grouped, cut or numbered.
    """

    deferred = False  # true if `save_checkpoint` leaves the tensors to `write`
    _kept: Any = {}  # tensors for `write`, by name
    restore_checkpoint_after_setup = True  # when optimizers and shards exist
    lightning_restore_optimizer = True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}  # `save_checkpoint` writes the tensors itself

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Scalars and names of tensors, keyed by parameter name; the groups' settings."""
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
        """Write plain values, then the tensors; `deferred` copies these to the host for `write`."""
        self.folder = Path(filepath)
        all_or_error(lambda: _save_rest(checkpoint, self.folder) if is_first() else None)
        self._kept = self._tensors()
        if self.deferred:
            self._kept = DefaultStager(StagingOptions(False, False, False, False)).stage(self._kept)
        else:
            self.write()

    def write(self, group: Any = None) -> None:
        """Write the tensors of the last `save_checkpoint`; all ranks of `group` must call."""
        writer = HuggingFaceStorageWriter(str(self.folder), save_distributed=True)
        kept, self._kept = self._kept, {}
        with files():
            dcp.save(kept, storage_writer=writer, process_group=group, no_dist=ranks() == 1)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        self.folder = Path(checkpoint_path)
        return read_rest(self.folder)

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        own, saved = self._weights(), shapes(self.folder)
        weights = {k: shape for k, shape in saved.items() if not k.startswith(OPTIMIZER)}
        module = self.lightning_module
        assert module is not None
        if {k: v.shape for k, v in own.items()} != weights:
            empty = {k: torch.empty(shape, device="meta") for k, shape in weights.items()}
            module.load_state_dict(empty)  # torch's error names each key that differs
            raise ValueError(f"{self.folder} is of another model")
        self._read(own)
        module.load_state_dict({k: own[first] for k, first in self._twins().items()})

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = dict(self._parameters(optimizer))
            if lacking := names.keys() ^ (saved["numbers"].keys() & saved["tensors"].keys()):
                some = ", ".join(sorted(lacking)[:4])
                raise ValueError(
                    f"{self.folder} has optimizer state of other parameters than are trained "
                    f"here ({some}); resume with the settings it was saved under"
                )
            tensors = {}
            for name, parameter in names.items():
                optimizer.state[parameter] = state = {
                    key: _like(value, parameter) for key, value in saved["numbers"][name].items()
                }
                for kind in saved["tensors"][name]:
                    state[kind] = torch.empty_like(parameter, requires_grad=False)
                    tensors[f"{OPTIMIZER}{kind}.{name}"] = state[kind]
            self._read(tensors)
            for group, settings in zip(optimizer.param_groups, saved["groups"], strict=True):
                group.update(settings)

    def _read(self, tensors: dict[str, Tensor]) -> None:
        """Fill tensors from the checkpoint, in place."""
        reader = HuggingFaceStorageReader(str(self.folder))
        with files():
            dcp.load(tensors, storage_reader=reader, no_dist=ranks() == 1)

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer state by the names that they have in the checkpoint."""
        kept = self._weights()
        for optimizer in self.optimizers:
            for name, parameter, state in self._states(optimizer):
                for kind, value in state.items():
                    if _shaped(value, parameter):
                        kept[f"{OPTIMIZER}{kind}.{name}"] = value
        return kept

    def _weights(self) -> dict[str, Tensor]:
        """State of the module; a tied weight under its first name only."""
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict()
        return {key: state[key] for key in dict.fromkeys(self._twins().values())}

    def _twins(self) -> dict[str, str]:
        """First name of the same parameter, for each name in the module's state."""
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
    """Plain values of a checkpoint; ValueError if the file holds code."""
    try:
        return torch.load(folder / REST, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(f"{folder / REST} holds code, and is not read") from error


def own_files(state: Path, rank: int) -> list[Path]:
    """Files of a checkpoint that a rank has written."""
    own = sorted(state.glob(f"shard-{rank + 1:05d}-*"))
    return [state / REST, *own] if rank == 0 else own


OPTIMIZER = "optimizer."  # prefix of the names of optimizer state


class Single(ByName, SingleDeviceStrategy):
    """One process, one device."""


class Replicated(ByName, DDPStrategy):
    """The whole model on every rank."""


class Sharded(ByName, ModelParallelStrategy):
    """Shards of the model on every rank: `TrainingModule.configure_model` cuts it."""


@contextmanager
def files() -> Iterator[None]:
    """Turn an error of torch.distributed.checkpoint, a BaseException, into an OSError."""
    try:
        yield
    except CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise OSError(f"checkpoint: {first}") from error


def _shaped(value: Any, parameter: Tensor) -> bool:
    """True for a tensor with a value for each number of the parameter."""
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _like(value: Any, parameter: Tensor) -> Any:
    """A float as the tensor that optimizers keep their step count in; other values as they are."""
    if not isinstance(value, float):
        return value
    return torch.tensor(value, dtype=torch.float32, device=parameter.device)


def shapes(folder: Path) -> dict[str, torch.Size]:
    """Shape of every tensor in a checkpoint, by name."""
    entries = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: entry.size for name, entry in entries.items()}  # type: ignore[union-attr]
