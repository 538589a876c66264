"""Losses of Chinchilla's law (arXiv:2203.15556) and the sizes that are best under it."""


def loss(size, budget, a=400.0, b=4000.0, alpha=0.34, beta=0.37):
    """Chinchilla's law, tokens from C = 6 N D."""
    return 1.7 + a / size**alpha + b / (budget / (6 * size)) ** beta


def sizes_around(budget, factors=(0.25, 0.5, 1, 2, 4)):
    """The size of least loss at a budget, and its multiples."""
    alpha, beta, ratio = 0.34, 0.37, 0.34 * 400.0 / (0.37 * 4000.0)
    best = ratio ** (1 / (alpha + beta)) * (budget / 6) ** (beta / (alpha + beta))
    return best, [best * f for f in factors]
