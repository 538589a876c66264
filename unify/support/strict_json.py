"""JSON that every parser reads: what is not a finite number is null.

Python writes NaN and Infinity, which JSON has no words for (RFC 8259, section 6); other parsers
then refuse the whole file.
"""

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any


def strict_json(content: Any, indent: int | None = 1) -> str:
    """The content as JSON; NaN and infinities are null, what JSON has no form for is a string."""
    return json.dumps(_finite(content), indent=indent, default=str, allow_nan=False)


def read_strict_json(text: str) -> Any:
    """JSON as `strict_json` writes it; NaN and Infinity in an older file are None."""
    return json.loads(text, parse_constant=lambda _: None)


def _finite(content: Any) -> Any:
    """The content with None for every number that is not finite; numpy's numbers as Python's."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, Integral) and not isinstance(content, bool):
        return int(content)
    if isinstance(content, Real) and not isinstance(content, bool):
        return float(content) if math.isfinite(content) else None
    return content
