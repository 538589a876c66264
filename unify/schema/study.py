"""What a study YAML may say: the top-level keys are the fields of `Study`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

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
