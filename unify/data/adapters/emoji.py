"""A few thousand real image-text pairs without a download: an installed colour emoji font.

The pictures are the bitmaps that the font holds (OpenType CBDT), one per glyph, laid over white.
Which characters a picture stands for comes from the font's `cmap` and, for sequences (flags, skin
tones, people at work), from its ligatures (GSUB). The names are composed here from the character
names of the Unicode standard, as Python's `unicodedata` has them; `sequence_name` says how.
"""

import hashlib
import io
import re
import unicodedata
import zoneinfo
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from unify.data.adapters.importer import write_shards
from unify.data.adapters.inputs import Input
from unify.data.adapters.report import Report

FONT = "NotoColorEmoji.ttf"
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")

ZWJ, VARIATION, KEYCAP, BLACK_FLAG, TO_THE_RIGHT = 0x200D, 0xFE0F, 0x20E3, 0x1F3F4, 0x27A1
MAN, WOMAN, PERSON = 0x1F468, 0x1F469, 0x1F9D1
HEART, KISS, HANDSHAKE = 0x2764, 0x1F48B, 0x1F91D
PEOPLE = {MAN: "man", WOMAN: "woman", PERSON: "person", 0x1F466: "boy", 0x1F467: "girl"}
PEOPLE |= {0x1F9D2: "child", 0x1F476: "baby"}
GENDER = {0x2642: "man", 0x2640: "woman"}
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
TONE = {0x1F3FB + i: f"{tone} skin tone" for i, tone in enumerate(TONES)}

# Person, joiner, thing: the name of a person with this thing.
AT_WORK = {
    0x2695: "health worker",
    0x2696: "judge",
    0x2708: "pilot",
    0x1F33E: "farmer",
    0x1F373: "cook",
    0x1F393: "student",
    0x1F3A4: "singer",
    0x1F3A8: "artist",
    0x1F3EB: "teacher",
    0x1F3ED: "factory worker",
    0x1F4BB: "technologist",
    0x1F4BC: "office worker",
    0x1F527: "mechanic",
    0x1F52C: "scientist",
    0x1F680: "astronaut",
    0x1F692: "firefighter",
    0x1F384: "in a Santa hat",
    0x1F37C: "feeding a baby",
    0x1F9AF: "with white cane",
    0x1F9BC: "in motorized wheelchair",
    0x1F9BD: "in manual wheelchair",
    0x1F9B0: "with red hair",
    0x1F9B1: "with curly hair",
    0x1F9B2: "who is bald",
    0x1F9B3: "with white hair",
}
# Sequences whose picture is not the sum of its parts.
NAMED = {
    (0x1FAF1, 0x1FAF2): "handshake",
    (0x1F3F3, 0x1F308): "rainbow flag",
    (0x1F3F3, 0x26A7): "transgender flag",
    (BLACK_FLAG, 0x2620): "pirate flag",
    (0x1F415, 0x1F9BA): "service dog",
    (0x1F408, 0x2B1B): "black cat",
    (0x1F426, 0x2B1B): "black bird",
    (0x1F43B, 0x2744): "polar bear",
    (0x1F441, 0x1F5E8): "eye in a speech bubble",
    (0x2764, 0x1F525): "heart on fire",
    (0x2764, 0x1FA79): "heart with a bandage",
    (0x1F62E, 0x1F4A8): "face exhaling",
    (0x1F635, 0x1F4AB): "face with spiral eyes",
    (0x1F636, 0x1F32B): "face in clouds",
    (0x1F426, 0x1F525): "phoenix",
    (0x1F34B, 0x1F7E9): "lime",
    (0x1F344, 0x1F7EB): "brown mushroom",
    (0x26D3, 0x1F4A5): "broken chain",
    (0x1F642, 0x2194): "head shaking horizontally",
    (0x1F642, 0x2195): "head shaking vertically",
}
NOT_A_NAME = r"^(regional|emoji modifier|emoji component|tag|cancel|combining) |ideograph|katakana"
# Codes in use that ISO 3166 does not assign to a country, and parts of the United Kingdom.
REGIONS = {
    "AC": "Ascension Island",
    "CP": "Clipperton Island",
    "CQ": "Sark",
    "DG": "Diego Garcia",
    "EA": "Ceuta and Melilla",
    "EU": "European Union",
    "IC": "Canary Islands",
    "TA": "Tristan da Cunha",
    "UN": "United Nations",
    "XK": "Kosovo",
    "GBENG": "England",
    "GBSCT": "Scotland",
    "GBWLS": "Wales",
}


def make_emoji(out: str | Path, size: int = 64, font: str | Path | None = None) -> Report:
    """Render the font to `size` x `size` PNGs with their names and write shards into `out`.

    ValueError if no font is found (it names the package to install) or `out` is not empty.
    """
    path = Path(font) if font else find_font()
    return write_shards(_pairs(path, size), out, settings=[str(path), size])


def find_font() -> Path:
    """The first colour emoji font in the usual folders; a ValueError names its package."""
    for folder in FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob(FONT)):
            return path
    raise ValueError(
        f"no {FONT} under {', '.join(FOLDERS)}; install it, on Debian and Ubuntu with "
        "`apt-get install fonts-noto-color-emoji`, or name another font with --font"
    )


def _pairs(path: Path, size: int) -> Iterator[Input]:
    """A name and a PNG per glyph; blank pictures and copies of earlier ones are left out."""
    digests: set[str] = set()
    for codes, png in glyphs(path):
        name = sequence_name(codes)
        if not name:
            continue
        image = _square(png, size)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        if digest in digests or image.getcolors(1):
            continue
        digests.add(digest)
        file = io.BytesIO()
        image.save(file, "PNG")
        key = "-".join(f"{code:04x}" for code in codes)
        yield Input(path.name, key, {"image": file.getvalue(), "txt": name.encode()})


def glyphs(path: Path) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """(code points, PNG bytes) for every character and sequence that the font has a bitmap of."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path) as font:
            if "CBDT" not in font:
                raise ValueError(f"{path} has no colour bitmaps (CBDT); try {FONT}")
            characters = font.getBestCmap()  # code point -> glyph
            codes = {glyph: code for code, glyph in characters.items()}
            sequences = {(code,): glyph for code, glyph in characters.items()}
            for first, ligature in _ligatures(font):
                parts = [first, *ligature.Component]
                if all(part in codes for part in parts):
                    sequences[tuple(codes[part] for part in parts)] = ligature.LigGlyph
            strike = font["CBDT"].strikeData[-1]
            for sequence in sorted(sequences, key=_reading_order):
                if sequences[sequence] in strike:
                    yield sequence, strike[sequences[sequence]].imageData
    except (TTLibError, OSError) as error:
        raise ValueError(f"{path} is not a font that can be read: {error}") from error


def _ligatures(font: Any) -> Iterator[tuple[str, Any]]:
    """(first glyph, ligature) of every ligature rule."""
    if "GSUB" not in font:
        return
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            rules = getattr(getattr(table, "ExtSubTable", table), "ligatures", {})
            for first, ligatures in rules.items():
                for ligature in ligatures:
                    yield first, ligature


def _reading_order(codes: tuple[int, ...]) -> tuple:
    """Short sequences first, and of a picture's two spellings the one that reads forwards.

    Fonts hold sequences reversed as well, for text that runs from right to left.
    """
    first = [code for code in codes if code not in TONE and code not in (ZWJ, VARIATION)][:2]
    forwards = tuple(first) in NAMED or codes[0] in (MAN, WOMAN, PERSON)
    return len(codes), not forwards, -codes[0], codes


def _square(png: bytes, size: int) -> Image.Image:
    """The bitmap in the middle of a white square."""
    glyph = Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGBA")
    side = max(glyph.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return canvas.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


def sequence_name(codes: tuple[int, ...]) -> str:
    """The name of a character or of a sequence, e.g. `woman astronaut: medium skin tone`.

    "" for what is no picture of something: letters, bare modifiers, unnamed characters.
    """
    plain = tuple(code for code in codes if code not in TONE and code != VARIATION)
    parts = [code for code in plain if code != ZWJ]
    if not parts:
        return ""
    name = _flag(parts) or _keycap(parts) or _joined(parts)
    tones = list(dict.fromkeys(TONE[code] for code in codes if code in TONE))
    if not name or not tones:
        return name
    return name + (", " if ": " in name else ": ") + ", ".join(tones)


def _keycap(parts: list[int]) -> str:
    return f"keycap: {chr(parts[0])}" if parts[1:] == [KEYCAP] else ""


def _flag(parts: list[int]) -> str:
    """Two regional indicators, or a black flag with the tag letters of a part of a country."""
    if len(parts) == 2 and all(0x1F1E6 <= code <= 0x1F1FF for code in parts):
        region = "".join(chr(code - 0x1F1E6 + ord("A")) for code in parts)
        return f"flag: {REGIONS.get(region) or countries().get(region) or region}"
    tags = "".join(chr(code - 0xE0000) for code in parts[1:-1] if code > 0xE0000).upper()
    return f"flag: {REGIONS[tags]}" if parts[0] == BLACK_FLAG and tags in REGIONS else ""


@cache
def countries() -> dict[str, str]:
    """ISO 3166 codes -> names, from the time zone database where the system has one."""
    for folder in zoneinfo.TZPATH:
        path = Path(folder, "iso3166.tab")
        if path.is_file():
            lines = path.read_text("utf-8").splitlines()
            return dict(line.split("\t", 1) for line in lines if line and line[0] != "#")
    return {}


def _joined(parts: list[int]) -> str:
    """One character, or characters that zero-width joiners make into one picture."""
    if TO_THE_RIGHT in parts[1:]:
        name = _joined([code for code in parts if code != TO_THE_RIGHT])
        return name and f"{name} facing right"
    names = [_character(code) for code in parts]
    if not all(names):
        return ""
    if len(parts) == 1:
        return names[0]
    people = [PEOPLE[code] for code in parts if code in PEOPLE]
    if named := NAMED.get((parts[0], parts[1])):
        return named
    if HEART in parts:
        return f"{'kiss' if KISS in parts else 'couple with heart'}: {', '.join(people)}"
    if len(people) == len(parts):
        return f"family: {', '.join(people)}"
    if parts[0] in PEOPLE and parts[1] in AT_WORK:
        return f"{people[0]} {AT_WORK[parts[1]]}"
    if parts[1] in GENDER:
        gender = GENDER[parts[1]]
        name, replaced = re.subn(r"\b(person|man|woman)\b", gender, names[0])
        return name if replaced else f"{gender} {name}"
    return f"{' and '.join(people)} holding hands" if HANDSHAKE in parts else " and ".join(names)


def _character(code: int) -> str:
    """The name in the Unicode standard as a phrase; "" where it is none."""
    if code in GENDER:
        return "male sign" if GENDER[code] == "man" else "female sign"
    if code in PEOPLE:
        return PEOPLE[code]
    name = unicodedata.name(chr(code), "").lower()
    if code < 0x80 or re.search(NOT_A_NAME, name):
        return ""
    if code < 0x3000 and not name.endswith((" circle", " square")):
        # Old names say black for filled, white for outlined, heavy for bold: not of the picture.
        name = re.sub(r"\b(black|white|heavy) ", "", name)
    return "red heart" if code == HEART else re.sub(r"^white (.*index)$", r"\1", name)
