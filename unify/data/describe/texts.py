"""What can be said of a text without knowing its language: its script, its words, what is like it.

N texts.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

# Scripts that put no spaces between words: each letter counts as a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
NO_SCRIPT = "no letters"
KANA = {"Hiragana", "Katakana"}
NAMES = {"Cjk": "Han", "Ideographic": "Han", "Hangul": "Hangul"}  # where Unicode's name is no word
MOST_WORDS = 200  # of a text that are compared
ROWS = 256  # compared at once
SHARE = 0.8  # of the words of two texts together that both have


def words(text: str) -> list[str]:
    """Its words without case and punctuation; compatibility characters as their plain forms."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def script(text: str) -> tuple[str, bool]:
    """The Unicode script of most of its letters, and whether it has letters of others, too.

    Han with kana is Japanese writing, one script here. By the names of characters, which begin with
    the script: Python has no table of scripts.
    """
    if text.isascii():
        return ("Latin" if any(map(str.isalpha, text)) else NO_SCRIPT), False
    counts: Counter[str] = Counter()
    for letter, count in Counter(unicodedata.normalize("NFKC", text)).items():
        if name := _script_of(letter):
            counts[name] += count
    if kana := KANA & counts.keys():
        counts["Han and kana"] = sum(counts.pop(name) for name in kana) + counts.pop("Han", 0)
    if not counts:
        return NO_SCRIPT, False
    return min(counts, key=lambda name: (-counts[name], name)), len(counts) > 1


@lru_cache(1 << 14)
def _script_of(letter: str) -> str:
    """The script of one character; "" for what is no letter, or belongs to all scripts."""
    if unicodedata.category(letter) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    first = unicodedata.name(letter, "unnamed").split()[0].capitalize()
    return NAMES.get(first, first)


def similar(texts: Sequence[list[str]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of texts, given by their words, that share SHARE of them, in any order and each once.

    Places [K], later places [K], and the share of words that only one of the two has [K].
    """
    from scipy.sparse import csr_matrix

    sets = [sorted(set(text[:MOST_WORDS])) for text in texts]
    number: dict[str, int] = {}
    columns = [number.setdefault(word, len(number)) for words in sets for word in words]
    sizes = np.array([len(words) for words in sets], np.int64)  # [N]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    shape = (len(sets), max(len(number), 1))
    held = csr_matrix((np.ones(len(columns), np.int32), columns, starts), shape)
    for begin in range(0, len(sets), ROWS):
        rest = held[begin:]
        shared = (rest[:ROWS] @ rest.T).toarray()  # [rows N - begin]
        together = sizes[begin : begin + ROWS, None] + sizes[None, begin:] - shared
        share = shared / np.maximum(together, 1)
        left, right = np.nonzero(share >= SHARE)
        later = left < right
        left, right = left[later], right[later]
        yield left + begin, right + begin, 1 - share[left, right]
