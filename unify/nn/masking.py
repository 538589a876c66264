"""Masking in training: how many of a row's tokens are hidden, which, and what its loss weighs.

    t ~ U(0, 1)      p(t) = share that is hidden: all at t = 0, the source, none at t = 1, the data
    loss of a row    sum of CE over its n hidden tokens out of N, times one of

    token        1 / E[n]           every hidden token weighs the same: n large dominates
    sample       1 / n              every row weighs the same
    inverse_p    1 / (N p)          as `sample` in expectation, if p says nothing else than n does
    elbo         1 / (N n q(n))     q(n) = P(n hidden): N times it bounds -log P(x)

With the last one the expected sum is S_1 + S_2/2 + ... + S_N/N, where S_n is the mean sum over all
sets of n hidden tokens: the mean, over the N! orders, of -log P(x) token by token
(arXiv:2110.02037). By Jensen's inequality that is at least the -log of P(x) averaged over orders.
In the limit of continuous time the weight is 1/(p f(p)), f the density of p (arXiv:2406.07524);
1/(n q(n)) is its mean over all p that could have hidden n tokens. It is exact for every N, and it
varies less.

B rows, N places, some of them hidden.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unify.noise import Noise
from unify.paradigm import Term
from unify.support.ranges import ShareBelow1

Weight = Literal["token", "sample", "inverse_p", "elbo"]
LEAST_SHARE = 1e-3  # that `inverse_p` divides by


@dataclass
class Hidden:
    """Which tokens of each row are hidden, drawn at which share."""

    places: Tensor  # [B N] bool
    share: Tensor  # [B], p

    @property
    def count(self) -> Tensor:
        """n of each row, [B]."""
        return self.places.sum(1)


class Masking(ABC):
    """A law of hidden tokens and the weight of the loss on them, two choices of their own."""

    def __init__(self, weight: Weight = "token"):
        self.weight = weight

    @abstractmethod
    def share(self, t: Tensor) -> Tensor:
        """p of times in [0, 1)."""

    @abstractmethod
    def choose(self, order: Tensor, share: Tensor) -> Tensor:
        """Hidden places [B N], by uniform numbers `order` [B N], at shares [B]."""

    @abstractmethod
    def counts(self, places: int) -> Tensor:
        """q(n) = P(n of N places hidden) for n = 0 ... N, over all t: [N+1], float64."""

    def draw(self, noise: Noise, place: int, places: int) -> Hidden:
        """Hide tokens of the segment at `place` of the batch, which has N places."""
        share = self.share(noise.t(place))
        return Hidden(self.choose(noise.uniform("order", (places,)), share), share)

    def term(self, nll: Tensor, hidden: Hidden, count: Tensor | None = None) -> Term:
        """The term of nll [B N], weighted; its total is the bound in nats, whatever the weight.

        `count` [B]: the tokens that the total is over; default: all N.
        """
        summed = (nll * hidden.places).sum(1)  # [B]
        bound = summed / self._bound_divisor(hidden)
        if count is None:
            count = torch.full_like(hidden.count, nll.shape[1])
        value = summed / self._divisor(hidden)
        return Term(value, t=1 - hidden.share, total=bound.detach(), count=count)

    def _divisor(self, hidden: Hidden) -> Tensor:
        """[B], or one number for all."""
        places = hidden.places.shape[1]
        if self.weight == "token":
            # the batch's own number of hidden tokens, as in papers, would couple its rows
            q = self.counts(places)
            return (q * torch.arange(len(q))).sum().to(hidden.share)
        if self.weight == "sample":
            return hidden.count.clamp(min=1)
        if self.weight == "inverse_p":
            return places * hidden.share.clamp(min=LEAST_SHARE)
        return places * self._bound_divisor(hidden)

    def _bound_divisor(self, hidden: Hidden) -> Tensor:
        """n q(n), [B]; where nothing is hidden any number will do."""
        q, n = self.counts(hidden.places.shape[1]), hidden.count
        return (q.to(n.device)[n] * n).clamp(min=1e-12).to(hidden.share)


class CosineMasking(Masking):
    """p = cos(pi t / 2) and n = N p, rounded, at least 1: any set of n is as likely (MaskGIT,
    arXiv:2202.04200)."""

    def share(self, t: Tensor) -> Tensor:
        return torch.cos(math.pi / 2 * t)

    def choose(self, order: Tensor, share: Tensor) -> Tensor:
        places = order.shape[1]
        n = (places * share).round().clamp(min=1)  # [B]
        at = order.argsort(dim=1, stable=True).argsort(1)  # [B N]
        return at < n[:, None]

    def counts(self, places: int) -> Tensor:
        # P(p <= x) = 2/pi asin(x); n is hidden where N p lies between n - 1/2 and n + 1/2
        ends = ((torch.arange(places + 1).double() + 0.5) / places).clamp(max=1)
        q = (2 / math.pi * ends.asin()).diff(prepend=ends.new_zeros(1))  # [N+1]
        return torch.cat([q.new_zeros(1), q[:1] + q[1:2], q[2:]])


class LinearMasking(Masking):
    """p = 1 - (1 - least) t, each token by itself (LLaDA, arXiv:2502.09992)."""

    def __init__(self, weight: Weight = "elbo", least: ShareBelow1 = 1e-3):
        super().__init__(weight)
        self.least = least

    def share(self, t: Tensor) -> Tensor:
        return 1 - (1 - self.least) * t

    def choose(self, order: Tensor, share: Tensor) -> Tensor:
        return order < share[:, None]

    def counts(self, places: int) -> Tensor:
        # the binomial law of n, averaged over p from `least` to 1: with least = 0 each n is as
        # likely, and of p below it the share P(Bin(N+1, least) > n) is missing
        n = torch.arange(places + 1).double()
        trials = torch.tensor(places + 1.0, dtype=torch.float64)
        chosen = (trials + 1).lgamma() - (n + 1).lgamma() - (trials - n + 1).lgamma()
        least = torch.tensor(self.least, dtype=torch.float64)
        log = chosen + torch.xlogy(n, least) + (trials - n) * torch.log1p(-least)
        return log.exp().cumsum(0) / trials / (1 - least)
