"""Text tokenizers: bytes, a byte-level BPE trained here, any pretrained Hugging Face tokenizer.

Sennrich et al., arXiv:1508.07909; bytes as the alphabet: Radford et al., GPT-2, 2019.

B rows, L tokens.

The first two are lossless on UTF-8. A text is framed as `bos ... eos`; `None`, the unconditional
text, is `bos null eos`. What a user writes is never read as a special token: `"<eos>"` is five
letters.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from unify.paradigm import Fitted
from unify.support.atomic_files import write_atomically
from unify.tokenizer import TextTokenizer

SPECIALS = ("pad", "bos", "eos", "null")
LEAST = len(SPECIALS) + 256  # ids: the bytes, too


class FramedTokenizer(TextTokenizer):
    """Framing, padding and cutting; a subclass turns texts into bare ids and back."""

    @abstractmethod
    def bare_ids(self, texts: list[str]) -> list[list[int]]:
        """Ids without specials."""

    @abstractmethod
    def text(self, ids: list[int]) -> str:
        """The text of ids; what is no piece of text (a special, an unused id) is left out."""

    def encode(self, texts: Sequence[str | None], length: int) -> tuple[Tensor, Tensor]:
        if length < 3:
            raise ValueError(
                f"a text needs a length of at least 3 tokens (bos, eos, one), not {length}"
            )
        bare = self.bare_ids([text for text in texts if text is not None])
        self.read += len(bare)
        written = iter(bare)
        ids = torch.full((len(texts), length), self.pad)
        valid = torch.zeros(len(texts), length, dtype=torch.bool)
        for row, text in enumerate(texts):
            body = [self.null] if text is None else next(written)
            self.cut += len(body) > length - 2
            framed = [self.bos, *body[: length - 2], self.eos]
            ids[row, : len(framed)] = torch.tensor(framed)
            valid[row, : len(framed)] = True
        return ids, valid

    def decode(self, ids: Tensor) -> list[str]:
        rows = ids.tolist()
        return [self.text(row[: row.index(self.eos)] if self.eos in row else row) for row in rows]


class Bytes(FramedTokenizer):
    """Every byte is a token: 260 ids, nothing to train, nothing to load."""

    pad, bos, eos, null = range(len(SPECIALS))
    vocab_size = LEAST

    def bare_ids(self, texts: list[str]) -> list[list[int]]:
        return [[byte + len(SPECIALS) for byte in text.encode()] for text in texts]

    def text(self, ids: list[int]) -> str:
        kept = bytes(one - len(SPECIALS) for one in ids if one >= len(SPECIALS))
        return kept.decode(errors="replace")

    def content_hash(self) -> str:
        return hashlib.sha256(b"bytes").hexdigest()[:12]


class BPE(FramedTokenizer, Fitted):
    """Byte-level BPE with `vocab_size` ids: 4 specials, 256 bytes and the most frequent merges.

    `vocab_size` stays the same where the texts have fewer merges to offer: the ids above are
    never used, and a model's size does not depend on its data.
    """

    pad, bos, eos, null = range(len(SPECIALS))

    def __init__(self, vocab_size: Annotated[int, Ge(LEAST)]):
        if vocab_size < LEAST:
            raise ValueError(
                f"vocab_size {vocab_size} is too small: {len(SPECIALS)} specials and 256 bytes "
                f"need {LEAST}"
            )
        self.vocab_size = vocab_size
        self._model: Any = None

    @property
    def fitted(self) -> bool:
        return self._model is not None

    @property
    def model(self) -> Any:
        """The Hugging Face tokenizer. It has no specials: its ids are ours less their number."""
        if not self.fitted:
            raise ValueError("this BPE has no vocabulary yet: fit it, or load one with `weights`")
        return self._model

    def fit(self, texts: Sequence[str]) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - len(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        model.train_from_iterator(texts, trainer)
        self._model = model

    def save(self, folder: Any) -> None:
        write_atomically(Path(folder) / "tokenizer.json", self.model.to_str(pretty=True))

    def load(self, folder: Any) -> None:
        from tokenizers import Tokenizer

        path = Path(folder) / "tokenizer.json"
        try:
            model = Tokenizer.from_file(str(path))
        except Exception as error:  # the library has no class of its own for it
            raise ValueError(f"{path} is no vocabulary ({error}); export it again") from error
        if model.get_vocab_size() > self.vocab_size - len(SPECIALS):
            raise ValueError(
                f"{path} has {model.get_vocab_size()} pieces, more than vocab_size "
                f"{self.vocab_size} has room for beside {len(SPECIALS)} specials"
            )
        self._model = model

    def content_hash(self) -> str:
        content = json.dumps([self.vocab_size, json.loads(self.model.to_str())], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def bare_ids(self, texts: list[str]) -> list[list[int]]:
        encoded = self.model.encode_batch(texts, add_special_tokens=False)
        return [[i + len(SPECIALS) for i in row.ids] for row in encoded]

    def text(self, ids: list[int]) -> str:
        pieces = [i - len(SPECIALS) for i in ids if i >= len(SPECIALS)]
        return self.model.decode(pieces, skip_special_tokens=False)


class PretrainedText(FramedTokenizer):
    """A pretrained tokenizer from a local folder or a repository id.

    A special that it lacks (`null` always) gets the next id after its own vocabulary.
    """

    def __init__(self, name: str, revision: str | None = None):
        from transformers import AutoTokenizer

        self.model: Any = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=False
        )
        if not self.model.is_fast:
            raise ValueError(f"{name} has no fast tokenizer (a tokenizer.json), which is needed")
        self.own = self.vocab_size = len(self.model)
        self.pad = self._special(self.model.pad_token_id)
        self.bos = self._special(self.model.bos_token_id)
        self.eos = self._special(self.model.eos_token_id)
        self.null = self._special(None)

    def _special(self, own: int | None) -> int:
        """The id of a special: the model's own, or the next free one."""
        if own is not None:
            return own
        self.vocab_size += 1
        return self.vocab_size - 1

    def content_hash(self) -> str:
        specials = [self.pad, self.bos, self.eos, self.null]
        backend = json.loads(self.model.backend_tokenizer.to_str())
        for setting in ("truncation", "padding"):  # the library's scratch, set while encoding
            backend.pop(setting, None)
        content = json.dumps([specials, backend], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def bare_ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.model(texts, add_special_tokens=False, split_special_tokens=True)
        return encoded["input_ids"]

    def text(self, ids: list[int]) -> str:
        pieces = [i for i in ids if i < self.own]
        return self.model.decode(
            pieces, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
