"""What may still be wrong with a value of the right form: its range, its length, its being a name.

The limits are in the metadata of the annotation: `Annotated[float, Gt(0)]` (support/ranges.py).
"""

from typing import Any

from unify.config.annotations import metadata, shape
from unify.support.file_names import FileName, wrong_name
from unify.support.ranges import MOST_WHOLE, in_words, limits, outside, wrong_list


def wrong_value(value: Any, hint: Any) -> str:
    """What is wrong with a plain value or a list, with the remedy; or nothing."""
    given = metadata(hint)
    if isinstance(value, list):
        return wrong_list(value, given)
    if isinstance(value, str):
        return wrong_name(value) if any(isinstance(m, FileName) for m in given) else ""
    return wrong_number(value, hint) if type(value) in (int, float) else ""


def wrong_number(value: float, hint: Any = Any) -> str:
    """What is wrong with a number, with the remedy; or nothing.

    Where nothing is annotated it must be finite, and a whole one fit into 64 bits.
    """
    of, kind = limits(metadata(hint)), shape(hint)[0]
    if outside(value, of):
        if not in_words(of):
            return f"{value!r} is no finite number; write one"
        return f"{value!r} is out of range; write {in_words(of)}"
    if kind is int and abs(value) > MOST_WHOLE:
        return f"{value!r} is out of range; write a whole number of at most 64 bits"
    return ""
