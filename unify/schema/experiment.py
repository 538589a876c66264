"""The keys of an experiment YAML: its top-level keys are the fields of `Recipe`.

Defaults live here and in the constructors of the classes that the YAML names, nowhere else.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval

from unify.data.module import Data
from unify.metrics.metric import Metric
from unify.paradigm import Fitted, Trainable
from unify.support.file_names import FileName
from unify.support.ranges import (
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    Seed,
    Share,
    ShareAbove0,
    ShareBelow1,
)


@dataclass
class Seeds:
    """Seeds of three sources of randomness, each of which can be varied alone."""

    init: Seed = 0  # initial weights
    data: Seed = 0  # the order of samples
    noise: Seed = 0  # all that is drawn in losses


@dataclass
class Optimizer:
    """AdamW (arXiv:1711.05101) with linear warm-up and decay of the learning rate."""

    lr: NotNegative = 1e-3  # at the end of the warm-up, the highest
    betas: tuple[ShareBelow1, ShareBelow1] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.01  # on matrices only; never on norms, biases and embeddings
    warmup: CountOrZero = 50  # steps
    # how the rate falls after the warm-up; constant: not at all, or in a cool-down (`cooldown`)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_lr: Share = 0.0  # share of lr at which it ends
    clip: NotNegative = 1.0  # largest norm of the whole gradient; 0: any
    lr_ratio: dict[str, NotNegative] = field(
        default_factory=dict
    )  # parameter prefix -> share of lr


@dataclass
class Trunk:
    """A run at a constant rate, of which runs with a cool-down take the steps before theirs."""

    name: Annotated[str, FileName()]
    steps: Count
    keep: list[Count] = field(default_factory=list)  # steps whose checkpoints it keeps
    scores_at: list[Count] = field(default_factory=list)  # steps at which it is scored


@dataclass
class CoolDown:
    """A fall of the learning rate from `start` to the last step, after a constant one
    (arXiv:2405.18392).

    Up to `start` a run is what a run of any length at the constant rate is: with a `trunk` it goes
    on from a checkpoint of that, which is trained if it is not there (training/trunk.py).
    """

    start: CountOrZero  # the step after which the rate falls
    shape: Literal["linear", "cosine"] = "linear"
    trunk: Trunk | None = None  # None: it is trained from its first step on


@dataclass
class ScoresOverTraining:
    """Scores on validation data at a few steps of a training (training/score_curve.py)."""

    metrics: list[str]  # of these the ones that the run's `evaluation` gives
    at: list[ShareAbove0] = field(  # shares of the steps
        default_factory=lambda: [0.25, 0.5, 0.75, 1.0]
    )
    # arguments of the metrics, where they have them: {prompts: 64}
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass
class Logging:
    """Intervals in optimizer steps; 0 means never, and for checkpoints only at the end."""

    metrics_every: CountOrZero = 20
    samples_every: CountOrZero = 0
    gradients_every: CountOrZero = 0  # cosines between the gradients of the losses, block by block
    checkpoint_every: CountOrZero = 0  # optimizer steps; 0: every ten minutes
    keep_checkpoints: Count = 2  # this many of the newest
    # of each task, at every checkpoint; the best checkpoint is kept too
    validation_rows: CountOrZero = 0
    scores: ScoresOverTraining | None = None  # written to the journal; None: no scores
    keep_steps: list[Count] = field(default_factory=list)  # checkpoints that are saved and stay


@dataclass
class Machine:
    """Hardware and speed of a run: outside its hash, since they do not choose what is trained."""

    devices: Count = 1  # ranks on a node; under torchrun or srun, as many as they start
    nodes: Count = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # for several ranks: training/strategies.py
    accelerator: str = "auto"
    # seconds that a rank waits for the others before it gives up
    timeout: Annotated[float, Interval(gt=0, le=1e9)] = 1800.0
    recompute: bool = False  # activations, in the backward pass: less memory, more time
    save_beside: bool = True  # write checkpoints from a copy on the host while training goes on
    compile: bool = False  # torch.compile every block
    # auto: bf16-mixed on a GPU that multiplies in it and on a CPU with AMX, else 32-true
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    # CPU threads of torch; 0 leaves torch's own choice
    threads: Annotated[int, Interval(ge=0, le=65_536)] = 0
    workers: CountOrZero = 0  # loader processes
    micro_batch: CountOrZero = (
        0  # most rows of a micro-step on a device; 0: the device's share at once
    )
    attention: Literal["auto", "sdpa", "flex", "xformers"] = "auto"
    tracker: str = ""  # an MLflow URI; empty: sqlite in the runs folder; "none": journal only
    runs: str = "runs"  # folder of run folders
    reuse: bool = True  # take an equal run of another study or arm instead of training again


@dataclass
class Recipe:
    """One run: its model, data, length, and scoring."""

    model: Trainable | Fitted
    data: Data
    name: Literal[""] | Annotated[str, FileName()] = ""  # default: the file's stem
    study: Annotated[str, FileName()] = "default"
    steps: Count = 1000  # optimizer steps
    loss_weights: dict[str, NotNegative] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)
    cooldown: CoolDown | None = None  # with `optimizer.schedule: constant`
    ema: ShareBelow1 = 0.999  # decay of the weights' average that is sampled and exported; 0: none
    seeds: Seeds = field(default_factory=Seeds)
    # added to the seeds of every run that this one starts from, and of all that those start from
    needed_seeds: Seeds | None = None
    replicate: Seed | None = None  # the study's seed, by which arms are paired; None: seeds.init
    image_sampling: dict[str, Any] = field(default_factory=dict)  # arguments of generate_image
    text_sampling: dict[str, Any] = field(default_factory=dict)  # arguments of generate_text
    evaluation: list[Metric] = field(default_factory=list)
    logging: Logging = field(default_factory=Logging)
    machine: Machine = field(default_factory=Machine)
    tiny: dict[str, Any] = field(default_factory=dict)  # what `--tiny` and contract tests merge

    def __post_init__(self) -> None:
        """Raise ValueError for a task that the model's class learns, but not with its parts."""
        if self.cooldown and self.optimizer.schedule != "constant":
            raise ValueError(
                "cooldown: the rate is constant before it; write optimizer.schedule: constant, "
                f"not {self.optimizer.schedule}"
            )
        if self.cooldown and not self.cooldown.start < self.steps:
            raise ValueError(
                f"cooldown.start is {self.cooldown.start}: no step of {self.steps} is left after it"
            )
        model = self.model
        if not isinstance(model, Trainable):
            return
        for task in self.data.tasks:
            if not self.data.source.task(task).learned_by(model.tasks):
                raise ValueError(
                    f"data.tasks.{task}: {type(model).__name__} does not learn it"
                    f"{f', because {model.lacks}' if model.lacks else ''}; it learns "
                    f"{', '.join(sorted(model.tasks))}"
                )
