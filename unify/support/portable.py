"""Values as they may leave this machine: without secrets, absolute paths and home folders."""

import re
from collections.abc import Mapping
from typing import Any

from unify.support.environment import redact

SEPARATOR = r"[/\\]"
# the folders before the last name of an absolute path within a text, ~ and C: included
FOLDERS = re.compile(r"(?<![\w./\\~-])(?:~[\w.-]*|[A-Za-z]:)?[/\\](?:[^\s/\\\"'<>|]+[/\\])+")
WHOLE = re.compile(rf"(?:~[\w.-]*|[A-Za-z]:)?{SEPARATOR}(?!{SEPARATOR})")  # begins a path


def portable(content: Any) -> Any:
    """The content with the last name of each absolute path in its place, and `redact`ed."""
    if isinstance(content, Mapping):
        return {portable(key): portable(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [portable(value) for value in content]
    return _text(content) if isinstance(content, str) else content


def _text(text: str) -> str:
    if WHOLE.match(text) and "\n" not in text:  # names of folders may have spaces
        return redact(re.split(SEPARATOR, text.rstrip("/\\"))[-1])
    return redact(FOLDERS.sub("", text))
