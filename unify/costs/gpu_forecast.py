"""`unify plan F --gpus N --gpu G`: whether the arms fit there, how long they take, what would help.

Nothing is trained, and no model gets memory. Remedies are not rules of thumb: each is a setting of
`machine` under which the arm was counted again, and fitted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from torch import nn

from unify.assembly.sharding import construct, recompute
from unify.config import build_recipe
from unify.costs.activation_memory import Peak, peak
from unify.costs.gpu_specs import AGAIN, NODE, Gpu, gpu_of, step_seconds
from unify.costs.rank_memory import (
    KERNELS,
    Memory,
    checkpoint_bytes,
    host_bytes,
    memory_of,
    travels,
)
from unify.costs.step_cost import Cost
from unify.paradigm import Fitted, Paradigm, Trainable
from unify.schema.completed import Config
from unify.schema.experiment import Recipe
from unify.schema.micro_steps import accumulation
from unify.support.precision import precision_on

Changes = dict[str, Any]  # keys of `machine` -> values

HASHED = 1.0e9  # bytes/s that a rank hashes, measured on a CPU (2 cores of an AMD EPYC, 2026-11-23)
MOST = 64  # times as many GPUs are tried


@dataclass(frozen=True)
class Hardware:
    """The machine that a forecast is made for."""

    ranks: int  # one for each GPU
    name: str  # of the GPU
    mfu: float  # share of its peak
    written: float  # bytes/s to the file system, of all ranks together
    notice: float  # seconds in which a run that has to go saves

    @property
    def gpu(self) -> Gpu | None:
        return gpu_of(self.name)


@dataclass(frozen=True)
class Candidate:
    """An arm under some settings of `machine`, and the memory that it needs."""

    recipe: Recipe
    model: Trainable  # without memory
    peak: Peak
    memory: Memory
    ranks: int
    sharded: bool
    micro_steps: int


@dataclass(frozen=True)
class Forecast:
    """Memory and time of one arm on that machine; None where not known."""

    memory: Memory  # of the rank that holds most
    usable: float | None  # bytes of a GPU
    host: int  # bytes of a node
    checkpoint: int  # bytes of all ranks
    save: float  # seconds
    step: float | None  # seconds
    days: float | None  # of one run
    notice: float  # seconds
    remedies: list[Changes]  # settings under which it fits, where it does not

    @property
    def fits(self) -> bool:
        return self.usable is None or self.memory.total <= self.usable

    @property
    def saves(self) -> bool:
        """True if a save, after the step under way, ends within the notice."""
        return self.save + (self.step or 0) <= self.notice

    def plain(self) -> dict[str, Any]:
        """The forecast as JSON has it."""
        return {**asdict(self), "total": self.memory.total, "fits": self.fits, "saves": self.saves}


def forecast(config: Config, cost: Cost, hardware: Hardware) -> Forecast | None:
    """Forecast of one arm; None for a model that is fitted without gradients.

    ValueError where the ranks cannot share the rows of a step evenly.
    """
    candidates = Candidates(config, hardware)
    if candidates.fitted:
        return None
    base = candidates.under({})
    checkpoint = checkpoint_bytes(base.model, base.peak, bool(base.recipe.ema))
    step = _step(base, cost, hardware)
    host = host_bytes(
        base.model,
        checkpoint,
        base.ranks,
        base.sharded,
        base.recipe.machine.workers,
    )
    on_cpu = 0 if hardware.gpu else base.memory.total
    usable = hardware.gpu.usable if hardware.gpu else None
    fits = usable is None or base.memory.total <= usable
    return Forecast(
        memory=base.memory,
        usable=usable,
        host=min(base.ranks, NODE) * (host + on_cpu),
        checkpoint=checkpoint,
        save=checkpoint / hardware.written + checkpoint / base.ranks / HASHED,
        step=step,
        days=None if step is None else step * cost.steps / 86400,
        notice=hardware.notice,
        remedies=[] if fits else candidates.remedies(),
    )


def forecasts(
    arms: Mapping[str, Config], costs: Mapping[str, Cost], hardware: Hardware
) -> dict[str, Forecast]:
    """Forecasts by arm, of those trained by gradients; a ValueError names its arm."""
    by_arm = {}
    for arm, config in arms.items():
        try:
            one = forecast(config, costs[arm], hardware)
        except ValueError as error:
            raise ValueError(f"{arm}: {error}") from error
        if one is not None:
            by_arm[arm] = one
    return by_arm


def _step(arm: Candidate, cost: Cost, hardware: Hardware) -> float | None:
    """Seconds of an optimizer step, frozen tokenizers included."""
    if hardware.gpu is None:
        return None
    machine = arm.recipe.machine
    flops = cost.training * (AGAIN if machine.recompute else 1) + cost.encoding
    between = travels(arm.model, arm.peak, arm.ranks, arm.sharded, arm.micro_steps)
    fp32 = machine.precision == "32-true"
    return step_seconds(hardware.gpu, arm.ranks, flops, between, hardware.mfu, fp32)


class Candidates:
    """One arm under several settings; a micro-step of a size is counted once."""

    def __init__(self, config: Config, hardware: Hardware):
        self.config, self.hardware = config, hardware
        self.peaks: dict[Any, tuple[Trainable, Peak]] = {}
        recipe = self._build({})
        self.fitted, self.tasks = isinstance(recipe.model, Fitted), recipe.data.tasks
        self.group = recipe.model.group if isinstance(recipe.model, Trainable) else 1
        self.cuts = isinstance(recipe.model, Paradigm)  # a tokenizer is never in shards
        self.machine = recipe.machine

    def _build(self, changes: Changes) -> Recipe:
        machine = {**self.config["machine"], **changes}
        if self.hardware.gpu is None:
            machine["precision"] = precision_on("cpu", machine["precision"])
        elif machine["precision"] == "auto":
            machine["precision"] = "bf16-mixed"  # what `auto` is on every GPU of gpu_specs
        config = {**self.config, "machine": machine}
        return build_recipe(config, _as_loaded, construct=construct)

    def under(self, changes: Changes, times: int = 1) -> Candidate:
        """The arm with `changes` to `machine`, on `times` as many GPUs.

        ValueError where the ranks cannot share the rows of a step evenly.
        """
        ranks = times * self.hardware.ranks
        recipe = self._build({**changes, "devices": ranks, "nodes": 1})
        micro_steps = accumulation(self.tasks, recipe.machine, self.group)
        share = {task: n // (ranks * micro_steps) for task, n in self.tasks.items()}
        if any(share[task] * ranks * micro_steps != n for task, n in self.tasks.items()):
            raise ValueError(
                f"data.tasks are {self.tasks} rows of a step, and {ranks} ranks cannot share them "
                "evenly: make them multiples of that"
            )
        model, counted = self._peak(recipe, share, micro_steps > 1)
        sharded = self.cuts and ranks > 1 and recipe.machine.strategy == "fsdp"
        half_on_cpu = self.hardware.gpu is None and recipe.machine.precision == "bf16-mixed"
        kernels = KERNELS if half_on_cpu else 0
        memory = memory_of(model, counted, ranks, sharded, bool(recipe.ema), kernels)
        return Candidate(recipe, model, counted, memory, ranks, sharded, micro_steps)

    def _peak(
        self, recipe: Recipe, share: dict[str, int], accumulates: bool
    ) -> tuple[Trainable, Peak]:
        again = recipe.machine.recompute
        key = (*share.values(), accumulates, again)
        if key not in self.peaks:
            assert isinstance(recipe.model, Trainable)
            if again:
                recompute(recipe.model)
            counted = peak(recipe, share, accumulates, self.hardware.gpu is not None)
            self.peaks[key] = recipe.model, counted
        return self.peaks[key]

    def remedies(self) -> list[Changes]:
        """The smallest sets of settings under which the arm fits; where none does, the number of
        GPUs on which it would."""
        kinds: list[Changes] = [{"micro_batch": 0}]
        if self.cuts and self.hardware.ranks > 1 and self.machine.strategy != "fsdp":
            kinds.append({"strategy": "fsdp"})
        if not self.machine.recompute:
            kinds.append({"recompute": True})
        for count in range(1, len(kinds) + 1):
            fitting = [self._enough(_merged(choice)) for choice in combinations(kinds, count)]
            if any(fitting):
                return [changes for changes in fitting if changes]
        return self._on_more(_merged(kinds))

    def _on_more(self, changes: Changes) -> list[Changes]:
        times = 2
        while self.cuts and times <= MOST:
            for choice in ({"strategy": "fsdp"}, {**changes, "strategy": "fsdp"}):
                if settings := self._enough(choice, times):
                    return [{"gpus": times * self.hardware.ranks, **settings}]
            times *= 2
        return []

    def _enough(self, changes: Changes, times: int = 1) -> Changes | None:
        """The settings if they fit, with the largest micro-batch that does where they have one."""
        if "micro_batch" not in changes:
            return changes if self._fits(changes, times) else None
        sizes = [{**changes, "micro_batch": size} for size in self._sizes(times)]
        if not sizes or not self._fits(sizes[-1], times):
            return None
        return next(settings for settings in sizes if self._fits(settings, times))

    def _sizes(self, times: int) -> list[int]:
        """Rows of a micro-step on a rank, smaller than now, as the tasks divide; falling."""
        ranks = times * self.hardware.ranks
        rows = sum(self.tasks.values()) // ranks
        most = min(rows, self.machine.micro_batch or rows)
        parts = [
            n
            for n in range(1, rows + 1)
            if all(task % (n * ranks * self.group) == 0 for task in self.tasks.values())
        ]
        return [rows // n for n in parts if rows // n < most]

    def _fits(self, changes: Changes, times: int) -> bool:
        assert self.hardware.gpu is not None
        try:
            return self.under(changes, times).memory.total <= self.hardware.gpu.usable
        except ValueError:  # rows that cannot be shared
            return False


def _merged(all_changes: Iterable[Changes]) -> Changes:
    return {key: value for changes in all_changes for key, value in changes.items()}


def _as_loaded(part: Any, weights: Any) -> None:
    """Mark a part as loaded from weights: if it is frozen, checkpoints leave it out."""
    if isinstance(part, nn.Module):
        part.pretrained, part.source_hash = True, str(weights)  # type: ignore[assignment]
