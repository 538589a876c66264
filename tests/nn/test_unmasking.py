"""The order of unmasking: every token once, none twice, and the joint law that comes of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.flow import integrate
from unify.nn.masking import CosineMasking
from unify.nn.unmasking import TruncatedNormalMasking, decode_in_order, earliness, hidden_after
from unify.noise import Noise

NOISE = Noise([("row", row) for row in range(5)])


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 300), st.integers(1, 400))
def test_every_iteration_makes_a_token_known_and_the_last_all(places, iterations):
    left = hidden_after(places, iterations)
    assert len(left) == min(places, iterations)
    assert left[-1] == 0
    assert all(after < before for before, after in zip([places, *left[:-1]], left, strict=True))


def test_a_cosine_says_how_many_are_left():
    wanted = [math.floor(1000 * math.cos(math.pi * k / 16)) for k in range(1, 8)]
    assert hidden_after(1000, 8) == [*wanted, 0]
    assert hidden_after(9, 1) == [0]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.sampled_from(["random", "raster"]))
def test_each_place_is_drawn_once_in_its_order_and_is_never_changed(places, iterations, order):
    early, asked, before = earliness(order, NOISE, places), [], torch.zeros(5, places, 2)

    def draw(tokens, hidden, chosen, known):
        nonlocal before
        count = places - hidden.sum(1)  # known before this iteration
        assert (count == count[0]).all()
        assert known == pytest.approx((count[0] + chosen.shape[1]) / places)
        assert hidden.gather(1, chosen).all(), "asked for what is known"
        assert tokens[hidden].abs().sum() == 0, "something is said of a hidden token"
        assert torch.equal(tokens[~hidden], before[~hidden]), "a known token was changed"
        asked.append(chosen)
        drawn = torch.stack([chosen + 1.0, chosen + len(asked) * 1000.0], -1)
        before = tokens.scatter(1, chosen[..., None].expand(-1, -1, 2), drawn)
        return drawn

    tokens = decode_in_order(draw, early, 2, iterations)
    assert torch.equal(tokens, before)
    in_order = torch.cat(asked, 1)
    assert torch.equal(in_order.sort(1).values, torch.arange(places).expand(5, -1))
    assert torch.equal(early.gather(1, in_order), early.sort(1, descending=True).values)
    assert torch.equal(tokens[..., 0], torch.arange(1.0, places + 1).expand(5, -1))
    if order == "raster":
        assert torch.equal(in_order, torch.arange(places).expand(5, -1))


@pytest.mark.parametrize("masking", [CosineMasking(), TruncatedNormalMasking()])
@pytest.mark.parametrize("order", ["random", "raster"])
def test_training_hides_what_would_be_drawn_last(masking, order):
    early = earliness(order, NOISE, 12)
    share = torch.tensor([0.72, 0.8, 0.9, 0.95, 1.0])
    hidden = masking.choose(early, share)
    sequence = early.argsort(dim=1, descending=True)
    for row, count in enumerate(hidden.sum(1).tolist()):
        assert count >= 1
        assert set(hidden[row].nonzero().flatten().tolist()) == set(
            sequence[row, 12 - count :].tolist()
        )


def test_the_order_is_a_rows_own_and_every_order_is_as_likely():
    rows = 6000
    early = earliness("random", Noise([("row", row) for row in range(rows)]), 3)
    orders = early.argsort(dim=1, descending=True)
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert (counts - rows / 6).abs().max() < 4.5 * (rows * 5 / 36) ** 0.5
    again = earliness("random", Noise([("row", 7)]), 3)
    assert torch.equal(early[7:8], again)


def gaussian(count):
    """A covariance [count count] of correlated tokens with unlike variances, float64."""
    mixed = torch.randn(count, count, generator=torch.Generator().manual_seed(3)).double()
    return mixed @ mixed.T + 0.1 * torch.eye(count)


def drawn_from_gaussian(covariance, mean, iterations, rows=5_000):
    """Tokens of one number, each by the exact flow given the known ones, [rows N]."""
    places = len(mean)
    noise = Noise([("row", row) for row in range(rows)])
    x0 = noise.normal("x0", (places,)).double()
    order = earliness("raster", noise, places)  # one order: one set of conditionals an iteration

    def draw(tokens, hidden, chosen, known):
        k, c = (~hidden[0]).nonzero().flatten(), chosen[0]
        gain = torch.linalg.solve(covariance[k][:, k], covariance[k][:, c]).T  # [m k]
        centre = mean[c] + (tokens[:, k, 0].double() - mean[k]) @ gain.T  # [rows m]
        variance = covariance[c, c] - (gain * covariance[c][:, k]).sum(1)  # [m]

        def velocity(x, t):
            s = t[:, None]
            slope = (s * variance - (1 - s)) / ((1 - s) ** 2 + s**2 * variance)
            return centre + slope * (x - s * centre)

        return integrate(velocity, x0[:, c], steps=40, solver="rk4")[..., None].float()

    return decode_in_order(draw, order, 1, iterations)[..., 0].double()


def test_token_by_token_a_gaussian_is_drawn_with_all_its_correlations():
    covariance, mean = gaussian(4), torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    drawn = drawn_from_gaussian(covariance, mean, 4)
    scale = covariance.diagonal().sqrt()
    assert ((drawn.mean(0) - mean) / scale).abs().max() < 4 / len(drawn) ** 0.5
    error = (drawn.T.cov() - covariance) / scale / scale[:, None]
    assert error.abs().max() < 5 * (2 / len(drawn)) ** 0.5


def test_all_at_once_each_token_is_right_and_what_ties_them_is_lost():
    """What several tokens of an iteration cost, and that the test above can fail."""
    covariance, mean = gaussian(4), torch.zeros(4).double()
    found = drawn_from_gaussian(covariance, mean, 1).T.cov()
    torch.testing.assert_close(found.diagonal(), covariance.diagonal(), rtol=0.1, atol=0)
    scale = covariance.diagonal().sqrt()
    off = (found / scale / scale[:, None]).fill_diagonal_(0)
    assert off.abs().max() < 0.07
    assert (covariance / scale / scale[:, None]).fill_diagonal_(0).abs().max() > 0.3


def test_the_truncated_normal_law_is_its_quantile_and_counts_its_own_tokens():
    from scipy.stats import truncnorm

    masking = TruncatedNormalMasking(mean=0.9, std=0.2, low=0.5)
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    law = truncnorm((0.5 - 0.9) / 0.2, (1 - 0.9) / 0.2, loc=0.9, scale=0.2)
    torch.testing.assert_close(masking.share(t), torch.from_numpy(law.ppf(1 - t.numpy())))
    assert masking.share(torch.tensor(0.0)) == 1
    rows, places = 200_000, 10
    u = (torch.arange(rows) + 0.5).double() / rows
    n = (places * masking.share(u)).ceil().long()
    found = torch.bincount(n, minlength=places + 1) / rows
    torch.testing.assert_close(masking.counts(places), found.double(), atol=1e-4, rtol=0)


def test_a_law_with_nothing_between_its_ends_is_refused():
    with pytest.raises(ValueError, match="move the mean or raise std"):
        TruncatedNormalMasking(mean=-9.0, std=0.1)
