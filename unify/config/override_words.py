"""`key.sub=value` words of the command line: each is one key and one value, whole."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

_TWO_WORDS = re.compile(r"\s(-*[\w.]+=)")


def key_of(word: str) -> str:
    """What stands before the first `=`."""
    return word.removeprefix("--").partition("=")[0]


def given_twice(words: Iterable[str]) -> list[str]:
    """The keys that more than one word gives."""
    keys = [key_of(word) for word in words]
    return sorted({key for key in keys if keys.count(key) > 1})


def last_of_each(words: Sequence[str]) -> list[str]:
    """The words without those whose key a later one gives, too."""
    return [w for i, w in enumerate(words) if key_of(w) not in map(key_of, words[i + 1 :])]


def not_one_value(text: str) -> str:
    """Why YAML would not take a text as one value, whole, with the remedy; or nothing.

    Of a text that YAML cannot read, nothing: its reader says what is wrong.
    """
    if text != text.strip():
        return "white space around a value is lost; leave it out, or put the value into quotes"
    try:
        node: Any = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return ""
    if node is None:
        return f"{text!a} is no value to YAML; put it into quotes" if text else ""
    scalar = isinstance(node, yaml.ScalarNode)
    plain = scalar and node.style is None
    if plain and (two := _TWO_WORDS.search(text)):
        return f"{two[1]!a} begins a second word; write them apart, or put the value into quotes"
    whole = node.start_mark.index == 0 and node.end_mark.index == len(text)
    if plain and whole and node.value == text:
        return ""
    if whole and (node.style in ("'", '"') if scalar else node.flow_style):
        return ""
    if not scalar and not node.flow_style:
        return f"YAML reads {text!a} as several values; write [..] or {{..}}, or put it into quotes"
    return f"YAML reads a part of {text!a} alone; put the value into quotes"
