"""Invariants of masked text: its window, its bound, and decoding block by block."""

import itertools
import math

import pytest
import torch
from small import SIDE, awake, learn, make_masked_text
from test_masked import ATTENTION, hide, seen_by, terms

from unify.batch import Batch
from unify.nn.masking import CosineMasking, LinearMasking
from unify.paradigm import TextRequest


def test_eos_fills_the_window_and_only_a_text_s_own_tokens_are_counted():
    model = make_masked_text(window=9)
    ids, count = model.text_ids(["ab", "abcd"], 7)
    eos, letters = model.text.eos, model.text.bare_ids(["ab", "abcd"])
    assert ids.tolist() == [letters[0] + [eos] * 7, letters[1] + [eos] * 5]
    assert count.tolist() == [3, 5]
    with pytest.raises(ValueError, match=r"a text of 11 tokens .* model.window to 10 or more"):
        model.text_ids(["ab"], 11)


@ATTENTION
def test_a_text_s_length_shows_nowhere(attention, monkeypatch, images):
    """With all hidden, logits do not depend on the text, nor on the length of its column."""
    model = awake(make_masked_text(attention=attention, window=9))
    hide(monkeypatch, model.text_masking, torch.ones(3, 9, dtype=torch.bool))
    logits = seen_by(model.to_logits)
    for texts, length in ((["red", "blue", "no"], 6), (["a", "longer", "word"], 8)):
        terms(model, Batch.image_to_text(images, texts, list("abc"), lengths=(8, length)))
    torch.testing.assert_close(*logits)


@ATTENTION
def test_teacher_forcing_equals_decoding(attention, images):
    """Each pass of the sampler sees what the loss would see with the same tokens hidden."""
    model = awake(make_masked_text(attention=attention))
    asked = ["what?", "which colour is it?", None]
    shown, logits = [], seen_by(model.to_logits)
    add = model.add_letters

    def spy(sequence, ids, hidden):
        shown.append((ids.clone(), hidden.clone()))
        return add(sequence, ids, hidden)

    model.add_letters = spy
    request = TextRequest(images, asked, seed=1)
    model.generate_text(request, temperature=1.0, block=4, steps=2, choice_temperature=1.0)
    assert 2 <= len(shown) <= 8
    for (ids, hidden), seen in zip(list(shown), list(logits), strict=True):
        sequence = model.new_sequence()
        model.add_seen(sequence, images)
        model.add_text(sequence, asked, 30)
        model.token(sequence, model.text.bos, 3)
        where = add(sequence, ids, hidden)
        with torch.no_grad():
            whole = model.to_logits(sequence.run(model.trunk)[:, where])
        torch.testing.assert_close(seen, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("law", [CosineMasking, LinearMasking])
def test_the_bound_is_the_mean_over_orders_and_bounds_the_likelihood(law, monkeypatch, images):
    model = awake(make_masked_text(window=3, text_masking=law("elbo")))
    sets = torch.tensor(list(itertools.product([False, True], repeat=3)))
    chance = model.text_masking.counts(3)[sets.sum(1)] / torch.tensor([1, 3, 3, 1])[sets.sum(1)]
    hide(monkeypatch, model.text_masking, sets)
    logits = seen_by(model.to_logits)
    for text in ("a", "no"):
        batch = Batch.image_to_text(
            images[:1].expand(8, -1, -1, -1), [text] * 8, list(map(str, range(8))), lengths=(8, 4)
        )
        with torch.no_grad():
            term = terms(model, batch)["text_ce"]
            scores = logits.pop().log_softmax(-1)
        ids = model.text_ids([text], 4)[0][0]
        known = {tuple(s): row[range(3), ids] for s, row in zip(sets.tolist(), scores, strict=True)}
        orders = [
            sum(
                known[tuple(place not in order[:done] for place in range(3))][order[done]].item()
                for done in range(3)
            )
            for order in itertools.permutations(range(3))
        ]
        bound = (chance * term.total).sum().item()
        assert bound == pytest.approx(-sum(orders) / 6, rel=1e-5)
        assert bound >= -math.log(sum(map(math.exp, orders)) / 6)
        torch.testing.assert_close(term.value, term.total / 3)
        assert set(term.count.tolist()) == {len(text) + 1}


def test_it_declares_a_bound_and_no_cache():
    model = make_masked_text(attention="causal_text")
    assert (model.likelihood, model.cached, model.causal_text) == ("bound", False, False)


@ATTENTION
def test_texts_learned_by_heart_are_written(attention):
    model = make_masked_text(attention=attention, window=3, text_masking=LinearMasking("sample"))
    images = torch.tensor([-0.9, 0.1, 0.9])[:, None, None, None].expand(3, 3, SIDE, SIDE)
    reading = Batch.image_to_text(images, ["a", "no", "b"], list("abc"), lengths=(8, 4))
    learn(model, [reading], 40, {"text_ce"})
    for block, steps in ((3, 3), (2, 1), (1, 1)):
        texts = model.generate_text(TextRequest(images), block=block, steps=steps)
        assert texts == ["a", "no", "b"]
    assert model.generate_text(TextRequest(images), max_length=1) == ["a", "n", "b"]
