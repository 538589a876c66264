"""Emoji: the names say what the pictures are, and the pairs are a set that trains."""

import json

import numpy as np
import pytest

from unify.data.adapters import emoji
from unify.data.adapters.emoji import find_font, make_emoji, sequence_name
from unify.data.shards import Shards


def font():
    try:
        return find_font()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("😀", "grinning face"),
        ("❤️", "red heart"),
        ("☀", "sun with rays"),
        ("⚫", "medium black circle"),
        ("👆🏿", "up pointing backhand index: dark skin tone"),
        ("👩🏽‍🚀", "woman astronaut: medium skin tone"),
        ("👨‍⚕️", "man health worker"),
        ("🏃‍♀️", "woman runner"),
        ("🏃‍♀️‍➡️", "woman runner facing right"),
        ("🙋🏻‍♂️", "happy man raising one hand: light skin tone"),
        ("👨‍👩‍👧", "family: man, woman, girl"),
        ("👩🏻‍❤️‍💋‍👨🏿", "kiss: woman, man, light skin tone, dark skin tone"),
        ("👩🏻‍🤝‍👩🏿", "woman and woman holding hands: light skin tone, dark skin tone"),
        ("🏳️‍🌈", "rainbow flag"),
        ("🐻‍❄️", "polar bear"),
        ("🇪🇺", "flag: European Union"),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿", "flag: Scotland"),
        ("7⃣", "keycap: 7"),
        ("A", ""),
        ("🏽", ""),
        ("\u200d", ""),
        ("🇯", ""),
    ],
)
def test_a_sequence_is_named(text, name):
    assert sequence_name(tuple(map(ord, text))) == name


def test_a_country_is_named_or_spelled():
    expected = emoji.countries().get("JP", "JP")
    assert sequence_name(tuple(map(ord, "🇯🇵"))) == f"flag: {expected}"


def test_a_missing_font_names_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(emoji, "FOLDERS", (str(tmp_path),))
    with pytest.raises(ValueError, match="fonts-noto-color-emoji"):
        make_emoji(tmp_path / "out")


def test_a_file_that_is_no_font_is_named(tmp_path):
    (tmp_path / "x.ttf").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.ttf is not a font"):
        make_emoji(tmp_path / "out", font=tmp_path / "x.ttf")
    assert not list(tmp_path.glob(".*"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("emoji") / "shards"
    report = make_emoji(out, size=24, font=font())
    assert report.ok
    return Shards(str(out), size=24, validation=0.05, test=0.05)


@pytest.mark.slow
def test_thousands_of_pairs(shards):
    total = sum(shards.size("caption", split) for split in ("train", "validation", "test"))
    assert total > 2500
    assert json.loads((shards.path / "index.json").read_bytes())["left_out"] == {}
    names = [shards.record("text", "train", i).fields["text"] for i in range(1000)]
    assert len(set(names)) > 900


@pytest.mark.slow
def test_pictures_are_those_of_their_names(shards):
    """Colours that a name promises dominate the picture."""
    rows = {}
    for n in range(sum(shards.size("image", s) for s in ("train", "validation", "test"))):
        row = shards.row(n)
        rows[row["text"]] = row
    wanted = {"red heart": 0, "green heart": 1, "blue heart": 2, "large red square": 0}
    for name, channel in wanted.items():
        from unify.data.adapters.images import decode
        from unify.data.adapters.stored import read_image

        pixels = decode(read_image(shards.path, rows[name])).reshape(-1, 3)
        inked = pixels[pixels.min(1) < 128].astype(float).mean(0)
        assert np.argmax(inked) == channel
    assert not any(name.startswith(("male sign and", "female sign and")) for name in rows)
