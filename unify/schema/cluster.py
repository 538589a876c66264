"""The keys of a cluster YAML: its top-level keys are the fields of `Cluster`."""

from dataclasses import dataclass, field
from typing import Any

from unify.support.ranges import Count, CountOrZero, NotNegative


@dataclass
class Cluster:
    """Resources of one SLURM job. An empty string or 0 leaves SLURM's own default."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    nodes: Count = 1
    ranks: Count = 1  # processes per node, one for each GPU
    gpus: CountOrZero = 0  # per node
    gres: str = ""  # instead of `gpus`, e.g. gpu:h100:4
    cpus: Count = 1  # per rank, its loader's workers included
    memory_gib: NotNegative = 0.0  # per node
    minutes: Count = 60  # time limit of a job, after which it is requeued
    notice: CountOrZero = 120  # seconds before the limit at which a run is signalled to save
    at_once: Count = 64  # most jobs of an array that run at the same time
    requeues: CountOrZero = 100  # most requeues of a job, before it is given up
    setup: list[str] = field(default_factory=list)  # first lines of the batch script
    environment: dict[str, str] = field(default_factory=dict)  # variables that jobs export
    container: str = ""  # the command for Python in one: apptainer exec --nv image.sif python
    sbatch: dict[str, str] = field(default_factory=dict)  # any other option of sbatch
    machine: dict[str, Any] = field(default_factory=dict)  # keys of the runs' `machine` block

    def __post_init__(self) -> None:
        for name in ("nodes", "ranks", "cpus", "minutes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is too few; write 1 or more")
