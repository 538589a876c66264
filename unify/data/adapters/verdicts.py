"""Verdicts: the parts of a sample -> a row of an index, or one reason to leave it out.

A record is an image with a caption, with questions and answers, or with both. Captions come from
`KEY.txt` or from "caption" in `KEY.json`; questions from the json: `{"question", "answer"}`, or a
list of these under "turns". With a source image beside it, `KEY.source.png`, the image is what an
edit made of that, and `KEY.txt`, or "instruction" in `KEY.json`, says how: all three are needed.
Whatever cannot be read as it was meant is left out under a reason.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from unify.data.adapters.images import BadImage, decode, dimensions

MAX_TEXT = 1 << 16  # bytes of a caption, a question or an answer
MAX_JSON = 1_000_000  # bytes of the metadata
# Characters that show a text as another than it is, or are left of another encoding: C0 and C1
# without those that are white space, DEL, and overrides of the direction of writing.
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202d\u202e]")
# Characters of scripts that show nothing, beside those that Unicode calls spaces and formats.
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
UNSEEN = ("Cf", "Zs", "Zl", "Zp")


class Bad(Exception):
    """A record that is left out; `reason` is a code such as `missing_caption`."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass
class Verdict:
    """Why a record, or a member of an archive, is left out."""

    shard: str  # or the file that it was imported from
    key: str
    reason: str
    detail: str = ""


def judge(parts: dict[str, bytes], pixels: bool = True) -> dict[str, Any]:
    """The parts of one sample (image, source, txt, json) -> a row of the index, or Bad.

    `pixels`: decode the whole image, not only its header.
    """
    if "image" not in parts:
        raise Bad("missing_image")
    meta = _metadata(parts.get("json"))
    words: dict[str, Any]
    if "source" in parts:
        if _turns(meta):
            raise Bad("questions_of_edit", "an edit has none; give them a row without its source")
        words = {"instruction": _text("instruction", parts.get("txt"), meta)}
        _size(parts["source"], pixels, "source")
    else:
        turns = _turns(meta)
        if meta.get("instruction") is not None and not (
            turns or "txt" in parts or "caption" in meta
        ):
            raise Bad("missing_source", "there is an instruction, and no image to follow it on")
        words = {"text": _text("caption", parts.get("txt"), meta, needed=not turns), "turns": turns}
    height, width = _size(parts["image"], pixels)
    row: dict[str, Any] = {"height": height, "width": width}
    row |= {name: value for name, value in words.items() if value}
    # Splits follow this hash of the picture (of the source, for an edit): copies of a picture under
    # other keys, and edits of it, are all in one split.
    picture = parts.get("source", parts["image"])
    row["hash"] = int.from_bytes(hashlib.blake2b(picture, digest_size=4).digest(), "big")
    return row


def _size(image: bytes, pixels: bool, name: str = "") -> tuple[int, int]:
    try:
        return decode(image).shape[:2] if pixels else dimensions(image)
    except BadImage as error:
        raise Bad(error.reason, f"{name}: {error.detail}" if name else error.detail) from error


def clean_text(data: bytes | str, kind: str = "caption") -> str:
    """UTF-8 without byte-order mark, in NFC, stripped; Bad if empty, broken or endless."""
    if len(data) > MAX_TEXT:
        raise Bad(f"long_{kind}", f"{len(data):,} bytes are over {MAX_TEXT:,}")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        text.encode()  # lone surrogates, which JSON can spell
    except UnicodeError as error:
        raise Bad(f"non_utf8_{kind}", str(error)) from error
    if found := CONTROL.search(text):
        raise Bad(f"control_{kind}", f"contains U+{ord(found[0]):04X}")
    text = unicodedata.normalize("NFC", text).strip()
    if all(unicodedata.category(c) in UNSEEN for c in BLANK.sub("", text)):
        raise Bad(f"empty_{kind}")
    return text


def _text(kind: str, data: bytes | None, meta: dict[str, Any], needed: bool = True) -> str | None:
    """`KEY.txt`, or what `KEY.json` says under `kind`; None if there is none and none `needed`."""
    if data is not None:
        return clean_text(data, kind)
    text = meta.get(kind)
    if text is None:
        if needed:
            raise Bad(f"missing_{kind}")
        return None
    if not isinstance(text, str):
        raise Bad(f"bad_{kind}", f"{type(text).__name__} instead of a text")
    return clean_text(text, kind)


def _metadata(data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {}
    if len(data) > MAX_JSON:
        raise Bad("long_json", f"{len(data):,} bytes are over {MAX_JSON:,}")
    return json_object(data)


def json_object(data: bytes | str) -> dict[str, Any]:
    """One JSON object; Bad for what is none, is nested too deep, or says two things of one key."""
    try:
        value = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Bad("bad_json", str(error)) from error
    if not isinstance(value, dict):
        raise Bad("bad_json", f"{type(value).__name__} instead of an object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs) and (twice := [k for k, v in pairs if out[k] != v]):
        raise ValueError(f"{twice[0]!r} is there twice, with different values")
    return out


def _turns(meta: dict[str, Any]) -> list[dict[str, str]]:
    """Questions with answers: `{"question", "answer"}`, a list of these under "turns", or both.

    Null is none: a table that has questions in some rows has nulls in the others.
    """
    turns = meta.get("turns", [])
    if turns is None:
        turns = []
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Bad("bad_turns", "turns must be a list of {question, answer}")
    if "question" in meta and (meta["question"], meta.get("answer")) != (None, None):
        turns = [*turns, meta]
    out = []
    for turn in turns:
        row = {}
        for name in ("question", "answer"):
            if not isinstance(turn.get(name), str):
                raise Bad("bad_turns", f"{name} is missing or not a text")
            row[name] = clean_text(turn[name], name)
        if (kind := turn.get("kind")) is not None and str(kind).strip():
            row["kind"] = clean_text(str(kind), "kind")
        out.append(row)
    return out
