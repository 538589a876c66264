"""A word of the command line is one key and one value, whole."""

import pytest
from config_parts import message
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.config import load_recipe
from unify.config.override_words import given_twice, last_of_each, not_one_value
from unify.config.yaml_tree import COMMAND_LINE, parse

WHOLE = {
    **{"study=a=b": "a=b", "study=a b": "a b", "study='a c=2'": "a c=2", 'study="a: b"': "a: b"},
    **{"study='1'": "1", "study=größe": "größe", "study=a,lr=2": "a,lr=2", "study=a;b": "a;b"},
}


@pytest.mark.parametrize("word", WHOLE)
def test_a_value_arrives_whole(folder, word):
    assert load_recipe(folder / "good.yaml", [word])["study"] == WHOLE[word]


CUT = {
    "study=a optimizer.lr=2": "'optimizer.lr=' begins a second word",
    "steps=5 optimizer.lr=2": "'optimizer.lr=' begins a second word",
    "study=a\nsteps=2": "begins a second word",
    "study=a #1": "YAML reads a part of",
    "study=#1": "is no value to YAML",
    "study=a: b": "as several values",
    "model.free=- a": "as several values",
    "study= a": "white space around a value is lost",
    "study=a ": "white space around a value is lost",
    "study=--- a": "a part of",
    "study=&x a": "a part of",
    "study=|\n  a": "a part of",
    "study=a\nb": "a part of",
    "study=${study}": "cannot be resolved",
    "study=${name": "nothing else is run",
    "study=\\${name}": "nothing else is run",
    "study=*x": "aliases are not supported",
    "steps=[1] 2": "not readable as YAML",
    "study='a' 'b'": "not readable as YAML",
    "loss_weights={}": "{} takes nothing of a mapping away",
    "study=a\x1bb": "not readable as YAML",
    "study=..": "it names a folder",
    "name=a/b": "it names a folder",
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("word", CUT)
def test_a_value_that_would_be_cut_split_or_turned_into_another_is_refused(folder, word):
    printed = message(folder / "good.yaml", (word,))
    assert printed.startswith(f"command line: {word.partition('=')[0]}: ")
    assert CUT[word] in printed


@given(st.text(st.characters(codec="utf-8"), max_size=30))
@settings(max_examples=200, deadline=None)
def test_what_passes_as_plain_text_is_read_as_it_is(text):
    problems = []
    try:
        node = parse(text, COMMAND_LINE, problems) if text else None
    except ValueError:
        return
    if node is not None and not problems and not not_one_value(text):
        plain = isinstance(node.value, str) and text[0] not in "'\"" and not text.startswith("!")
        assert not plain or node.value == text


def test_keys_that_are_given_twice():
    words = ["a.b=1", "c=2", "--a.b=3", "d=c=4"]
    assert given_twice(words) == ["a.b"]
    assert last_of_each(words) == ["c=2", "--a.b=3", "d=c=4"]
