"""How many tokens texts have: in bytes, or by a `tokenizer.json` on this machine."""

from pathlib import Path

from unify.data.describe.tally import TokenCounts
from unify.support.atomic_files import sha256

BYTES = "bytes"


def token_counts(name: str) -> tuple[TokenCounts | None, str]:
    """The counts of a tokenizer, and what it is in words; None and "" for no name.

    `name`: `bytes`, a tokenizer.json, or the folder of one, as `unify export` and Hugging Face
    write them. Specials are not counted, and what looks like one in a text is text. ValueError if
    there is none.
    """
    if not name:
        return None, ""
    if name == BYTES:
        return lambda texts: [len(_utf8(text)) for text in texts], BYTES
    path = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise ValueError(f"--tokenizer {name}: give `{BYTES}`, a tokenizer.json, or its folder")
    from tokenizers import Tokenizer

    try:
        model = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no class of its own for it
        raise ValueError(f"{path} is no tokenizer.json ({error})") from error
    model.no_truncation()
    model.no_padding()
    model.encode_special_tokens = True

    def counts(texts: list[str]) -> list[int]:
        whole = [_utf8(text).decode() for text in texts]
        return [len(row.ids) for row in model.encode_batch(whole, add_special_tokens=False)]

    return counts, f"{path.parent.name}/{path.name}, SHA-256 {sha256(path)[:12]}"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
