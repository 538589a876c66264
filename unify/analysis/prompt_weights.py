"""Variance of a mean over prompts that weigh unlike, as those asked more often than others do.

    m = sum over p of w_p y_p      w_p: a prompt's share of the trials, together 1
    r_p = y_p - m                  Q = sum over p of w_p^2

A heavy prompt pulls the mean to itself, and its residual is small just where it counts. Of prompts
drawn with one variance v, E[r_p^2] = c_p v with c_p = 1 - 2 w_p + Q, so that

    V = sum over p of w_p^2 r_p^2 / c_p      E[V] = Q v, the variance of m

(bias-reduced linearization, CR2: Bell and McCaffrey, Survey Methodology 28, 2002). Its degrees of
freedom are Satterthwaite's under the same model, few where few prompts make most of it (Pustejovsky
and Tipton 2018, doi:10.1080/07350015.2016.1247004):

    df = Q^2 / sum over p, q of g_p g_q C_pq^2      g_p = w_p^2 / c_p
    C_pq = [p = q] - w_p - w_q + Q                  Cov(r_p, r_q) / v

Equal weights have V = s^2 / N and df = N - 1. Where they are unlike, 1 / Q is how many prompts of
equal weight would leave the mean as uncertain.

S seeds, N prompts.
"""

import numpy as np

Share = np.ndarray | None  # [N], together 1; None: all alike


def shares(trials: np.ndarray | None) -> Share:
    """Of the trials [N] of each prompt; None where all have as many."""
    if trials is None or np.ptp(trials) == 0:
        return None
    return np.asarray(trials, float) / np.sum(trials)


def weighted_mean(values: np.ndarray, share: Share) -> np.ndarray:
    """Mean [...] over the prompts of values [... N]."""
    return values.mean(-1) if share is None else values @ share


def square_factors(share: Share, prompts: int) -> np.ndarray:
    """g [N]: what V takes of the square of each residual. Two prompts at least have a share."""
    if share is None:
        return np.full(prompts, 1 / (prompts * (prompts - 1)))
    squares = share**2
    return squares / ((1 - share) ** 2 + (squares.sum() - squares).clip(0))


def degrees_of_freedom(share: Share, prompts: int) -> float:
    """df of V: N - 1 for equal weights, about 1 where one prompt makes most of it."""
    if share is None:
        return prompts - 1
    g, q = square_factors(share, prompts), float((share**2).sum())
    zero, one, two = (float((g * share**k).sum()) for k in range(3))
    # sum of g g (Q - w_p - w_q)^2 over all p and q, and what the 1 of the diagonal adds to it
    every = q**2 * zero**2 + 2 * zero * two + 2 * one**2 - 4 * q * zero * one
    diagonal = float((g**2 * (1 + 2 * (q - 2 * share))).sum())
    return q**2 / (every + diagonal)


def worth(share: Share, prompts: int) -> float:
    """1 / Q: how many prompts of equal weight leave a mean as uncertain."""
    return prompts if share is None else 1 / float((share**2).sum())


def layout_variances(
    outcomes: np.ndarray, share: Share = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances of the mean [...] from [... S N]: that of seeds, that of prompts, and the part that
    chance within a seed and a prompt has in both.

    M_s, M_p and M_e of the two-way layout over S N, where prompts weigh alike.
    """
    seeds, prompts = outcomes.shape[-2:]
    factors = square_factors(share, prompts)
    by_seed, by_prompt = weighted_mean(outcomes, share), outcomes.mean(-2)
    residual = by_prompt - weighted_mean(by_prompt, share)[..., None]  # [... N]
    rest = outcomes - by_seed[..., None] - residual[..., None, :]  # [... S N]
    of_rest = (rest**2 @ factors).sum(-1) / (seeds * (seeds - 1))
    return by_seed.var(-1, ddof=1) / seeds, residual**2 @ factors, of_rest
