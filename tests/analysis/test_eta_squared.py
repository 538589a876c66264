"""Shares of arms, conditions and their combination: known truth, identities, false positives."""

import numpy as np
import pytest
from scipy import stats

from unify.analysis import eta_squared as module
from unify.analysis.eta_squared import EFFECTS, eta_squared

ARM = np.array([0.0, 1.0, 3.0])[:, None, None]
CONDITION = np.array([0.0, 5.0])[None, :, None]
SEED = np.array([0.0, 0.5, 0.1, 0.2])[None, None]


def test_an_additive_table_has_nothing_in_combination():
    result = eta_squared(ARM + CONDITION + SEED)
    assert result.shares["both"] == pytest.approx(0, abs=1e-12)
    assert result.shares["rest"] == pytest.approx(0, abs=1e-12)
    spread = {"arm": 8 * np.var(ARM) * 3, "condition": 12 * np.var(CONDITION) * 2}
    assert result.shares["arm"] / result.shares["condition"] == pytest.approx(
        spread["arm"] / spread["condition"]
    )
    assert result.agreement == [1.0]


def test_shares_add_up_to_one():
    values = np.random.default_rng(0).standard_normal((3, 4, 5))
    assert sum(eta_squared(values).shares.values()) == pytest.approx(1.0)


def test_arms_that_change_places_are_all_combination():
    swapped = np.array([[1.0, 0.0], [0.0, 1.0]])[..., None].repeat(3, -1)
    result = eta_squared(swapped)
    assert result.shares["both"] == pytest.approx(1.0)
    assert result.agreement == [-1.0]


def test_p_are_those_of_nested_least_squares_models():
    """F compares the residuals of a model with and without the effect."""
    shape = (3, 4, 5)
    values = np.random.default_rng(1).standard_normal(shape)
    where = dict(zip(("arm", "condition", "seed"), np.indices(shape).reshape(3, -1), strict=True))
    columns = {name: np.eye(n)[where[name]] for name, n in zip(where, shape, strict=True)}
    columns["both"] = np.eye(12)[where["arm"] * 4 + where["condition"]]

    def residual(*names):
        design = np.concatenate([columns[name] for name in names], 1)
        fitted = design @ np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
        return float(((values.ravel() - fitted) ** 2).sum()), np.linalg.matrix_rank(design)

    result = eta_squared(values)
    rest, rank = residual("seed", "arm", "condition", "both")
    for name, smaller in (
        ("both", ("seed", "arm", "condition")),
        ("arm", ("seed", "condition")),
        ("condition", ("seed", "arm")),
    ):
        larger = ("seed", "arm", "condition")[: 3 if name != "both" else 0] or ("seed", "both")
        effect = residual(*smaller)[0] - residual(*larger)[0]
        freedom = residual(*larger)[1] - residual(*smaller)[1]
        f = effect / freedom / (rest / (values.size - rank))
        assert result.p[name] == pytest.approx(stats.f.sf(f, freedom, values.size - rank))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_false_positives_are_5_percent(monkeypatch, seeds):
    monkeypatch.setattr(module, "_agreement", lambda cells: [])  # most of the time, and no p
    generator, result = np.random.default_rng(seeds), []
    for _ in range(2000):
        values = 3 * SEED[..., :1] + generator.standard_normal((3, 4, seeds))
        values += 2 * generator.standard_normal((1, 1, seeds))  # a seed is common to all cells
        result.append([eta_squared(values).p[name] < 0.05 for name in EFFECTS])
    for share in np.mean(result, 0):
        assert 0.035 <= share <= 0.065


def test_one_seed_is_tested_against_nothing():
    result = eta_squared(np.arange(6.0).reshape(2, 3, 1))
    assert set(result.p.values()) == {None}
    assert sum(result.shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 1, 4)])
def test_one_arm_or_condition_is_no_layout(shape):
    assert eta_squared(np.random.default_rng(0).standard_normal(shape)) is None
    assert eta_squared(np.zeros((2, 2, 2))) is None


def test_scores_without_chance_are_tested_against_nothing():
    """Rounding in the residual would give a p of 0."""
    result = eta_squared(0.1 * (ARM + CONDITION + SEED))
    assert set(result.p.values()) == {None}


def test_scores_that_are_no_numbers_are_refused():
    values = np.zeros((2, 2, 3))
    values[0, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"scores: nan at \[0, 1, 2\]"):
        eta_squared(values)
