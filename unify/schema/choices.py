"""What a space to choose settings from may say (`tune.space`, `sweep.space`)."""

from typing import Any


def check_space(key: str, space: dict[str, Any]) -> None:
    """ValueError for a setting of a space without choices."""
    for name, choices in space.items():
        if not _is_space(choices):
            raise ValueError(
                f"{key}.space.{name} is {choices}: give a list to choose from, {{low, high}} "
                "with low < high (and 0 < low with `log: true`), or {factor} above 1"
            )


def _is_space(choices: Any) -> bool:
    if not isinstance(choices, dict):
        return isinstance(choices, list) and bool(choices)
    if not all(isinstance(value, (int, float)) for value in choices.values()):
        return False
    if set(choices) == {"factor"}:
        return choices["factor"] > 1
    if not {"low", "high"} <= set(choices) <= {"low", "high", "log"}:
        return False
    low, high = choices["low"], choices["high"]
    return low < high and (low > 0 or not choices.get("log"))
