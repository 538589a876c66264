"""Outcomes of arms whose truth is known, and the table of docs/statistics.md made of them:

    python tests/outcome_simulation.py

The chance that an arm is right is logistic: its level, plus how hard the prompt is, how that
differs between arms, and how well the seed did. R replicates, A arms, S seeds, N prompts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from unify.analysis.paired_differences import crossed_variances, half_width

SEEDS, RATES, PROMPTS = (3, 5, 8), (0.005, 0.02, 0.6, 0.98), (64, 256)
OF_SEED = 0.6  # logit: the standard deviation between seeds where there is one
OF_PROMPT, OF_ARM_AND_PROMPT = 0.7, 0.5
DOMINATES = 10  # M_s over M_e from which seeds are most of what is uncertain
GRID = list(itertools.product(SEEDS, RATES, (0.0, OF_SEED), PROMPTS))


def level_of(rate, of_seed):
    """The level at which an arm's mean over seeds and prompts is `rate`."""
    points, weights = np.polynomial.hermite_e.hermegauss(101)
    spread = np.sqrt(of_seed**2 + OF_PROMPT**2 + OF_ARM_AND_PROMPT**2)
    low, high = -20.0, 20.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        mean = weights @ expit(middle + spread * points) / weights.sum()
        low, high = (middle, high) if mean < rate else (low, middle)
    return low


def outcomes(generator, replicates, rates, seeds, prompts, of_seed):
    """Right and wrong [R A S N] of arms with these rates."""
    levels = np.array([level_of(rate, of_seed) for rate in rates])
    draw = generator.standard_normal
    shape = (replicates, len(rates))
    chance = (
        levels[:, None, None]
        + OF_PROMPT * draw((replicates, 1, 1, prompts))
        + OF_ARM_AND_PROMPT * draw((*shape, 1, prompts))
        + of_seed * draw((*shape, seeds, 1))
    )
    return (generator.random(chance.shape) < expit(chance)).astype(float)


def interval(difference, level=0.95):
    """Mean and half-width [...] of differences [... S N]; a half-width of 0 is no interval."""
    seeds, prompts = difference.shape[-2:]
    parts = crossed_variances(difference)
    half = half_width(1 - level, (parts[0], seeds - 1), (parts[1], prompts - 1))
    refused = np.ptp(difference.mean(-1), axis=-1) == 0  # no spread between seeds
    return difference.mean((-2, -1)), np.where(refused, np.inf, half), refused


@dataclass
class Cell:
    """What a simulation found: shares of intervals that hold the truth, and that leave out 0; mean
    half-width over 1.96 true deviations; M_s / M_e."""

    cover: float
    found: float
    width: float
    ratio: float


def simulate(seeds, rates, of_seed, prompts, replicates=1000, seed=0):
    """A cell of two arms with these rates."""
    generator = np.random.default_rng([seed, seeds, prompts, int(1e4 * rates[0])])
    y = outcomes(generator, replicates, rates, seeds, prompts, of_seed)
    difference = y[:, 0] - y[:, 1]
    mean, half, refused = interval(difference)
    error = mean - (rates[0] - rates[1])
    by_seed = prompts * difference.mean(-1).var(-1, ddof=1).mean()
    centred = difference - difference.mean(-1, keepdims=True) - difference.mean(-2, keepdims=True)
    rest = (centred + mean[:, None, None]).var((-2, -1)).mean() * seeds / (seeds - 1)
    return Cell(
        float(np.mean(np.abs(error) <= half)),
        float(np.mean(np.abs(mean) > half)),
        float(half[~refused].mean() / (1.96 * error.std())),
        float(by_seed / rest),
    )


def false_family(seeds, rate, of_seed, prompts, tables=200, arms=5, outcomes_each=2, seed=0):
    """Share of tables of equal arms in which any pair on any outcome is told apart."""
    generator = np.random.default_rng([seed, seeds, prompts, int(1e4 * rate)])
    pairs = list(itertools.combinations(range(arms), 2))
    level = 1 - 0.05 / (len(pairs) * outcomes_each)  # where all are equal, Holm's first step is all
    told = np.zeros(tables, bool)
    for _ in range(outcomes_each):
        y = outcomes(generator, tables, [rate] * arms, seeds, prompts, of_seed)
        for a, b in pairs:
            mean, half, _ = interval(y[:, a] - y[:, b], level)
            told |= np.abs(mean) > half
    return float(told.mean())


def table(replicates=2000, tables=400):
    """The table as Markdown."""
    print("| seeds | rate | seeds differ by | prompts | coverage | half-width | false family |")
    print("|---|---|---|---|---|---|---|")
    for seeds, rate, of_seed, prompts in GRID:
        cell = simulate(seeds, (rate, rate), of_seed, prompts, replicates)
        family = false_family(seeds, rate, of_seed, prompts, tables)
        row = f"{cell.cover:.3f} | {cell.width:.2f} | {family:.3f}"
        print(f"| {seeds} | {rate} | {of_seed} | {prompts} | {row} |", flush=True)
    print("\n| rates | seeds differ by | 3 seeds | 5 seeds | 8 seeds |\n|---|---|---|---|---|")
    for rates in ((0.6, 0.5), (0.95, 0.85), (0.98, 0.95), (0.03, 0.005), (0.02, 0.005)):
        for of_seed in (0.0, 0.3, OF_SEED, 1.0):
            cells = [simulate(s, rates, of_seed, 256, replicates) for s in SEEDS]
            found = [f"{cell.found:.2f} ({cell.cover:.3f})" for cell in cells]
            print(f"| {rates[0]} and {rates[1]} | {of_seed} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    table()
