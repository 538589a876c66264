"""How many texts of a run were longer than their `data.lengths`, and so cut: said in words."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from unify.distributed.ranks import all_gather
from unify.tokenizer import TextTokenizer


def count_cut(tokenizers: Iterable[Any]) -> tuple[int, int]:
    """(cut, read): texts that did not fit, and all texts, that the tokenizers of all ranks encoded.

    All ranks call. `read` is 0 where a tokenizer does not count it.
    """
    texts = {id(part): part for part in tokenizers if isinstance(part, TextTokenizer)}.values()
    mine = sum(part.cut for part in texts), sum(part.read for part in texts)
    cut, read = (sum(each) for each in zip(*all_gather(mine), strict=True))
    return cut, read if read >= cut else 0


@contextmanager
def not_counted(tokenizers: Iterable[Any]) -> Iterator[None]:
    """What these tokenizers encode meanwhile is not of the training, and counts as nothing."""
    texts = [part for part in tokenizers if isinstance(part, TextTokenizer)]
    before = [(part.cut, part.read) for part in texts]
    try:
        yield
    finally:
        for part, (cut, read) in zip(texts, before, strict=True):
            part.cut, part.read = cut, read


def cut_sentence(facts: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """A sentence without its full stop; empty where nothing was cut.

    Args:
        facts: run.json.
        config: the run's configuration, which has the lengths.
    """
    lengths = (config.get("data") or {}).get("lengths") or {}
    at = f" ({', '.join(f'{column} {length}' for column, length in lengths.items())})"
    said = []
    if cut := facts.get("texts_cut"):
        read, since = facts.get("texts_read"), facts.get("texts_since")
        counted = f"{cut:,} of {read:,} texts" if read else f"{cut:,} texts"
        said.append(f"{counted} of training" + (f" since step {since}" if since else ""))
    if scored := facts.get("texts_cut_in_scoring"):
        said.append(f"{scored:,} texts that were scored")
    if not said:
        return ""
    return f"{' and '.join(said)} did not fit into data.lengths{at if lengths else ''} and were cut"
