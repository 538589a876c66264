"""A sequence that goes on from a language model: whose rows are whose, and what is refused."""

import pytest
import torch

from unify.nn.init import initialise
from unify.nn.trunk import Trunk
from unify.nn.words import GrownEmbedding, GrownHead, LanguageTrunk, check_same_text, embedding
from unify.paradigms.vlm import VLM
from unify.tokenizers.text import BPE, Bytes

DIM = 32


def llm(seed=1) -> VLM:
    model = VLM(Trunk(DIM, 2, 2), Bytes())
    initialise(model, seed)
    return model


def test_ids_of_words_have_the_old_rows_and_all_others_a_row_of_their_own():
    known = torch.nn.Embedding(5, 3)
    table = GrownEmbedding(known, [0, 1, 2, 4, 7], 9)
    got = table(torch.arange(9)[None])[0]
    old, new = [0, 1, 2, 4, 7], [3, 5, 6, 8]
    assert torch.equal(got[old], known.weight)
    assert torch.equal(got[new], table.new.weight)


def test_each_table_gets_the_gradient_of_its_own_ids():
    known = torch.nn.Embedding(4, 3)
    table = GrownEmbedding(known, range(4), 6)
    table(torch.tensor([[0, 5]])).sum().backward()
    assert known.weight.grad.sum(1).tolist() == [3, 0, 0, 0]
    assert table.new.weight.grad.sum(1).tolist() == [0, 3]


def test_logits_of_words_are_the_old_ones_to_the_bit():
    known = torch.nn.Linear(3, 4, bias=False)
    hidden = torch.randn(2, 5, 3)
    logits = GrownHead(known, 7)(hidden)
    assert logits.shape == (2, 5, 7)
    assert torch.equal(logits[..., :4], known(hidden))


def test_a_plain_trunk_has_a_plain_table_and_the_words_of_a_language_model_are_not_copied():
    text, words = Bytes(), Bytes.vocab_size
    assert type(embedding(Trunk(DIM, 1, 2), text, 9, (7, 8))).__name__ == "Embedding"
    model = llm()
    trunk = LanguageTrunk(model)
    assert embedding(trunk, text, words + 2, (words, words + 1)) is model.embed
    assert {name.split(".")[0] for name, _ in trunk.named_parameters()} == {"body"}


def test_a_tokenizer_that_the_language_model_was_not_trained_with_is_refused():
    one, other = BPE(300), BPE(300)
    check_same_text("trunk.llm", one, other)  # neither has a vocabulary yet
    one.fit(["abab abab"] * 3)
    other.fit(["cdcd cdcd"] * 3)
    with pytest.raises(ValueError, match=r"trunk\.llm reads other tokens than `text`"):
        check_same_text("trunk.llm", one, other)
    with pytest.raises(ValueError, match="260 ids, `text` 300"):
        check_same_text("trunk.llm", Bytes(), BPE(300))


def test_a_language_model_that_keeps_its_modules_is_refused():
    model = llm()
    model.words = lambda: None
    with pytest.raises(ValueError, match=r"trunk\.llm: a VLM has no trunk and tables of ours"):
        LanguageTrunk(model)
