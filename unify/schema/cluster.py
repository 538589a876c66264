"""What a cluster YAML may say: the top-level keys are the fields of `Cluster`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Cluster:
    """What a job of a cluster asks for; what is empty is left to SLURM's own default."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    nodes: int = 1
    ranks: int = 1  # processes on a node: one for each GPU
    gpus: int = 0  # on a node
    gres: str = ""  # instead of `gpus`, e.g. gpu:h100:4
    cpus: int = 1  # of a rank: what it computes with, and its loader's workers
    memory_gib: float = 0.0  # on a node
    minutes: int = 60  # that a job may take before it is requeued
    notice: int = 120  # seconds before that, in which a run saves
    at_once: int = 64  # jobs of an array
    requeues: int = 100  # of a job, before it is given up
    setup: list[str] = field(default_factory=list)  # lines of the batch script, before all else
    environment: dict[str, str] = field(default_factory=dict)
    container: str = ""  # Python inside one, e.g. apptainer exec --nv image.sif python
    sbatch: dict[str, str] = field(default_factory=dict)  # any other option of sbatch
    machine: dict[str, Any] = field(default_factory=dict)  # of the runs' `machine` block

    def __post_init__(self) -> None:
        for name in ("nodes", "ranks", "cpus", "minutes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is too few; write 1 or more")
