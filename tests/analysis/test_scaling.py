"""Sizes at budgets: known laws recovered, intervals that cover, the report of such a study."""

import json
import math
import re

import numpy as np
import pytest
import yaml
from places import EXPERIMENTS

from unify.analysis.scaling_laws import crossing, fit_polynomial, logit, optimum
from unify.answers.scaling import final_loss, growth, series
from unify.answers.study_records import load_study as load_report
from unify.config import ConfigError, load_study
from unify.report.figures import figures
from unify.report.page import render
from unify.study.arms import resolve_arms
from unify.study.jobs import StudyRequest
from unify.study.plan import plan

BUDGETS = (1e15, 4e15, 1.6e16, 6.4e16)


def loss(size, budget, a=400.0, b=4000.0, alpha=0.34, beta=0.37):
    """Chinchilla's law, tokens from C = 6 N D."""
    return 1.7 + a / size**alpha + b / (budget / (6 * size)) ** beta


def sizes_around(budget, factors=(0.25, 0.5, 1, 2, 4)):
    alpha, beta, ratio = 0.34, 0.37, 0.34 * 400.0 / (0.37 * 4000.0)
    best = ratio ** (1 / (alpha + beta)) * (budget / 6) ** (beta / (alpha + beta))
    return best, [best * f for f in factors]


def test_the_best_size_of_a_known_law():
    for budget in BUDGETS:
        best, sizes = sizes_around(budget)
        found = optimum(sizes, [loss(size, budget) for size in sizes])
        assert found.where == "inside"
        assert found.size == pytest.approx(best, rel=0.05), "a parabola in log size is near"
        assert found.loss == pytest.approx(loss(best, budget), rel=0.002)


def test_its_exponent():
    logs = [(math.log(c), sizes_around(c)) for c in BUDGETS]
    found = [optimum(s, [loss(n, math.exp(c)) for n in s]).size for c, (_, s) in logs]
    line = fit_polynomial([c for c, _ in logs], np.log(found).tolist(), 1)
    assert line.coefficients[1] == pytest.approx(0.37 / (0.34 + 0.37), rel=0.01)


def test_edges_and_too_few_sizes_are_said():
    assert optimum([1e6, 2e6, 4e6], [3.0, 2.5, 2.2]).where == "edge"
    assert optimum([1e6, 2e6, 4e6], [3.0, 2.5, 2.2]).size == 4e6
    assert optimum([1e6, 2e6, 4e6], [2.0, 2.5, 2.2]).where == "none"
    assert optimum([1e6, 2e6], [2.0, 2.5]) is None
    exact = optimum([1e6, 2e6, 4e6], [3.0, 2.0, 3.0])
    assert exact.interval is None, "three points leave nothing to tell the error from"
    assert exact.size == pytest.approx(2e6)


def test_least_squares_are_those_of_numpy_and_its_draws_of_student():
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 3, 12)
    y = 2 - x + 0.5 * x**2 + generator.normal(0, 0.1, 12)
    found = fit_polynomial(x.tolist(), y.tolist(), 2)
    assert found.coefficients == pytest.approx(np.polynomial.polynomial.polyfit(x, y, 2))
    from scipy import stats

    line = fit_polynomial(x.tolist(), y.tolist(), 1)
    slope = stats.linregress(x, y)
    half = slope.stderr * stats.t.isf(0.025, 10)
    low, high = line.interval(1)
    assert low == pytest.approx(slope.slope - half, abs=0.03 * half)
    assert high == pytest.approx(slope.slope + half, abs=0.03 * half)


def test_interval_of_the_best_size_covers():
    generator, hits, trials = np.random.default_rng(1), 0, 400
    budget = BUDGETS[0]
    sizes = sorted(sizes_around(budget)[1] * 3)  # three seeds
    truth = optimum(sizes, [loss(size, budget) for size in sizes]).size
    for _ in range(trials):
        losses = [loss(size, budget) + generator.normal(0, 0.01) for size in sizes]
        low, high = optimum(sizes, losses).interval
        hits += low <= truth <= high
    assert 0.92 <= hits / trials <= 0.98


def test_interval_of_a_crossing_covers():
    generator, hits, trials = np.random.default_rng(2), 0, 400
    xs = np.log(np.repeat([1e12, 3e12, 9e12], 3))
    middle = math.log(4e12)
    for _ in range(trials):
        first = 1.5 * (xs - middle) + generator.normal(0, 0.2, len(xs))
        second = 0.5 * (xs - middle) + generator.normal(0, 0.2, len(xs))
        one, other = (fit_polynomial(xs.tolist(), y.tolist(), 1) for y in (first, second))
        low, high = crossing(one, other, [1e12, 9e12]).interval
        hits += low <= 4e12 <= high
    assert 0.92 <= hits / trials <= 0.985


def test_a_crossing_is_inside_beyond_or_none():
    budgets, xs = [1e12, 1e13], np.log([1e12, 3e12, 1e13])
    steep, flat = (
        fit_polynomial(xs.tolist(), (s * (xs - math.log(5e12))).tolist(), 1) for s in (2, 1)
    )
    found = crossing(steep, flat, budgets)
    assert found.budget == pytest.approx(5e12)
    assert not found.extrapolated
    late = fit_polynomial(xs.tolist(), (2 * (xs - math.log(1e14))).tolist(), 1)
    low = fit_polynomial(xs.tolist(), (0 * xs).tolist(), 1)
    assert crossing(late, low, budgets).extrapolated
    above = fit_polynomial(xs.tolist(), (2 * xs + 1).tolist(), 1)
    below = fit_polynomial(xs.tolist(), (2 * xs).tolist(), 1)
    assert crossing(above, below, budgets).budget is None, "parallel"


def test_parallel_lines_have_no_bounded_crossing():
    generator = np.random.default_rng(3)
    xs = np.log(np.repeat([1e12, 3e12, 9e12], 3))
    one, other = (
        fit_polynomial(xs.tolist(), (level + xs + generator.normal(0, 0.3, 9)).tolist(), 1)
        for level in (0.0, 0.2)
    )
    assert crossing(one, other, [1e12, 9e12]).interval == (0.0, math.inf)


def test_lines_that_may_be_parallel_mostly_have_no_bounded_crossing():
    generator, xs = np.random.default_rng(4), np.log(np.repeat([1e12, 3e12, 9e12], 3))
    unbounded = 0
    for _ in range(200):
        one, other = (
            fit_polynomial(xs.tolist(), (level + xs + generator.normal(0, 0.3, 9)).tolist(), 1)
            for level in (0.0, 0.2)
        )
        unbounded += crossing(one, other, [1e12, 9e12]).interval == (0.0, math.inf)
    assert 0.9 <= unbounded / 200 <= 0.99, "95% of the intervals of the slopes hold their equality"


def test_a_parabola_that_may_be_straight_does_not_bound_the_best_size():
    losses = [2.42, 0.44, 0.18, -0.09, 1.93, 0.80, 0.67, 0.53]
    found = optimum([1e5, 2e5, 4e5, 8e5] * 2, losses)
    assert found.interval in (None, (0.0, math.inf))


def test_log_odds_are_finite_at_the_ends():
    assert logit(0.0, 10) == -logit(1.0, 10)
    assert math.isfinite(logit(1.0, 10))
    assert logit(0.5, 10) == 0


@pytest.fixture
def study(tmp_path):
    arms = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("ar_vq", "transfusion")}
    grid = {"model.trunk.dim": [32, 64, 96], "budget.flops": [1e12, 4e12]}
    path = tmp_path / "study.yaml"
    said = {"name": "s", "arms": arms, "grid": grid, "primary": ["text_to_image/exact"]}
    path.write_text(
        yaml.safe_dump({**said, "budget": {"flops": 1.0, "charge": ["encoding"]}}, sort_keys=False)
    )
    return str(path)


def test_a_budget_in_a_grid_is_that_of_its_arms(study):
    parsed, arms = load_study(study)
    assert len(arms) == 12
    assert parsed.budget_of("ar_vq,dim=32,flops=4e+12").flops == 4e12
    planned = plan(StudyRequest(study))
    for arm, cost in planned.costs.items():
        wanted = parsed.budget_of(arm)
        spent = cost.total("flops", wanted)
        assert spent == pytest.approx(wanted.flops, rel=0.01), arm
    assert resolve_arms(StudyRequest(study))[1].keys() == arms.keys()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"grid": {"budget.flop": [1e12]}}, r"grid\.budget\.flop: a budget is of steps, samples"),
        ({"budgets": {"ar_v": {"steps": 5}}}, r"budgets\.ar_v: no arm 'ar_v'.*'ar_vq'"),
    ],
)
def test_what_is_no_budget_of_an_arm_is_named(tmp_path, more, message):
    path = tmp_path / "study.yaml"
    path.write_text(
        yaml.safe_dump({"name": "s", "arms": {"ar_vq": str(EXPERIMENTS / "ar_vq.yaml")}, **more})
    )
    with pytest.raises(ConfigError, match=message):
        load_study(path)


def test_a_budget_of_ones_own(tmp_path):
    files = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("ar_vq", "transfusion")}
    said = {"name": "s", "arms": files, "budgets": {"ar_vq": {"steps": 5}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(said))
    arms = resolve_arms(StudyRequest(str(tmp_path / "study.yaml"), ["steps=9"]))[1]
    assert [arms[name]["steps"] for name in files] == [5, 9]


def written(folder, seeds=(0, 1)):
    """A study of two arms, three sizes and two budgets, of invented numbers with known bests."""
    arms, budgets, rows = {}, {}, []
    generator = np.random.default_rng(0)
    for base, rise in (("slow", 0.5), ("fast", 1.5)):
        for budget in (1e15, 4e15, 1.6e16):
            _, sizes = sizes_around(budget, (0.4, 1, 2.5))
            for size in sizes:
                name = f"{base},dim={size:.0f},flops={budget}"
                arms[name] = {"paradigm": base, "file": "f", "doc": ""}
                budgets[name] = {"steps": 0, "samples": 0, "tokens": 0, "flops": budget}
                for seed in seeds:
                    run = folder / f"{name}-s{seed}-abc"
                    run.mkdir(parents=True)
                    info = {"arm": name, "seed": seed, "state": "finished", "steps": 20}
                    info["parameters"] = {"trainable": round(size)}
                    (run / "run.json").write_text(json.dumps(info))
                    final = loss(size, budget) + generator.normal(0, 1e-3)
                    records = [
                        {"kind": "train", "step": n, "loss": 99.0 if n < 18 else final}
                        for n in range(20)
                    ]
                    (run / "journal.jsonl").write_text("\n".join(map(json.dumps, records)))
                    odds = rise * math.log(budget / 4e15) + generator.normal(0, 0.05)
                    row = {"arm": name, "paradigm": base, "seed": seed, "n": 10_000}
                    value = round(10_000 / (1 + math.exp(-odds))) / 10_000
                    more = {"metric": "text_to_image/exact", "value": value}
                    rows.append({**row, **more, "low": None, "high": None, "passport": {}})
    said = {"name": "scale", "arms": arms, "seeds": list(seeds), "grid": True, "budgets": budgets}
    (folder / "study.json").write_text(json.dumps({**said, "primary": ["text_to_image/exact"]}))
    (folder / "results.json").write_text(json.dumps(rows))
    return load_report(folder)


def test_the_report_finds_what_was_put_in(tmp_path):
    study = written(tmp_path / "scale")
    known = series(study)
    assert set(known) == {"slow", "fast"}
    assert final_loss(study.runs[0]) < 99.0
    for one in known.values():
        assert {best.where for best in one.optima.values()} == {"inside"}
        assert growth(one).coefficients[1] == pytest.approx(0.521, abs=0.03)
        assert one.nearest(1e15).size == pytest.approx(sizes_around(1e15)[0], rel=0.01)
    assert {"scaling-loss", "scaling-text_to_image-exact"} <= set(figures(study))
    page = render(study)
    found = re.search(r"slow and fast cross at ([\d.]+ \w) \[([\d.]+ \w), ([\d.]+ \w)\]\.", page)
    assert found is not None
    middle, low, high = (float(text.removesuffix(" T")) / 1000 for text in found.groups())
    assert low < 4 < high
    assert middle == pytest.approx(4, rel=0.05)
    start = page.partition("<nav")[0]
    assert "18 arms (slow and fast at 9 points of a grid), 2 seeds each" in start
    assert "slow: its best size grows as the budget to the power of 0.5" in start
    assert "of 9 pairs of arms that are compared can be told apart" in start
    assert "text_to_image/exact: slow and fast cross at" in start
    assert len(study.pairs) == 9, "at the same budget and size alone"
    assert page.count("not both logged what they read") == 9 + 1, "each pair, and all in a sentence"


def test_one_budget_is_no_scaling(tmp_path):
    study = written(tmp_path / "scale")
    study.info["budgets"] = {a: {**b, "flops": 1e15} for a, b in study.info["budgets"].items()}
    assert series(study) == {}
    assert "Sizes and budgets" not in render(study)
