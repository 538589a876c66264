"""Numbers that are finite, or are refused by name."""

import numpy as np


def finite(name: str, values: object) -> np.ndarray:
    """`values` as floats; ValueError with the first place that holds none, or not a finite one."""
    numbers = np.asarray(values, dtype=float)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        place = f" at {list(map(int, bad[0]))}" if numbers.ndim else ""
        raise ValueError(
            f"{name}: {numbers[tuple(bad[0])]}{place} is no finite number; leave out the run that "
            "it is of, or score it again"
        )
    return numbers
