"""Prompts that weigh unlike: the equations against matrices, and what intervals cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.analysis.clustered_intervals import mean_interval, ratio_interval
from unify.analysis.independent_differences import independent_crossed, independent_variances
from unify.analysis.paired_differences import crossed, crossed_variances, half_width
from unify.analysis.prompt_weights import degrees_of_freedom, shares, square_factors, worth

TRIALS = {
    "alike": [6] * 40,
    "1/k": [max(1, 60 // k) for k in range(1, 61)],
    "powers": [2**k for k in range(8)],
    "a third": [20] + [1] * 40,
    "three of a quarter": [40] * 3 + [1] * 40,
    "half": [39] + [1] * 39,
    "200 of 256": [200] + [1] * 56,
}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 300), min_size=2, max_size=12).filter(lambda t: len({*t}) > 1))
def test_v_is_unbiased_and_its_degrees_of_freedom_are_those_of_its_quadratic_form(trials):
    share, n = shares(np.array(trials)), len(trials)
    form = np.eye(n) - share  # residuals r = form @ y
    form = form.T @ np.diag(square_factors(share, n)) @ form
    assert np.trace(form) == pytest.approx((share**2).sum())
    expected = np.trace(form) ** 2 / np.trace(form @ form)
    assert degrees_of_freedom(share, n) == pytest.approx(expected)
    assert expected * (1 + 1e-9) >= 1
    assert expected <= n - 1 + 1e-9
    assert worth(share, n) == pytest.approx(1 / (share**2).sum())


@settings(deadline=None, max_examples=200)
@given(st.integers(3, 6), st.integers(2, 20), st.randoms())
def test_prompts_of_equal_trials_give_the_mean_squares_of_a_two_way_layout(s, n, chance):
    d = np.random.default_rng(chance.getrandbits(32)).normal(size=(s, n))
    by_seed, by_prompt = d.mean(1, keepdims=True), d.mean(0, keepdims=True)
    m_e = ((d - by_seed - by_prompt + d.mean()) ** 2).sum() / ((s - 1) * (n - 1))
    m_s, m_p = n * by_seed.var(ddof=1), s * by_prompt.var(ddof=1)
    wanted = (max(m_s, m_e) / d.size, max(m_p - m_e, 0) / d.size)
    weights = np.full(n, 1 / n)  # told as weights that happen to be equal
    for got in (crossed_variances(d), crossed_variances(d, weights)):
        assert got == pytest.approx(wanted, abs=1e-15)
    assert degrees_of_freedom(weights, n) == pytest.approx(n - 1)
    six = crossed(d, 0 * d, np.full(n, 6))
    assert np.array(six.parts) == pytest.approx(np.array([(wanted[0], s - 1), (wanted[1], n - 1)]))


def studies(generator, trials, seeds, of_prompts, of_seeds, tables=600):
    """Differences [tables S N] of equal arms; 0.3 within a trial."""
    n = len(trials)
    return (
        generator.normal(0, of_prompts, (tables, 1, n))
        + generator.normal(0, of_seeds, (tables, seeds, 1))
        + generator.normal(0, 0.3, (tables, seeds, n)) / np.sqrt(trials)
    )


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("kind", TRIALS)
def test_intervals_cover_however_unlike_the_trials_are(kind, seeds):
    trials, generator = np.array(TRIALS[kind]), np.random.default_rng(seeds)
    share, n = shares(trials), len(trials)
    df = degrees_of_freedom(share, n)
    weights = trials / trials.sum()
    for of_prompts, of_seeds in ((1, 0.05), (0.3, 0.5)):
        a = studies(generator, trials, seeds, of_prompts, of_seeds)
        b = studies(generator, trials, 5, of_prompts, of_seeds)
        half = half_width(0.05, *zip(crossed_variances(a, share), (seeds - 1, df), strict=True))
        covered = (abs((a @ weights).mean(-1)) <= half).mean()
        assert covered >= 0.92, "0.94 within two standard errors of the simulation"
        parts = independent_variances(a, b, share)
        half = half_width(0.05, *zip(parts, (seeds - 1, 4, df), strict=True))
        covered = (abs((a @ weights).mean(-1) - (b @ weights).mean(-1)) <= half).mean()
        assert covered >= 0.92


@pytest.mark.parametrize("kind", TRIALS)
def test_intervals_of_one_model_cover_however_unlike_the_trials_are(kind):
    trials, generator, covered = np.array(TRIALS[kind]), np.random.default_rng(0), 0
    asked = np.repeat(np.arange(len(trials)), trials)
    for _ in range(300):
        values = generator.normal(size=len(trials))[asked] + generator.normal(0, 0.3, len(asked))
        low, high = mean_interval(values.tolist(), asked.tolist())
        covered += low <= 0 <= high
    assert covered / 300 >= 0.91, "0.935 within two standard errors of the simulation"


def test_a_prompt_with_half_of_the_trials_has_no_verdict_and_the_method_says_what_prompts_weigh():
    d = np.random.default_rng(0).normal(size=(5, 40))
    half = "one prompt with 50% of the trials cannot tell"
    one = crossed(d, 0 * d, np.array(TRIALS["half"]))
    assert (one.refusal, one.interval, one.p) == (half, None, None)
    assert independent_crossed(d, d[:4], np.array(TRIALS["half"])).refusal == half
    assert crossed(d[:, :2], 0 * d[:, :2]).refusal == "", "two prompts have half of the trials each"
    one = crossed(d, 0 * d, np.array([20] + [2] * 39))
    assert one.refusal == ""
    assert (
        one.method == "crossed model, 5 seeds x 40 prompts (weighing as 17.3 asked equally often)"
    )
    assert crossed(d, 0 * d, np.array([3] + [2] * 39)).method.endswith("x 40 prompts")


def test_rows_of_no_tokens_have_no_weight_in_a_ratio():
    assert ratio_interval([1.0, 2.0, 4.0, 0.0], [1, 1, 1, 0]) == pytest.approx(
        ratio_interval([1.0, 2.0, 4.0], [1, 1, 1])
    )
    assert ratio_interval([1.0, 0.0], [1, 0]) is None
