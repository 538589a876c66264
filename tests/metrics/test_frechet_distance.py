"""The Frechet distance: its closed form, and what a metric of it compares."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_readers import Pixels
from shapes_oracle import WORLD, Broken, Oracle, subject
from torchmetrics.image.fid import FrechetInceptionDistance

from unify.data.source import images
from unify.metrics.frechet_distance import FrechetDistance, frechet_distance
from unify.metrics.metric import first_records

FULL = st.integers(1, 8).flatmap(
    lambda d: st.tuples(st.integers(d + 2, 40), st.integers(d + 2, 40), st.just(d))
)
ANY = st.tuples(st.integers(2, 40), st.integers(2, 40), st.integers(1, 12))
SEEDS = st.integers(0, 9999)


def features(n, d, seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d))


@settings(max_examples=200, deadline=None)
@given(FULL, SEEDS)
def test_it_is_the_formula_with_scipys_root(sizes, seed):
    n, m, d = sizes
    a, b = features(n, d, seed), features(m, d, seed + 1)
    cov = [np.atleast_2d(np.cov(x.numpy().T)) for x in (a, b)]
    root = scipy.linalg.sqrtm(cov[0] @ cov[1])
    apart = float((a.mean(0) - b.mean(0)).square().sum())
    wanted = apart + np.trace(cov[0]) + np.trace(cov[1]) - 2 * np.trace(root).real
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-4, abs=1e-3)


@settings(max_examples=200, deadline=None)
@given(ANY, SEEDS)
def test_at_any_rank_it_is_0_for_equal_pictures_symmetric_and_the_square_of_a_shift(sizes, seed):
    n, m, d = sizes
    a, b = features(n, d, seed), features(m, d, seed + 1)
    small = 1e-5 * float(1 + a.var(0).sum() + b.var(0).sum())
    assert frechet_distance(a, a) == pytest.approx(0, abs=small)
    assert 0 <= frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=small)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * d, abs=small)


def test_it_is_that_of_torchmetrics_on_the_same_features():
    class Given(torch.nn.Module):
        num_features = 6

        def forward(self, x):
            return x.flatten(1)[:, :6].float()

    theirs = FrechetInceptionDistance(feature=Given(), normalize=True)
    a, b = (features(60, 12, seed).float().reshape(60, 3, 2, 2) for seed in (1, 2))
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    own = frechet_distance(a.flatten(1)[:, :6], b.flatten(1)[:, :6])
    assert own == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_it_is_known_for_gaussians_and_needs_two_pictures():
    """N(0, 1) against N(3, 4), exactly so by samples of two points in each of two directions."""
    base = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * math.sqrt(3 / 4)  # covariance 1
    assert frechet_distance(base, base + torch.tensor([3.0, 0])) == pytest.approx(9)
    assert frechet_distance(base, 2 * base) == pytest.approx(2 * (1 - 2) ** 2)
    with pytest.raises(ValueError, match="1 and 4 pictures; each side needs 2 at least"):
        frechet_distance(base[:1], base)


def scores_of(model, n=24, world=WORLD, **arguments):
    scores, _ = FrechetDistance(Pixels(), n=n, **arguments).measure(subject(model, world))
    return {score.metric.removeprefix("text_to_image/"): score for score in scores}


def test_who_draws_the_true_pictures_is_as_far_as_two_halves_of_the_real_ones():
    scores = scores_of(Oracle(WORLD))
    assert scores["frechet"].value == scores["frechet/floor"].value > 0
    assert scores["frechet/ceiling"].value == scores["frechet/floor"].value
    real = images(first_records(WORLD, "text_to_image", "test", 48), "image")
    wanted = frechet_distance(*(Pixels().features(half) for half in real.split(24)))
    assert scores["frechet/floor"].value == pytest.approx(wanted)
    assert [scores[k].better for k in ("frechet", "frechet/floor")] == ["lower", None]
    assert {score.n for score in scores.values()} == {24}
    gray = scores_of(Broken(WORLD))
    assert gray["frechet"].value > 3 * gray["frechet/floor"].value
    assert gray["frechet/floor"].value == scores["frechet/floor"].value


def test_the_encoder_is_named_and_a_short_split_is_halved():
    few = Oracle(WORLD)
    passport = scores_of(few)["frechet"].passport
    assert passport["encoder"] == f"Pixels {Pixels().content_hash()}"
    source = type("Few", (type(WORLD),), {"size": lambda self, task, split: 11})(prompt_mix=0.5)
    assert scores_of(few, world=source)["frechet"].n == 5
    source.size = lambda task, split: 3
    with pytest.raises(ValueError, match="1 of a split's pictures have no covariance"):
        scores_of(few, world=source)
