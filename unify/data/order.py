"""An endless order of n things without state: every epoch a pseudo-random permutation.

Position p is in epoch p // n and goes through a permutation of [0, n) keyed by (seed, epoch): a
Feistel network over the next power of four, (L, R) -> (R, L xor F(R)), walked along its cycles
until it falls below n (Black and Rogaway, CT-RSA 2002). So any place of the order costs the same
to compute, and nothing is shuffled in memory.
"""

import numpy as np

from unify.noise import stable_seed

ROUNDS = 8


def permuted(position: np.ndarray | int, n: int, seed: int) -> np.ndarray:
    """Positions (any shape, from 0 without end) -> indices in [0, n): each epoch a permutation."""
    position = np.asarray(position, dtype=np.int64)
    epoch, index = np.divmod(position, n)
    out = np.empty_like(index)
    for number in np.unique(epoch):
        same = epoch == number
        out[same] = _permute(index[same], n, stable_seed("order", seed, int(number)))
    return out


def _permute(index: np.ndarray, n: int, key: int) -> np.ndarray:
    """A permutation of [0, n), keyed; `index` [K] in [0, n)."""
    if n == 1:
        return index
    half = max(3, (int(n - 1).bit_length() + 1) // 2)  # at least 64 places, so that few mix too
    keys = [np.uint64(stable_seed(key, r)) for r in range(ROUNDS)]
    value = _feistel(index.astype(np.uint64), half, keys)
    while (outside := value >= n).any():
        value[outside] = _feistel(value[outside], half, keys)
    return value.astype(np.int64)


def _feistel(value: np.ndarray, half: int, keys: list[np.uint64]) -> np.ndarray:
    """A bijection of 2 * half bits."""
    low = np.uint64((1 << half) - 1)
    left, right = value >> np.uint64(half), value & low
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & low)
    return (left << np.uint64(half)) | right


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (wraps modulo 2^64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
