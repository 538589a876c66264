"""Verdicts on samples: every bad caption or metadata has one reason, odd ones are kept."""

import pytest
from tar_shards import picture

from unify.data.adapters.verdicts import MAX_TEXT, Bad, clean_text, judge

CAPTIONS = {
    "missing": (None, "missing_caption"),
    "empty": (b"", "empty_caption"),
    "blank": (b" \n\t ", "empty_caption"),
    "only zero-width": ("\u200b\u200d".encode(), "empty_caption"),
    "latin-1": ("caf\xe9".encode("latin-1"), "non_utf8_caption"),
    "utf-16": ("cat".encode("utf-16"), "non_utf8_caption"),
    "surrogate": (b"\xed\xa0\xbd", "non_utf8_caption"),
    "cut in a character": ("é".encode()[:1], "non_utf8_caption"),
    "nul": (b"a\0b", "control_caption"),
    "a megabyte": (b"x" * 1_000_000, "long_caption"),
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", CAPTIONS)
def test_a_bad_caption_is_left_out_under_its_reason(name):
    data, reason = CAPTIONS[name]
    with pytest.raises(Bad) as caught:
        judge({"image": picture()} | ({} if data is None else {"txt": data}))
    assert caught.value.reason == reason


GOOD_CAPTIONS = {
    "emoji": "a 🐻‍❄️ and a 🏳️‍🌈",
    "right to left": "قطة على سجادة",
    "markup": "<script>alert(1)</script>",
    "a list": '["not", "parsed"]',
    "a number": "42",
    "as long as may be": "x" * MAX_TEXT,
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", GOOD_CAPTIONS)
def test_an_odd_caption_is_kept_as_it_is(name):
    text = GOOD_CAPTIONS[name]
    assert judge({"image": picture(), "txt": text.encode()})["text"] == text


@pytest.mark.fault(19)
def test_captions_are_normalised():
    assert clean_text("\ufeff cafe\u0301 \r\n".encode()) == "café"


METADATA = {
    "not json": (b"{", "bad_json"),
    "a list": (b"[1]", "bad_json"),
    "deep": (b"[" * 60_000, "bad_json"),
    "not utf-8": (b'{"a": "\xff"}', "bad_json"),
    "a megabyte": (b'"' + b"x" * 1_000_000 + b'"', "long_json"),
    "caption of a number": (b'{"caption": 3}', "bad_caption"),
    "caption of nothing": (b'{"caption": null}', "missing_caption"),
    "caption is a lone surrogate": (b'{"caption": "\\ud83d"}', "non_utf8_caption"),
    "question without answer": (b'{"question": "how many?"}', "bad_turns"),
    "empty answer": (b'{"question": "how many?", "answer": " "}', "empty_answer"),
    "turns of another shape": (b'{"turns": {"question": "a", "answer": "b"}}', "bad_turns"),
    "a turn that is a text": (b'{"turns": ["a"]}', "bad_turns"),
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", METADATA)
def test_bad_metadata_is_left_out_under_its_reason(name):
    data, reason = METADATA[name]
    with pytest.raises(Bad) as caught:
        judge({"image": picture(), "json": data})
    assert caught.value.reason == reason


def test_no_question_is_dropped_without_a_word():
    turns = '"turns": [{"question": "c?", "answer": "d"}]'
    data = f'{{"question": "a?", "answer": "b", "kind": 5, {turns}}}'.encode()
    row = judge({"image": picture(), "json": data})
    assert [turn["question"] for turn in row["turns"]] == ["c?", "a?"]
    assert row["turns"][1]["kind"] == "5"
    with pytest.raises(Bad, match="an edit has none") as caught:
        judge({"image": picture(), "source": picture(1), "txt": b"make it red", "json": data})
    assert caught.value.reason == "questions_of_edit"


@pytest.mark.parametrize("unseen", "\u00ad\u200b\u200e\u2060\u2800\u3000\u3164\uffa0\ufe0f\ufeff")
def test_a_text_of_nothing_that_is_seen_is_empty(unseen):
    for text in (unseen, f"{unseen} {unseen}"):
        with pytest.raises(Bad) as caught:
            clean_text(text)
        assert caught.value.reason == "empty_caption"
    assert clean_text(f"a{unseen}b") == f"a{unseen}b"
