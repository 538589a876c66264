"""Scripts, words, and texts that share most of their words."""

import numpy as np
import pytest

from unify.data.describe.texts import NO_SCRIPT, script, similar, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red circle", ("Latin", False)),
        ("été à Łódź", ("Latin", False)),
        ("ｆｕｌｌ　ｗｉｄｔｈ", ("Latin", False)),
        ("собака", ("Cyrillic", False)),
        ("собака dog", ("Cyrillic", True)),
        ("ένα κόκκινο", ("Greek", False)),
        ("قطة", ("Arabic", False)),
        ("שלום", ("Hebrew", False)),
        ("हिन्दी", ("Devanagari", False)),
        ("สวัสดี", ("Thai", False)),
        ("红色的圆", ("Han", False)),
        ("赤い丸", ("Han and kana", False)),
        ("빨간 원", ("Hangul", False)),
        ("123, 4%!", (NO_SCRIPT, False)),
        ("🙂 ❤️", (NO_SCRIPT, False)),
        ("", (NO_SCRIPT, False)),
        ("\ue000\ud800", (NO_SCRIPT, False)),
    ],
)
def test_the_script_is_that_of_most_letters(text, expected):
    assert script(text) == expected


def test_words_have_no_case_and_no_punctuation():
    assert words("The  cat, the CAT!") == ["the", "cat", "the", "cat"]
    assert words("Straße ＡＢ") == ["strasse", "ab"]
    assert words("红色 cat") == ["红", "色", "cat"]
    assert words("... !") == []


def test_similar_texts_share_most_of_their_words():
    texts = ["one two three four", "four three two one", "one two three four five", "six seven", ""]
    texts += ["one two three six"]
    found = [
        (int(a), int(b), round(float(far), 3))
        for left, right, fars in similar([text.split() for text in texts])
        for a, b, far in zip(left, right, fars, strict=True)
    ]
    assert found == [(0, 1, 0.0), (0, 2, 0.2), (1, 2, 0.2)]


def test_similar_agrees_with_sets_over_several_blocks():
    rng = np.random.default_rng(0)
    texts = [[f"w{n}" for n in rng.integers(0, 9, 6)] for _ in range(600)]
    found = {
        (int(a), int(b))
        for left, right, _ in similar(texts)
        for a, b in zip(left, right, strict=True)
    }
    sets = [set(text) for text in texts]
    expected = {
        (i, j)
        for i in range(600)
        for j in range(i + 1, 600)
        if len(sets[i] & sets[j]) >= 0.8 * len(sets[i] | sets[j])
    }
    assert found == expected
