"""Perplexity: of the texts as they were cut, over the alphabet of the model, with n in tokens."""

from dataclasses import replace

import pytest
import torch
from small import Brightness, make_ar, make_transfusion

from unify.answers.score_lines import score_lines
from unify.data.shapes import Shapes
from unify.metrics.metric import Subject
from unify.metrics.perplexity import Perplexity

WORLD = Shapes()


def subject(model, **lengths):
    return Subject(model, WORLD, frozenset({"caption"}), lengths, {}, {}, seed=5, batch=3)


def perplexity(made, **settings):
    (score,), _ = Perplexity(rows=7, **settings).measure(made)
    return score


def lines(**scores):
    rows = [{"arm": arm, "seed": 0, **score.row()} for arm, score in scores.items()]
    return score_lines(rows)


def test_texts_cut_to_unlike_lengths_do_not_share_a_line():
    model = make_transfusion()
    short, long = (perplexity(subject(model, caption=n)) for n in (8, 60))
    assert short.n < long.n
    first, second = lines(short=short, long=long)
    assert "texts" in first.note
    assert {*first.cells, *second.cells} == {"short", "long"}


def test_lengths_that_cut_nothing_change_nothing():
    model = make_transfusion()
    some, more = (perplexity(subject(model, caption=n)) for n in (120, 140))
    assert some.passport == more.passport
    assert len(lines(some=some, more=more)) == 1


def test_unlike_alphabets_do_not_share_a_line():
    text, both = perplexity(subject(make_transfusion())), perplexity(subject(make_ar()))
    assert text.passport["alphabet"] == "260 ids"
    assert both.passport["alphabet"] == f"{260 + 3 + Brightness.vocab_size} ids"
    first, second = lines(text=text, both=both)
    assert "alphabet: 260 ids" in first.note
    assert "alphabet: 279 ids" in second.note


def test_n_counts_tokens_and_the_interval_is_over_texts():
    score = perplexity(subject(make_transfusion(), caption=40))
    assert (score.unit, score.better, score.passport["rows"]) == ("tokens", "lower", 7)
    assert score.n > 7
    assert score.low < score.value < score.high
    assert 100 < score.value < 1000, "an untrained head is near uniform"


def test_a_text_tokenizer_keeps_its_own_count_of_cut_texts():
    model = make_transfusion()
    model.text.cut = 0
    perplexity(subject(model, caption=8))
    assert model.text.cut == 7, "once by the loss, and not again by the passport"


def test_it_is_measured_on_the_split_that_it_names():
    made = subject(make_transfusion())
    test, validation = perplexity(made), perplexity(made, split="validation")
    assert test.passport["texts"] != validation.passport["texts"]
    assert validation.passport["split"] == "validation"


def test_one_text_has_no_interval():
    (score,), _ = Perplexity(rows=1).measure(subject(make_transfusion()))
    assert (score.low, score.high) == (None, None)
    with pytest.raises(ValueError, match="ask for 1 at least"):
        Perplexity(rows=0).measure(replace(subject(make_transfusion()), seed=1))
    assert torch.isfinite(torch.tensor(score.value))


def test_texts_of_one_picture_are_one_cluster():
    """Five captions of a picture are as likely or unlikely together."""
    made = subject(make_transfusion(), caption=40)
    alone, record = perplexity(made), WORLD.record("caption", "test", 0)
    made.source = Repeated(record)
    assert perplexity(made).low is None, "one picture"
    assert alone.low is not None, "seven pictures"


class Repeated(Shapes):
    """Other texts under one picture."""

    def __init__(self, record):
        super().__init__()
        self.image = record.fields["image"]

    def record(self, task, split, index):
        made = super().record(task, split, index)
        return replace(made, fields={**made.fields, "image": self.image})
