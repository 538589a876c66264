"""JSON that every parser reads: what is not a finite number is null.

Python writes NaN and Infinity, which JSON has no words for (RFC 8259, section 6); other parsers
then refuse the whole file.
"""

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

Types = Mapping[str, type | tuple[type, ...]]  # of the values of a mapping, by key
NUMBER = (int, float)


def strict_json(content: Any, indent: int | None = 1) -> str:
    """The content as JSON; NaN and infinities are null, what JSON has no form for is a string."""
    return json.dumps(_finite(content), indent=indent, default=str, allow_nan=False)


def read_strict_json(text: str) -> Any:
    """JSON as `strict_json` writes it; NaN and Infinity in an older file are None."""
    return json.loads(text, parse_constant=lambda _: None)


def read_json_file(path: Path, remedy: str) -> Any:
    """The content of a JSON file. ValueError names a file that is empty, cut or no JSON."""
    try:
        return read_strict_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = str(error) if path.stat().st_size else "it is empty"
        raise ValueError(damaged(path, reason, remedy)) from error


def read_mapping(path: Path, remedy: str, types: Types) -> dict[str, Any]:
    """A JSON file that holds a mapping; ValueError names it, or a key with a value of no such type.

    Keys may be missing, and values null.
    """
    content = read_json_file(path, remedy)
    if wrong := wrong_type(content, types):
        raise ValueError(damaged(path, wrong, remedy))
    return content


def damaged(path: Path, reason: str, remedy: str) -> str:
    """The message for a file that cannot be what was written."""
    return f"{path} is damaged ({reason}); {remedy}"


def wrong_type(content: Any, types: Types) -> str:
    """What is wrong with a mapping; an empty text if nothing is."""
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__} where names and values should be"
    for key, kinds in types.items():
        value = content.get(key)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            return f"{key} is {value!r:.60}"
    return ""


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
