"""Titles on the page: long ones are short, and whole where a reader points."""

import pytest

from unify.report.titles import MOST_LETTERS, SHOWN_LETTERS, limited, titled


@pytest.mark.parametrize("letters", [0, 1, SHOWN_LETTERS, SHOWN_LETTERS + 20])
def test_a_title_of_usual_length_stays_as_it_is(letters):
    assert titled("figcaption", "x" * letters) == f"<figcaption>{'x' * letters}</figcaption>"


def test_a_long_one_is_cut_and_whole_where_a_reader_points():
    text = "line\n" * 60
    shown = titled("li", text)
    assert len(shown) < SHOWN_LETTERS + len(text) + 60
    assert f'title="{text.rstrip()}"' in shown
    assert "more letters)</li>" in shown


def test_a_whole_file_is_limited_and_what_is_left_out_is_counted():
    assert limited("word " * 1000) == ("word " * 1000)[:MOST_LETTERS] + "… (4,599 more letters)"
    assert limited("a\n\tb") == "a b"
