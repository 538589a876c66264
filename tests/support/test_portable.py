"""What leaves the machine: without absolute paths, home folders and secrets, and else unchanged."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.support.portable import portable


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/me/my data/mine", "mine"),
        ("/home/me/my.py:Cls", "my.py:Cls"),
        ("~me/x/", "x"),
        (r"C:\Users\me\data", "data"),
        ("/data", "data"),
        ("path=/home/me/data, and more", "path=data, and more"),
        ("/home/me/design.md at 0123abc", "design.md at 0123abc"),
        ("https://me:word@host/a", "https://***@host/a"),
    ],
)
def test_a_path_leaves_its_last_name(text, left):
    assert portable({"key": [text]}) == {"key": [left]}


@pytest.mark.parametrize(
    "text",
    [
        "experiments/ar_vq.yaml",
        "../ar_vq.yaml",
        "text_to_image/exact",
        "a/b and c",
        "1/2",
        "",
        "a\nb",
    ],
)
def test_what_is_no_absolute_path_stays(text):
    assert portable(text) == text


@settings(deadline=None, max_examples=200)
@given(st.text("ab/ \\~:=.", max_size=12))
def test_what_has_left_once_leaves_unchanged(text):
    once = portable(text)
    assert portable(once) == once
