"""Unmasking in an order that is fixed beforehand (MAR, arXiv:2406.11838).

    training    tokens that come last in the order are hidden
    drawing     T iterations; after iteration k = 1 ... T, floor(N cos(pi k / 2T)) tokens are hidden

Each iteration makes at least one token known, so T = N draws one token after another. A token that
is known stays as it is.

B rows, N places, m of them drawn in one iteration, C numbers of a token.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from unify.nn.masking import Masking, Weight
from unify.noise import Noise
from unify.support.ranges import Finite, Positive, ShareBelow1

Order = Literal["random", "raster"]
# (tokens [B N C], hidden [B N], places [B m], share of tokens that are then known) -> [B m C]
Draw = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def earliness(order: Order, noise: Noise, places: int) -> Tensor:
    """Numbers in [0, 1) [B N], larger the earlier a place is drawn: a `Masking` hides the least."""
    if order == "random":
        return noise.uniform("order", (places,))
    back = torch.arange(places - 1, -1, -1, device=noise.device) / places
    return back.expand(len(noise.rows), -1)


def hidden_after(places: int, iterations: int) -> list[int]:
    """How many of N places are hidden after each of min(T, N) iterations; after the last none."""
    passes = min(iterations, places)
    left, result = places, []
    for done in range(1, passes + 1):
        cosine = math.floor(places * math.cos(math.pi / 2 * done / passes) + 1e-9)
        # one at least becomes known, and one at least is left for each iteration to come
        left = min(max(cosine, passes - done), left - 1)
        result.append(left)
    return result


def decode_in_order(draw: Draw, early: Tensor, numbers: int, iterations: int) -> Tensor:
    """Draw N tokens of `numbers` numbers each, in the order of `early` [B N], the largest first.

    `draw` gives the tokens at some places, given the known ones; it must not read hidden ones.
    Every place is asked for once. Returns tokens [B N numbers].
    """
    rows, places = early.shape
    order = early.argsort(dim=1, descending=True, stable=True)  # [B N]
    tokens = torch.zeros(rows, places, numbers, device=early.device)
    hidden = torch.ones(rows, places, dtype=torch.bool, device=early.device)
    done = 0
    for left in hidden_after(places, iterations):
        chosen = order[:, done : places - left]  # [B m], as many in each row
        done = places - left
        drawn = draw(tokens, hidden, chosen, done / places)
        tokens = tokens.scatter(1, chosen[..., None].expand(-1, -1, numbers), drawn)
        hidden = hidden.scatter(1, chosen, False)
    return tokens


class TruncatedNormalMasking(Masking):
    """p ~ N(mean, std^2) between `low` and 1, and n = N p, rounded up: MAR's law.

    It never hides less than `low`, though drawing comes to shares as small as 1/N.
    """

    def __init__(
        self,
        weight: Weight = "sample",
        mean: Finite = 1.0,
        std: Positive = 0.25,
        low: ShareBelow1 = 0.7,
    ):
        super().__init__(weight)
        self.mean, self.std, self.low = mean, std, low
        if not torch.subtract(*self._ends()) < -1e-9:
            raise ValueError(
                f"TruncatedNormalMasking: none of N({mean}, {std}^2) lies between {low} and 1; "
                "move the mean or raise std"
            )

    def _below(self, share: Tensor) -> Tensor:
        """Probability of the normal law below a share, float64."""
        return torch.special.ndtr((share.double() - self.mean) / self.std)

    def _ends(self) -> tuple[Tensor, Tensor]:
        return self._below(torch.tensor(self.low)), self._below(torch.tensor(1.0))

    def share(self, t: Tensor) -> Tensor:
        low, high = (end.to(t.device) for end in self._ends())
        # all is hidden at t = 0, the source
        z = torch.special.ndtri(high - t.double() * (high - low))
        return (self.mean + self.std * z).clamp(self.low, 1).to(t)

    def choose(self, order: Tensor, share: Tensor) -> Tensor:
        n = (order.shape[1] * share).ceil().clamp(min=1)  # [B]
        return order.argsort(dim=1, stable=True).argsort(1) < n[:, None]

    def counts(self, places: int) -> Tensor:
        low, high = self._ends()
        ends = torch.arange(places + 1, dtype=torch.float64) / places
        below = (self._below(ends.clamp(min=self.low)) - low) / (high - low)
        return below.diff(prepend=below.new_zeros(1))
