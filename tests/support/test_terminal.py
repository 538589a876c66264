"""What is printed cannot steer the terminal, and there is one place that prints."""

import ast
import json
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_tree import product_files, tree_of

from unify.support import terminal
from unify.support.terminal import clean_output, echo, one_line, printable

ODD = "\x1b[2J\x9b31m\x07\r\x08\x7f\u202e\u2066\u2028\u200f"
ODD += "\u200b\u2061\u206a\ufff9\ufeff\U000e0041\ud800"


@pytest.mark.fault(37)
def test_characters_that_steer_are_written_out():
    text = printable(f"a{ODD}b")
    assert text.isascii()
    assert text.isprintable()
    assert text.startswith("a\\u001b[2J\\u009b31m\\u0007\\r\\b")


def test_letters_of_all_scripts_tab_and_newline_stay():
    text = "größe 模型 \u05e9\u05dc\u05d5\u05dd 👩\u200d🔬\n\tnaïve"
    assert printable(text) == text
    assert one_line("a\n\tb") == "a\\n\\tb"


@given(st.text(st.characters(), max_size=40))
@settings(max_examples=500, deadline=None)
def test_json_stays_json(text):
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text
    assert printable(printable(text)) == printable(text)


@pytest.mark.fault(37)
def test_echo_and_warnings_are_clean(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    clean_output()
    echo(f"out{ODD}")
    echo(f"err{ODD}", err=True)
    sys.excepthook(ValueError, ValueError(ODD), None)
    printed = capsys.readouterr()
    assert not set(printed.out + printed.err) & set(ODD.replace("[2J", "").replace("31m", ""))
    assert "\x1b" not in warnings.formatwarning(ODD, UserWarning, "a.py", 1)


def test_nothing_else_prints():
    """`print` in a string is code for another process."""
    printing = [
        f"{path.name}:{node.lineno}"
        for path in product_files()
        if path.name != "terminal.py"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "typer.echo")
        )
    ]
    assert printing == [], f"print with {terminal.__name__}.echo"
