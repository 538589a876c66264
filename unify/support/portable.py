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
    return _portable(content, {})


def _portable(content: Any, known: dict[str, str]) -> Any:
    """`portable`; `known`: texts that were looked through already, as most are repeated."""
    if isinstance(content, Mapping):
        return {_portable(key, known): _portable(value, known) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_portable(value, known) for value in content]
    if not isinstance(content, str):
        return content
    if content not in known:
        known[content] = _text(content)
    return known[content]


def _text(text: str) -> str:
    before = None
    while text != before:  # what is left may be a path again
        before = text
        if WHOLE.match(text) and "\n" not in text:  # names of folders may have spaces
            text = re.split(SEPARATOR, text.rstrip("/\\"))[-1]
        text = FOLDERS.sub("", text)
    return redact(text)
