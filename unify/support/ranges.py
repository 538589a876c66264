"""Ranges of the numbers that YAML can set, in the words of annotated-types.

    lr: Positive                                    0 < lr
    betas: tuple[ShareBelow1, ShareBelow1]
    top: Annotated[float, Interval(gt=0, le=1)]

The range is a part of the annotation, so it stands beside the default. `unify.config` reads it
and refuses what lies outside; a constructor that Python calls need not look again. NaN lies outside
every range, and an infinity outside every one that does not end with it (`Le(math.inf)`).
"""

import math
import operator
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MaxLen, MinLen, MultipleOf

MOST_WHOLE = 2**63 - 1  # in torch, numpy and file formats
MOST = 3.4e38  # in fp32, which all is computed in; what lies beyond is an infinity there

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
AnyWhole = Annotated[int, Interval(ge=-MOST_WHOLE, le=MOST_WHOLE)]
Seed = Annotated[int, Interval(ge=0, le=MOST_WHOLE)]
Finite = Annotated[float, Interval(ge=-MOST, le=MOST)]
Positive = Annotated[float, Interval(gt=0, le=MOST)]
NotNegative = Annotated[float, Interval(ge=0, le=MOST)]
Share = Annotated[float, Interval(ge=0, le=1)]
ShareBelow1 = Annotated[float, Interval(ge=0, lt=1)]
ShareAbove0 = Annotated[float, Interval(gt=0, le=1)]

Limit = Gt | Ge | Lt | Le | MultipleOf
LIMITS: dict[type, tuple[Callable[[Any, Any], bool], str]] = {  # holds(value, end), in words
    Gt: (operator.gt, "above {}"),
    Ge: (operator.ge, "{} or more"),
    Lt: (operator.lt, "below {}"),
    Le: (operator.le, "at most {}"),
    MultipleOf: (lambda value, step: value % step == 0, "a multiple of {}"),
}


@dataclass(frozen=True)
class Distinct:
    """Of a list: no value stands in it twice."""


@dataclass(frozen=True)
class SumAtMost:
    """Of a list of numbers: their sum, as of probabilities that exclude each other."""

    most: float


def limits(metadata: Iterable[Any]) -> list[Limit]:
    """The limits in the metadata of an annotation, an Interval as its ends; others are left out."""
    each: list[list[Any]] = [list(m) if isinstance(m, Interval) else [m] for m in metadata]
    return [limit for several in each for limit in several if type(limit) in LIMITS]


def end_of(limit: Limit) -> Any:
    """The number that a limit names."""
    return getattr(limit, fields(limit)[0].name)


def outside(value: float, of: Iterable[Limit]) -> bool:
    """True for a number that a limit rules out, or that is not finite.

    An infinity is in the range that has it as its end.
    """
    of = list(of)
    if math.isnan(value) or (math.isinf(value) and value not in map(end_of, of)):
        return True
    return not all(LIMITS[type(limit)][0](value, end_of(limit)) for limit in of)


def in_words(of: Iterable[Limit]) -> str:
    """`0 or more and below 1`; nothing where no end is finite, or near to what is."""
    ends = [(limit, end_of(limit)) for limit in of]
    return " and ".join(LIMITS[type(x)][1].format(end) for x, end in ends if abs(end) < MOST)


def wrong_list(values: list[Any], metadata: Iterable[Any]) -> str:
    """What is wrong with a list's length, or with a value that is in it twice; or nothing."""
    each = [list(m) if isinstance(m, Len) else [m] for m in metadata]
    for limit in (one for several in each for one in several):
        if isinstance(limit, Distinct) and (again := _twice(values)):
            return f"{again[0]!r} is in it twice; keep one"
        if isinstance(limit, SumAtMost) and _sum(values) > limit.most:
            return f"its sum is {_sum(values):g}; write numbers of {limit.most} together at most"
        if isinstance(limit, MinLen) and len(values) < limit.min_length:
            return f"it holds {len(values)}; write {limit.min_length} or more"
        if isinstance(limit, MaxLen) and len(values) > limit.max_length:
            return f"it holds {len(values)}; write {limit.max_length} at most"
    return ""


def _sum(values: list[Any]) -> float:
    return math.fsum(value for value in values if type(value) in (int, float))


def _twice(values: list[Hashable]) -> list[Hashable]:
    return [value for index, value in enumerate(values) if value in values[:index]]
