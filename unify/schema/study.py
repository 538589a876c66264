"""The keys of a study YAML: its top-level keys are the fields of `Study`."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval, MinLen

from unify.schema.choices import check_space
from unify.schema.figure import ReportFigure
from unify.support.file_names import FileName
from unify.support.ranges import Count, CountOrZero, Distinct, NotNegative, Seed, ShareAbove0

Amount = Annotated[float, Interval(ge=0, le=1e18)]
Flops = Annotated[float, Interval(ge=0, le=1e30)]
PUBLISHED_ARM = "published/"  # begins the name of an arm of the folder that --against names
QUANTITIES = ("steps", "samples", "tokens", "flops")  # in which a budget may be given
GONE = {  # keys of earlier versions, by class -> what to write now
    "Tune": {"lower": "leave it out: the metric's scores state which of their values are better"},
    "Claim": {
        "higher": "write `better:`, the arm that the paper found better; where lower scores are "
        "better (perplexity, errors) that is the arm with the lower ones",
        "lower": "write `worse:`, the arm that the paper found worse",
    },
}


@dataclass
class Budget:
    """The amount that every arm may spend, in one quantity. An arm's steps are solved from it
    (costs/step_cost.py)."""

    steps: CountOrZero = 0
    samples: Amount = 0
    tokens: Amount = 0
    flops: Flops = 0
    # only what is spent on this task counts: equal samples of a task, or equal FLOPs of
    # generation, whatever else an arm learns
    task: str = ""
    # FLOPs that count besides training the arm itself: encoding by its frozen tokenizers, and
    # training the runs needed before it
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
    """A width solved so that an arm trains as many parameters as another arm, or as a number
    (study/width_matching.py)."""

    like: str = ""  # the other arm
    parameters: Amount = 0  # or the number
    key: str = "model.trunk.dim"  # the width that is solved for
    multiple: Count = 16  # the width is a multiple of it

    def __post_init__(self) -> None:
        if bool(self.like) == bool(self.parameters):
            raise ValueError("widths: say one of `like`, an arm, and `parameters`, a number")
        if 0 < self.parameters < 1:
            raise ValueError(f"widths.parameters is {self.parameters}: no arm has less than one")


@dataclass
class Tune:
    """Equal tuning: the same number of trials for every arm, scored on validation data
    (study/tuning.py)."""

    # the outcome to be best in; of a list, the mean of those that an arm is scored by
    metric: str | Annotated[list[str], MinLen(1), Distinct()]
    # dotted key -> a list to choose from, {low, high, log}, or {factor} around the arm's own
    space: dict[str, Any]
    trials: Annotated[int, Interval(ge=2, le=10_000)] = (
        8  # per arm; the first is the arm's own values
    )
    share: ShareAbove0 = 1.0  # share of the arm's steps that each trial trains
    seed: Seed = 1000  # of every trial; must not be one of the study's seeds
    defaults: bool = False  # whether each arm is trained with its own values, too
    set: dict[str, Any] = field(default_factory=dict)  # dotted key -> value, in every trial

    @property
    def metrics(self) -> list[str]:
        """The outcomes whose mean is a trial's score."""
        return [self.metric] if isinstance(self.metric, str) else list(self.metric)

    def __post_init__(self) -> None:
        if self.trials < 2 or not self.space:
            raise ValueError("tune: needs two trials at least, the first being the arm as it is")
        if not 0 < self.share <= 1:
            raise ValueError(f"tune.share is {self.share}: it must be above 0, and at most 1")
        check_space("tune", self.space)


@dataclass
class Sweep:
    """Settings of samplers, tried on the weights of every trained run (study/sampler_sweep.py)."""

    # the outcome to be best in; of a list, the mean of those that an arm is scored by
    metric: str | Annotated[list[str], MinLen(1), Distinct()]
    # keys of image_sampling and text_sampling -> choices, as in Tune.space
    space: dict[str, Any]
    settings: Annotated[int, Interval(ge=2, le=10_000)] = (
        8  # of every run; the first is the arm's own
    )
    seed: Seed = 1000  # of the draws
    # arguments of the metrics that score a setting, where they have them: {prompts: 64}
    evaluation: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        """The outcomes whose mean is a setting's score."""
        return [self.metric] if isinstance(self.metric, str) else list(self.metric)

    def __post_init__(self) -> None:
        if self.settings < 2 or not self.space:
            raise ValueError("sweep: needs two settings at least, the first being the arm's own")
        check_space("sweep", self.space)


@dataclass
class CoolDowns:
    """One run, several budgets: each arm is trained at a constant rate once, under each seed, and
    every budget is a cool-down that goes on from a checkpoint of it (study/cooldowns.py)."""

    share: ShareAbove0 = 0.2  # of the steps of each budget, its last
    shape: Literal["linear", "cosine"] = "linear"


@dataclass
class Learned:
    """When an arm has not learned yet (answers/learned.py): it gets no verdict against it.

    For it primary outcomes are scored on validation data while arms train.
    """

    gain: NotNegative = 0.05  # more than this from half to all of its steps, in units of the metric
    ratio: ShareAbove0 = 0.5  # or its lowest replicate is under this share of its highest
    # arguments of the metrics that score it while it trains, where they have them: {prompts: 64}
    evaluation: dict[str, Any] = field(default_factory=dict)
    at: list[ShareAbove0] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])  # of the steps

    def __post_init__(self) -> None:
        if not {0.5, 1.0} <= {*self.at}:
            raise ValueError(f"learned.at is {self.at}: half and all of the steps must be in it")


@dataclass
class Claim:
    """A published finding that the study tests, written down before the run: the arm `better`
    scores better than the arm `worse`, in the direction that the metric's scores state."""

    paper: str  # with its identifier and table
    says: str  # the finding in words
    metric: str
    better: str  # arm; `published/<arm>`: one of the folder that `unify study --against` names
    worse: str  # arm; likewise


@dataclass
class Contrast:
    """A comparison that a confirmatory study names before it runs: `first` - `second`."""

    metric: str
    first: str  # arm
    second: str  # arm


@dataclass
class Control:
    """A comparison whose outcome is known, by which a study shows that it can tell arms apart."""

    arm: str
    # same: `arm` is the experiment of `than` under other seeds; worse: known to be worse than it
    expect: Literal["same", "worse"]
    than: str
    metric: str = ""  # empty: every primary outcome
    # of `expect: same`: the largest difference that counts as none, in units of the metric; 0: none
    # is named, and that no difference was found is then all that can be said
    margin: NotNegative = 0.0

    def __post_init__(self) -> None:
        if self.margin and self.expect != "same":
            raise ValueError(f"controls: {self.arm} has a margin, which is for `expect: same`")
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"controls: {self.arm} has the margin {self.margin}: say one above 0")


@dataclass
class Study:
    """Arms to be trained, evaluated and reported together.

    Each seed of the study is added to the arm's own three (`Seeds`), which are 0 by default.
    """

    name: Annotated[str, FileName()]
    arms: dict[str, Any]  # arm -> experiment file, or {base: file, key: value ...}
    seeds: Annotated[list[Seed], MinLen(1), Distinct()] = field(default_factory=lambda: [0])
    # what is trained under each seed. arm: the arm, from tokenizers and other needed runs that all
    # its seeds share; all: these too, and what they need, and its tuning
    replicate: Literal["arm", "all"] = "arm"
    # what a study is for, with all that belongs to it (config/presets.py). confirmatory: named
    # comparisons, on prompts that a pre-registration seals; exploratory: a look, without verdicts
    preset: Literal["", "confirmatory", "exploratory"] = ""
    preregistration: str = ""  # of a confirmatory study: a file that is committed
    # of a confirmatory study: name -> the comparisons that get a verdict, each family corrected by
    # itself
    families: dict[str, Annotated[list[Contrast], MinLen(1)]] = field(default_factory=dict)
    title: str = ""
    question: str = ""  # the question that the study answers
    set: dict[str, Any] = field(default_factory=dict)  # merged into every arm
    # dotted key -> values, all combinations; or a list of points. Each point makes an arm of each
    grid: dict[str, list[Any]] | list[dict[str, Any]] = field(default_factory=dict)
    # metric names fixed before the run
    primary: Annotated[list[str], Distinct()] = field(default_factory=list)
    widths: dict[str, Width] = field(default_factory=dict)  # by arm
    cooldowns: CoolDowns | None = None  # of every arm; None: the schedule that it has
    budget: Budget | None = None  # of every arm; None: each trains its own `steps`
    # arm -> a budget of its own; a grid over `budget.flops` makes them
    budgets: dict[str, Budget] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)  # each gets a verdict in the report
    tune: Tune | None = None  # of every arm before it is trained; None: no tuning
    sweep: Sweep | None = None  # of every run's sampler, once it is trained; None: as it is
    # a rule that is applied before any test; None: none is
    learned: Learned | None = None
    controls: list[Control] = field(default_factory=list)  # their arms are in no other comparison
    # the arm that all others are compared with, `published/<arm>` of what is compared with by
    # `unify study --against`; empty: all pairs are compared
    baseline: str = ""
    figures: list[ReportFigure] = field(default_factory=list)  # drawn on the report, beside its own

    def __post_init__(self) -> None:
        if not self.arms:
            raise ValueError("arms: none is named; write `name: experiment.yaml` for each")
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ValueError(f"seeds: {self.seeds}; give one or more, each of them once")
        if self.widths and self.grid:
            raise ValueError("widths and grid are not solved together; write the arms out instead")
        if self.tune and (taken := {*self.seeds} & {*self.trial_seeds.values()}):
            added = f", which with a seed added is {min(taken)}," if self.whole else ""
            raise ValueError(
                f"tune.seed {self.tune.seed}{added} is one of the study's seeds; take another"
            )
        tuned = self.tune.space if self.tune else {}
        for arm, width in self.widths.items():
            if width.key in tuned:
                raise ValueError(f"widths.{arm} is solved for {width.key}: it is not tuned as well")
        for figure in self.figures:
            figure.check()
        if len({figure.name for figure in self.figures}) < len(self.figures):
            raise ValueError("figures: two have one name, which is that of their files")

    @property
    def whole(self) -> bool:
        """True if each seed is a pipeline of its own: needed runs, tuning, training."""
        return self.replicate == "all"

    @property
    def trial_seeds(self) -> dict[int, int]:
        """The seed of the trials that each seed of the study follows: one for all, or its own."""
        assert self.tune is not None
        return {seed: self.tune.seed + seed * self.whole for seed in self.seeds}

    def tuning_of(self, arm: str, seed: int) -> str:
        """The key of tuning.json for the trials that an arm under a seed follows."""
        return f"{arm}-s{seed}" if self.tune and self.whole else arm

    def budget_of(self, arm: str) -> Budget | None:
        """The arm's own budget, else that of every arm."""
        return self.budgets.get(arm, self.budget)
