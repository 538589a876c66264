"""Names of folders: what is allowed, what is refused, and which two are one."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.support.file_names import MOST_BYTES, same_folder, wrong_name

GOOD = [
    *("transfusion", "a b", "tr wide", "größe", "模型", "émoji_1", "wide,depth=2,lr=0.001", "a.b"),
    *("<img>", "x|y", "=1+cmd", "a'b", "consul", "com10", "a" * MOST_BYTES, "~x", "$x", "ab%c"),
]
BAD = [
    *("", " ", "..", ".", "/abs", "a/b", "../../x", "a\\b", "C:\\x", "a\nb", "a\tb", "a\0b"),
    *("\x1b[2Ja", "a\x9bb", "a\u202eb", "a\u200bb", "\ufeffa", "a\u2028b", "\ud800a", "\ue000"),
    *("-x", "--x", ".hidden", "a.", "a ", " a", "a\u3000", "CON", "nul", "com1", "LPT9.txt", "aux"),
    *("CON .txt", "CONIN$", "x\u3164", "\u2800", "x\ufe0f", "mlflow.db", "MLartifacts"),
    *("a" * (MOST_BYTES + 1), "ä" * (MOST_BYTES // 2 + 1), "𝒳" * (MOST_BYTES // 4 + 1)),
]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_of_one_folder_passes(name, tmp_path):
    assert wrong_name(name) == ""
    (tmp_path / f"{name}-s9223372036854775807-0123456789").mkdir()


@pytest.mark.fault(37)
@pytest.mark.parametrize("name", BAD)
def test_a_name_that_is_none_is_refused(name):
    message = wrong_name(name)
    assert "it names a folder: write letters" in message
    assert message.isprintable()
    assert message.isascii()


@given(st.text(st.characters(), max_size=60))
@settings(max_examples=500, deadline=None)
def test_what_passes_is_one_component_and_prints_as_it_is(name):
    if not wrong_name(name):
        assert name.isprintable() or unicodedata.category(max(name, key=str.isspace)) == "Zs"
        assert "/" not in name
        assert name not in (".", "..")
        assert len(name.encode()) <= MOST_BYTES


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["a", "b"], None),
        (["Wide", "b", "wide"], ("Wide", "wide")),
        (["\u00e9", "e\u0301"], ("\u00e9", "e\u0301")),
        (["stra\u00dfe", "STRASSE"], ("stra\u00dfe", "STRASSE")),
        (["a", "a"], ("a", "a")),
    ],
)
def test_names_that_are_one_folder_somewhere(names, pair):
    assert same_folder(names) == pair
