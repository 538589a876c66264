"""Numbers and lists in words."""

import math
from collections.abc import Sequence

TOLERANCE = 0.01  # quantities that differ by less are matched


def number(value: float | None) -> str:
    """Four significant figures or so; a proportion gets three decimals."""
    if value is None or not math.isfinite(value):
        return "undefined"
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.2e}"
    decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:,.{decimals}f}"


def signed(value: float) -> str:
    """A number with its sign, a true minus; 0 has a plus."""
    size = abs(value)
    return f"{'−' if value < 0 else '+'}{number(size) if size >= 0.001 else f'{size:.3f}'}"


def p_value(p: float) -> str:
    """`0.032`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else number(p)


def unbroken(text: str) -> str:
    """The text with spaces at which no line breaks, except around the dash of a range."""
    return " – ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in text.split(" – "))


def sentence(items: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return ", ".join(items[:-1]) + f" {last} {items[-1]}" if len(items) > 1 else "".join(items)


def plural(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 0 to 7`, `seeds 0, 2 and 5`."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {sentence([str(seed) for seed in seeds])}"


def si(value: float) -> str:
    """`1.32 M`, `4.5 G`: three significant figures and a unit."""
    text = short(float(f"{value:.3g}"))
    return f"{text[:-1]} {text[-1]}" if text[-1].isalpha() else text


def duration(seconds: float) -> str:
    """`12.5 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def short(value: float) -> str:
    """Label of an axis: `12k`, `1.5M`, `0.05`."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return "0" if value == 0 else f"{value:.3g}"
