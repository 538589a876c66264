"""Flow matching (arXiv:2210.02747, 2209.03003): pure functions, one time convention.

    t = 0 is the source, t = 1 is the data, everywhere
    x_t = (1 - t) x0 + t x1        v = dx_t/dt = x1 - x0

`x0` is always an argument: noise for a diffusion-like paradigm, a text latent for another.
B rows; x has any shape [B ...]; t is [B].

    t = LogitNormalTime().quantile(noise.uniform("t"))
    xt, velocity = interpolate(noise.normal("x0", x1.shape[1:]), x1, t)     # to train
    x1 = integrate(lambda x, t: model(x, t), x0, steps=30)                  # to sample
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from unify.support.ranges import Count, Finite, NotNegative, Positive, ShareAbove0

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x [B ...], t [B]) -> dx/dt [B ...]


def expand(t: Tensor, x: Tensor) -> Tensor:
    """[B] -> [B 1 ... 1] with as many axes as x; a t that has them stays as it is."""
    return t if t.ndim == x.ndim else t.reshape(-1, *[1] * (x.ndim - 1))


def interpolate(x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Point x_t on the straight path and its velocity x1 - x0."""
    t = expand(t, x1)
    return (1 - t) * x0 + t * x1, x1 - x0


class Path(ABC):
    """A path from the source x0 at t = 0 to the data x1 at t = 1, both ends met exactly."""

    @abstractmethod
    def at(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Point x_t and velocity dx_t/dt at times t [B]."""


class LinearPath(Path):
    """x_t = (1 - t) x0 + t x1."""

    def at(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return interpolate(x0, x1, t)


class SinCosPath(Path):
    """x_t = cos(pi t / 2) x0 + sin(pi t / 2) x1 (arXiv:2303.08797).

    Between independent ends of unit variance every x_t has unit variance.
    """

    def at(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = expand(t, x1)
        sin = torch.sin(math.pi / 2 * t)
        cos = torch.sin(math.pi / 2 * (1 - t))  # exactly 0 at t = 1, which cos(pi / 2) is not
        return cos * x0 + sin * x1, math.pi / 2 * (cos * x1 - sin * x0)


class TimeLaw(ABC):
    """A distribution of training times on (0, 1), by its quantile function.

    Arms with different laws share the same uniform numbers and map them through their own law.
    """

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) -> times."""

    @abstractmethod
    def cdf(self, t: Tensor) -> Tensor:
        """Inverse of `quantile`."""

    def above(self, u: Tensor, low: float) -> Tensor:
        """Times of this law given that t >= low (Transfusion's bound for image-first pairs)."""
        share = self.cdf(torch.as_tensor(low, dtype=u.dtype, device=u.device))
        return self.quantile(share + u * (1 - share)).clamp(min=low)


class UniformTime(TimeLaw):
    """t ~ U(0, 1)."""

    def quantile(self, u: Tensor) -> Tensor:
        return u

    def cdf(self, t: Tensor) -> Tensor:
        return t


class LogitNormalTime(TimeLaw):
    """logit(t) ~ N(mean, std^2) (arXiv:2403.03206); a negative mean is nearer the source.

    High-dimensional tokens and structured scenes want samples nearer the source.
    """

    def __init__(self, mean: Finite = 0.0, std: Positive = 1.0):
        if std <= 0:
            raise ValueError(f"LogitNormalTime.std is {std}; it must be above 0")
        self.mean, self.std = mean, std

    def quantile(self, u: Tensor) -> Tensor:
        # u = 0 is drawn once in 2^24: keep its time inside (0, 1)
        z = torch.special.ndtri(u.double().clamp(1e-9, 1 - 1e-9))
        return torch.sigmoid(self.mean + self.std * z).to(u.dtype)

    def cdf(self, t: Tensor) -> Tensor:
        z = (torch.logit(t.double()) - self.mean) / self.std
        return torch.special.ndtr(z).to(t.dtype)


class ShiftedTime(TimeLaw):
    """A law whose times are moved towards the source, for latents of more numbers.

    odds(t') = odds(t) / (numbers / base)^.5: as much noise hides more of a picture where it is said
    by fewer numbers (arXiv:2403.03206, section 5.3; for RAE with all numbers of a latent,
    arXiv:2510.11690).

    Args:
        law: that is moved.
        numbers: C * h * w of a latent.
        base: numbers of the latents for which the law is meant; 4096 are the papers'.
    """

    def __init__(self, law: TimeLaw, numbers: Count, base: Count = 4096):
        self.law, self.shift = law, (numbers / base) ** 0.5

    def quantile(self, u: Tensor) -> Tensor:
        return shift_time(self.law.quantile(u), self.shift)

    def cdf(self, t: Tensor) -> Tensor:
        return self.law.cdf(shift_time(t, 1 / self.shift))


class Prediction(ABC):
    """The meaning of the network's output: every one is turned into a velocity."""

    @abstractmethod
    def velocity(self, output: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """The velocity [B ...] that the output stands for at x_t and t [B]."""


class VelocityPrediction(Prediction):
    """The output is the velocity."""

    def velocity(self, output: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        return output


class XPrediction(Prediction):
    """The output is the data x1; v = (x1 - x_t) / (1 - t) (arXiv:2511.13720).

    For tokens with more numbers than the trunk's width, where a velocity cannot pass through.
    `floor` bounds 1 - t from below, so that the loss near the data stays finite.
    """

    def __init__(self, floor: ShareAbove0 = 0.05):
        self.floor = floor

    def velocity(self, output: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        return (output - xt) / expand((1 - t).clamp(min=self.floor), xt)


def data_from_velocity(velocity: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """x1 = x_t + (1 - t) v."""
    return xt + expand(1 - t, xt) * velocity


def shift_time(t: Tensor, shift: float) -> Tensor:
    """odds(t') = odds(t) / shift: a shift above 1 moves times towards the source.

    Fixes 0 and 1, is monotone, and shifts compose by multiplication (arXiv:2403.03206).
    """
    return t / (t + shift * (1 - t))


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """The steps + 1 times of an integration, 0 and 1 included (fp64)."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; integration needs at least 1")
    return shift_time(torch.linspace(0, 1, steps + 1, dtype=torch.float64), shift)


def euler(velocity: Velocity, x: Tensor, t: Tensor, dt: float) -> Tensor:
    """First order: the slope at the left end of the step."""
    return x + dt * velocity(x, t)


def heun(velocity: Velocity, x: Tensor, t: Tensor, dt: float) -> Tensor:
    """Second order: the mean of the slopes at both ends."""
    first = velocity(x, t)
    return x + dt / 2 * (first + velocity(x + dt * first, t + dt))


def rk4(velocity: Velocity, x: Tensor, t: Tensor, dt: float) -> Tensor:
    """Fourth order Runge-Kutta."""
    k1 = velocity(x, t)
    k2 = velocity(x + dt / 2 * k1, t + dt / 2)
    k3 = velocity(x + dt / 2 * k2, t + dt / 2)
    k4 = velocity(x + dt * k3, t + dt)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


Solver = Literal["euler", "heun", "rk4"]
SOLVERS = {"euler": euler, "heun": heun, "rk4": rk4}


def integrate(
    velocity: Velocity,
    x: Tensor,
    steps: int,
    shift: float = 1.0,
    solver: Solver = "euler",
    reverse: bool = False,
) -> Tensor:
    """Carry x [B ...] along the velocity from t = 0 to t = 1.

    Args:
        velocity: dx/dt of (x [B ...], t [B]).
        x: the source at t = 0; with `reverse` the data at t = 1, which is carried back.
        steps: number of steps; `heun` evaluates the velocity twice in each, `rk4` four times.
        shift: above 1, steps are shorter near the source (`shift_time`).

    Each slope is taken at the time where the step begins, so that the grid and dt agree.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}; choose one of {', '.join(SOLVERS)}")
    step = SOLVERS[solver]
    grid = time_grid(steps, shift).tolist()
    for now, then in pairwise(grid[::-1] if reverse else grid):
        x = step(velocity, x, x.new_full((len(x),), now), then - now)
    return x


@dataclass(frozen=True)
class FlowSampler:
    """Settings that draw from a velocity: the scale of guidance, and those of `integrate`."""

    guidance: NotNegative = 1.0
    steps: Count = 30
    shift: Positive = 1.0
    solver: Solver = "euler"

    def integrate(self, velocity: Velocity, x: Tensor, reverse: bool = False) -> Tensor:
        """x carried from t = 0 to 1, or back with `reverse`: `integrate` with these settings."""
        return integrate(velocity, x, self.steps, self.shift, self.solver, reverse)


def guide(predictions: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """f(c0) + sum_i s_i (f(c_i) - f(c_{i-1})) over conditions ordered from least to most.

    With one scale: s = 1 is the conditional model, s = 0 the unconditional (arXiv:2207.12598).
    Works on velocities and on logits alike.
    """
    assert len(predictions) == len(scales) + 1
    guided = predictions[0]
    for before, after, scale in zip(predictions[:-1], predictions[1:], scales, strict=True):
        guided = guided + scale * (after - before)
    return guided
