"""Text tokenizers: lossless, framed, cut, named by content."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.tokenizers.text import BPE, Bytes, PretrainedText

TEXTS = [
    f"a {color} {shape} {place}"
    for color in ("red", "green", "blue", "yellow")
    for shape in ("circle", "square", "triangle")
    for place in ("on the left", "on the right", "above a blue circle")
]
ODD = [
    "",
    " ",
    "  two  spaces \n\t tabs\r\n",
    "emoji 🧑‍🚀🏳️‍🌈 and flags 🇫🇷",
    "שלום עולם, مرحبا بالعالم",
    "nul \x00 and \x7f",
    "日本語のテキスト",
    "e\u0301 is not é",
    "<eos><bos><pad><null> [UNK] <|endoftext|>",
]


@pytest.fixture(scope="module")
def bpe():
    tokenizer = BPE(400)
    tokenizer.fit(TEXTS)
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A byte-level tokenizer in Hugging Face's format, with eos and without bos, pad and null."""
    from transformers import PreTrainedTokenizerFast

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(TEXTS, trainer)
    path = tmp_path_factory.mktemp("pretrained")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|endoftext|>")
    wrapped.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pretrained(folder):
    return PretrainedText(str(folder))


@pytest.fixture(scope="module")
def plain():
    return Bytes()


@pytest.fixture(params=["plain", "bpe", "pretrained"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def test_decoding_gives_back_any_text(tokenizer):
    ids, valid = tokenizer.encode([*ODD, *TEXTS], 96)
    assert tokenizer.decode(ids) == [*ODD, *TEXTS]
    assert ids.shape == valid.shape == (len(ODD) + len(TEXTS), 96)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_decoding_gives_back_any_unicode_text(bpe, text):
    assert bpe.decode(bpe.encode([text], 200)[0]) == [text]


def test_texts_are_framed_and_padded_on_the_right(tokenizer):
    ids, valid = tokenizer.encode(["a red circle", None, ""], 24)
    for row, count in zip(ids, valid.sum(1), strict=True):
        assert row[0] == tokenizer.bos
        assert row[count - 1] == tokenizer.eos
        assert (row[count:] == tokenizer.pad).all()
    assert (valid == (torch.arange(24) < valid.sum(1, keepdim=True))).all()
    assert ids[1, :3].tolist() == [tokenizer.bos, tokenizer.null, tokenizer.eos]
    assert ids[2, :2].tolist() == [tokenizer.bos, tokenizer.eos]


def test_the_unconditional_text_differs_from_the_empty_one(tokenizer):
    ids, _ = tokenizer.encode([None, ""], 8)
    assert not torch.equal(ids[0], ids[1])
    assert tokenizer.decode(ids) == ["", ""]


def test_a_text_that_does_not_fit_is_cut_before_its_eos_and_counted(bpe):
    before = bpe.cut
    whole, _ = bpe.encode(["zxqj zxqj", "a"], 64)
    assert bpe.cut == before
    ids, valid = bpe.encode(["zxqj zxqj", "a"], 6)
    assert bpe.cut == before + 1
    assert valid[0].all()
    assert ids[0].tolist() == [*whole[0, :5].tolist(), bpe.eos]


def test_a_text_that_just_fits_is_not_cut(bpe):
    length = int(bpe.encode(["a red circle"], 32)[1].sum())
    before = bpe.cut
    assert bpe.decode(bpe.encode(["a red circle"], length)[0]) == ["a red circle"]
    assert bpe.cut == before
    bpe.encode(["a red circle"], length - 1)
    assert bpe.cut == before + 1


def test_a_text_does_not_depend_on_its_batch_mates(tokenizer):
    together, _ = tokenizer.encode(["a", "a red circle on the left", None], 32)
    for row, text in enumerate(["a", "a red circle on the left", None]):
        assert torch.equal(tokenizer.encode([text], 32)[0][0], together[row])


def test_decoding_stops_at_eos_and_leaves_specials_and_unused_ids_out(tokenizer):
    ids, valid = tokenizer.encode(["red"], 12)
    body = ids[0, 1 : valid.sum() - 1].tolist()
    noisy = [tokenizer.null, *body, tokenizer.pad, tokenizer.bos]
    row = torch.tensor([[*noisy, tokenizer.eos, *body]])
    assert tokenizer.decode(row) == ["red"]
    assert tokenizer.decode(row[:, : len(noisy)]) == ["red"]


def test_ids_and_specials_lie_in_the_vocabulary(tokenizer):
    ids, _ = tokenizer.encode([*ODD, *TEXTS, None], 96)
    specials = [tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.null]
    assert len(set(specials)) == 4
    assert ids.min() >= 0
    assert max(ids.max().item(), *specials) < tokenizer.vocab_size


def test_the_vocabulary_s_size_is_the_constructor_s_whatever_the_texts():
    tokenizer = BPE(5000)
    assert tokenizer.vocab_size == 5000
    tokenizer.fit(["a", "b"])
    assert tokenizer.vocab_size == 5000
    assert tokenizer.decode(torch.tensor([[tokenizer.bos, 4999, 4000]])) == [""]


def test_frequent_words_become_one_token(bpe):
    ids, valid = bpe.encode([" triangle"], 8)
    assert valid.sum() == 3, ids


def test_fitting_is_deterministic_and_named_by_content(bpe):
    again, other = BPE(400), BPE(400)
    again.fit(TEXTS)
    other.fit(TEXTS[: len(TEXTS) // 2])
    assert again.content_hash() == bpe.content_hash()
    assert other.content_hash() != bpe.content_hash()


def test_saved_and_loaded_a_bpe_is_the_same(bpe, tmp_path):
    bpe.save(tmp_path / "bpe")
    other = BPE(400)
    other.load(tmp_path / "bpe")
    assert other.content_hash() == bpe.content_hash()
    assert torch.equal(other.encode(ODD, 64)[0], bpe.encode(ODD, 64)[0])


def test_a_bpe_without_texts_or_room_says_what_to_do(bpe, tmp_path):
    with pytest.raises(ValueError, match="need 260"):
        BPE(100)
    with pytest.raises(ValueError, match="fit it"):
        BPE(300).encode(["a"], 8)
    bpe.save(tmp_path)
    with pytest.raises(ValueError, match="more than vocab_size 300"):
        BPE(300).load(tmp_path)
    with pytest.raises(ValueError, match="at least 3 tokens"):
        bpe.encode(["a"], 2)


def test_a_pretrained_tokenizer_keeps_its_ids_and_gets_the_specials_it_lacks(pretrained, folder):
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(folder)
    assert pretrained.eos == own.eos_token_id
    assert sorted([pretrained.pad, pretrained.bos, pretrained.null]) == [
        len(own),
        len(own) + 1,
        len(own) + 2,
    ]
    assert pretrained.vocab_size == len(own) + 3
    ids, valid = pretrained.encode(["a red circle"], 16)
    bare = own("a red circle", add_special_tokens=False)["input_ids"]
    assert ids[0, valid[0]].tolist() == [pretrained.bos, *bare, pretrained.eos]


def test_a_pretrained_tokenizer_s_hash_is_stable_and_follows_its_content(pretrained, folder):
    name = pretrained.content_hash()
    pretrained.encode(TEXTS, 8)
    assert pretrained.content_hash() == name
    assert PretrainedText(str(folder)).content_hash() == name
