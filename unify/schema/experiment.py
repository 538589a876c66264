"""What an experiment YAML may say: the top-level keys are the fields of `Recipe`.

Defaults live here and in the constructors of the classes that the YAML names, nowhere else.
`machine` is outside the run's hash: it says where and how fast, never what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from unify.data.module import Data
from unify.metrics.metric import Metric
from unify.paradigm import Fitted, Trainable


@dataclass
class Seeds:
    """Separate seeds, so that one source of chance can be varied at a time."""

    init: int = 0
    data: int = 0
    noise: int = 0


@dataclass
class Optimizer:
    """AdamW with linear warm-up and cosine decay (arXiv:1711.05101)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.01  # on matrices only; never on norms, biases and embeddings
    warmup: int = 50  # steps
    final_lr: float = 0.0  # share of lr that the cosine ends at
    clip: float = 1.0  # norm of the whole gradient
    lr_ratio: dict[str, float] = field(default_factory=dict)  # parameter prefix -> share of lr


@dataclass
class Logging:
    """How often things are written, in optimizer steps; 0 means never (checkpoints: at the end)."""

    metrics_every: int = 20
    samples_every: int = 0
    gradients_every: int = 0  # cosines between the losses' gradients, block by block
    checkpoint_every: int = 0
    keep_checkpoints: int = 2  # the newest
    validation_rows: int = 0  # of each task, at every checkpoint; the best of all is kept as well


@dataclass
class Machine:
    """Where and how fast, never what: outside the run's hash."""

    devices: int = 1  # ranks on a node; under torchrun or srun, as many as they start
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # of several ranks (training/strategies.py)
    accelerator: str = "auto"
    timeout: float = 1800.0  # seconds that a rank waits for the others before it gives up
    recompute: bool = False  # activations, in the backward pass: less memory, more time
    save_beside: bool = True  # checkpoints, from a copy on the host, while training goes on
    compile: bool = False  # every block, by torch.compile
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    threads: int = 0  # CPU threads of torch; 0 leaves torch's own choice
    workers: int = 0  # loader processes
    micro_batch: int = 0  # most rows of one micro-step on one device; 0: the whole share at once
    attention: Literal["auto", "sdpa", "flex", "xformers"] = "auto"
    tracker: str = ""  # an MLflow URI; empty: sqlite in the runs folder; "none": journal only
    runs: str = "runs"  # folder of run folders
    reuse: bool = True  # whether a run trained alike, of another study or arm, is trained no more


@dataclass
class Recipe:
    """One run: what is trained, on what, how long, and how it is scored."""

    model: Trainable | Fitted
    data: Data
    name: str = ""  # default: the file's stem
    study: str = "default"
    steps: int = 1000  # optimizer steps
    loss_weights: dict[str, float] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)
    ema: float = 0.999  # decay of the weights' average that is sampled and exported; 0: none
    seeds: Seeds = field(default_factory=Seeds)
    replicate: int | None = None  # the study's seed, by which arms are paired; None: seeds.init
    image_sampling: dict[str, Any] = field(default_factory=dict)
    text_sampling: dict[str, Any] = field(default_factory=dict)
    evaluation: list[Metric] = field(default_factory=list)
    logging: Logging = field(default_factory=Logging)
    machine: Machine = field(default_factory=Machine)
    tiny: dict[str, Any] = field(default_factory=dict)  # what `--tiny` and contract tests merge

    def __post_init__(self) -> None:
        """ValueError for a task that the model's class learns, but not with the parts it has."""
        model = self.model
        if not isinstance(model, Trainable):
            return
        for task in self.data.tasks:
            if task not in model.tasks:
                raise ValueError(
                    f"data.tasks.{task}: {type(model).__name__} does not learn it"
                    f"{f', because {model.lacks}' if model.lacks else ''}; it learns "
                    f"{', '.join(sorted(model.tasks))}"
                )


QUANTITIES = ("steps", "samples", "tokens", "flops")  # that a budget may be of


@dataclass
class Budget:
    """What every arm may spend: one of these. Steps follow from it (unify/costs/step_cost.py).

    `task`: what is spent on this task counts, and nothing else: equal samples of a task, or equal
    FLOPs of generation, whatever else an arm learns. `charge`: what FLOPs are spent on besides
    training the arm itself: `encoding` by its frozen tokenizers, and the runs `needed` before it.
    """

    steps: int = 0
    samples: float = 0
    tokens: float = 0
    flops: float = 0
    task: str = ""
    charge: list[Literal["encoding", "needed"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self._set) != 1:
            named = ", ".join(self._set) or "none of them"
            raise ValueError(f"budget: say one of steps, samples, tokens and flops, not {named}")
        if self.charge and not self.flops:
            raise ValueError("budget.charge is of FLOPs; say budget.flops")
        if self.task and (self.steps or "needed" in self.charge):
            raise ValueError("budget.task: steps and needed runs are of no task; leave it out")

    @property
    def _set(self) -> dict[str, float]:
        return {name: float(getattr(self, name)) for name in QUANTITIES if getattr(self, name)}

    @property
    def stated(self) -> tuple[str, float]:
        """(quantity, amount)."""
        return next(iter(self._set.items()))


@dataclass
class Width:
    """Solved so that an arm trains as many parameters as another arm, or as a number says.

    How: study/width_matching.py.
    """

    like: str = ""  # arm
    parameters: float = 0
    key: str = "model.trunk.dim"
    multiple: int = 16  # of which the width is one

    def __post_init__(self) -> None:
        if bool(self.like) == bool(self.parameters):
            raise ValueError("widths: say one of `like`, an arm, and `parameters`, a number")


@dataclass
class Tune:
    """Equal tuning (study/tuning.py): the same trials for every arm, scored on validation."""

    metric: str
    # dotted key -> a list to choose from, {low, high, log}, or {factor} around the arm's own
    space: dict[str, Any]
    trials: int = 8  # of each arm; the first is the arm as it is
    share: float = 1.0  # of the arm's steps, for each trial
    lower: bool = False  # whether a lower score is better
    seed: int = 1000  # of every trial; none of the study's
    defaults: bool = False  # whether each arm is trained as it is, too
    set: dict[str, Any] = field(default_factory=dict)  # dotted key -> value, of every trial

    def __post_init__(self) -> None:
        if self.trials < 2 or not self.space:
            raise ValueError("tune: needs two trials at least, the first being the arm as it is")
        if not 0 < self.share <= 1:
            raise ValueError(f"tune.share is {self.share}: it must be above 0, and at most 1")
        for key, said in self.space.items():
            if not self._is_space(said):
                raise ValueError(
                    f"tune.space.{key} is {said}: give a list to choose from, {{low, high}} with "
                    "low < high (and 0 < low with `log: true`), or {factor} above 1"
                )

    @staticmethod
    def _is_space(said: Any) -> bool:
        if not isinstance(said, dict):
            return isinstance(said, list) and bool(said)
        if not all(isinstance(value, (int, float)) for value in said.values()):
            return False
        if set(said) == {"factor"}:
            return said["factor"] > 1
        ends = {"low", "high"} <= set(said) <= {"low", "high", "log"}
        return ends and said["low"] < said["high"] and (said["low"] > 0 or not said.get("log"))


@dataclass
class Claim:
    """A finding to be tried, written down before the run: `higher` scores more than `lower`."""

    paper: str  # with its identifier and table
    says: str
    metric: str
    higher: str  # arm
    lower: str  # arm


@dataclass
class Control:
    """What must come out, or the study could not tell arms apart: `arm` is the `same` as `than`
    (its experiment under other seeds), or known to be `worse`; in `metric`, or, if that is empty,
    in every primary outcome."""

    arm: str
    expect: Literal["same", "worse"]
    than: str
    metric: str = ""


@dataclass
class Study:
    """Arms to be trained, evaluated and reported together.

    A seed of the study is added to the three that an arm says for itself (0 if it says none).
    """

    name: str
    arms: dict[str, Any]  # arm -> experiment file, or {base: file, key: value ...}
    seeds: list[int] = field(default_factory=lambda: [0])
    title: str = ""
    question: str = ""  # what the study is to answer
    set: dict[str, Any] = field(default_factory=dict)  # merged into every arm
    # dotted key -> values, all combinations; or a list of points: of each arm one for each
    grid: dict[str, list[Any]] | list[dict[str, Any]] = field(default_factory=dict)
    primary: list[str] = field(default_factory=list)  # metric names fixed before the run
    widths: dict[str, Width] = field(default_factory=dict)  # arm -> what its width follows from
    budget: Budget | None = None  # of every arm; None: each has the steps that it says
    # arm -> a budget of its own; a grid over `budget.flops` makes them
    budgets: dict[str, Budget] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)  # each gets a verdict in the report
    tune: Tune | None = None  # of every arm before it is trained; None: as it is
    controls: list[Control] = field(default_factory=list)  # arms that are compared with no other
    baseline: str = ""  # the arm that all others are compared with; empty: every pair is

    def __post_init__(self) -> None:
        if not self.arms:
            raise ValueError("arms: none is named; write `name: experiment.yaml` for each")
        if self.widths and self.grid:
            raise ValueError("widths and grid are not solved together; write the arms out instead")
        if self.tune and self.tune.seed in self.seeds:
            raise ValueError(
                f"tune.seed {self.tune.seed} is one of the study's seeds; take another"
            )
        tuned = self.tune.space if self.tune else {}
        for arm, width in self.widths.items():
            if width.key in tuned:
                raise ValueError(f"widths.{arm} is solved for {width.key}: it is not tuned as well")

    def budget_of(self, arm: str) -> Budget | None:
        return self.budgets.get(arm, self.budget)


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
