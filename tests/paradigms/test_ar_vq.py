"""Invariants of AR over codes: vocabulary, grammar, loss mask, guidance, cached drawing."""

import pytest
import torch
from small import PROMPTS, SIDE, awake, learn, make_ar

from unify.flow import guide
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest


def terms(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))


def test_vocabulary_ranges_are_disjoint_and_complete():
    model = make_ar()
    text = set(range(model.text.vocab_size))
    grammar = {model.boi, model.eol, model.eoi}
    codes = set(range(model.codes, model.codes + model.image.vocab_size))
    assert len(text) + len(grammar) + len(codes) == model.vocab_size
    assert text | grammar | codes == set(range(model.vocab_size))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (16, 8)])
def test_an_image_is_rows_of_codes_framed_by_its_grammar(height, width):
    model = make_ar()
    images = torch.rand(2, 3, height, width) * 2 - 1
    h, w = height // 4, width // 4
    ids = model.image_ids(images)
    assert ids.shape == (2, h * (w + 1) + 2)
    assert (ids[:, 0] == model.boi).all()
    assert (ids[:, -1] == model.eoi).all()
    rows = ids[:, 1:-1].view(2, h, w + 1)
    assert (rows[..., -1] == model.eol).all()
    assert torch.equal(rows[..., :-1].flatten(1) - model.codes, model.image.encode(images))


def test_only_codes_carry_image_loss(drawing):
    model = awake(make_ar(dropout=0.0))
    term = terms(model, drawing)["image_ce"]
    assert term.count.tolist() == [4, 4, 4]
    ids = model.image_ids(drawing.segments[1].images)
    with torch.no_grad():
        sequence = model.prefix([(PROMPTS, [])])
        start = sequence.length
        sequence.add(model.embed(ids))
        logits = model.to_logits(sequence.run(model.trunk)[:, start:])
    chance = logits.log_softmax(-1)
    for row in range(3):
        wanted = [
            -chance[row, place - 1, ids[row, place]]
            for place in range(1, ids.shape[1])
            if ids[row, place] >= model.codes
        ]
        torch.testing.assert_close(term.value[row], torch.stack(wanted).mean())
        torch.testing.assert_close(term.total[row], torch.stack(wanted).sum())


def test_text_loss_is_over_letters_and_eos(reading):
    assert terms(make_ar(), reading)["text_ce"].count.tolist() == [4, 5, 3]


def test_a_random_head_starts_near_the_uniform_loss(drawing, reading):
    """Log of the vocabulary, and half of the logits' unit variance."""
    model = make_ar()
    wanted = torch.tensor(float(model.vocab_size)).log().item()
    for batch, name in ((drawing, "image_ce"), (reading, "text_ce")):
        value = terms(model, batch)[name].value.mean().item()
        assert value == pytest.approx(wanted + 0.5, abs=1.0)


def test_z_loss_is_the_squared_log_normaliser(drawing):
    model = awake(make_ar())
    value = terms(model, drawing)["z_loss"].value
    assert (value >= 0).all()
    with torch.no_grad():
        model.to_logits.weight.zero_()
    uniform = torch.tensor(float(model.vocab_size)).log().square()
    torch.testing.assert_close(terms(model, drawing)["z_loss"].value, uniform.expand(3))


def test_drawn_codes_are_codes_whatever_the_logits(images):
    model = awake(make_ar())
    with torch.no_grad():
        model.to_logits.weight[: model.codes] = 100.0  # text and grammar are far more likely
    drawn = model.generate_image(ImageRequest(PROMPTS, seed=1))
    codes = model.image.encode(drawn)
    assert drawn.shape == (3, 3, SIDE, SIDE)
    assert torch.equal(model.image.decode(codes, (2, 2)), drawn)


def test_guidance_on_logits_and_on_log_probabilities_is_the_same_distribution():
    u, c = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    raw = guide([u, c], [3.0]).softmax(-1)
    logs = guide([u.log_softmax(-1), c.log_softmax(-1)], [3.0]).softmax(-1)
    torch.testing.assert_close(raw, logs)


def test_drawing_with_the_cache_equals_drawing_without(monkeypatch):
    model = awake(make_ar())
    cached = model.generate_image(ImageRequest(PROMPTS, seed=2), guidance=2.0)
    monkeypatch.setattr(model.trunk, "cache", lambda *args: None)
    assert torch.equal(model.generate_image(ImageRequest(PROMPTS, seed=2), guidance=2.0), cached)


def test_top_k_1_draws_the_most_likely_image_for_every_seed():
    model = awake(make_ar())
    first = model.generate_image(ImageRequest(PROMPTS, seed=1), top_k=1)
    assert torch.equal(first, model.generate_image(ImageRequest(PROMPTS, seed=2), top_k=1))
    assert torch.equal(first, model.generate_image(ImageRequest(PROMPTS, seed=3), temperature=0.0))


def test_likelihood_of_text_is_exact(reading):
    """As declared: the chances of all next tokens sum to one, and total is the chain rule's sum."""
    model = awake(make_ar())
    term = terms(model, reading)["text_ce"]
    ids, valid = model.text.encode(reading.segments[1].texts, 8)
    with torch.no_grad():
        sequence = model.prefix([(None, [reading.segments[0].images])])
        start = sequence.length
        sequence.add(model.embed(ids), valid)
        chance = model.to_logits(sequence.run(model.trunk)[:, start:]).log_softmax(-1)
    torch.testing.assert_close(chance.exp().sum(-1), torch.ones(chance.shape[:2]))
    for row in range(3):
        steps = [
            -chance[row, place - 1, ids[row, place]] for place in range(1, 8) if valid[row, place]
        ]
        torch.testing.assert_close(term.total[row], torch.stack(steps).sum())


def test_pairs_learned_by_heart_are_drawn_and_read(drawing, reading, images):
    model = learn(make_ar(dropout=0.0), [drawing, reading], 40, {"image_ce", "text_ce"})
    wanted = model.image.decode(model.image.encode(images), (2, 2))
    assert torch.equal(model.generate_image(ImageRequest(PROMPTS), temperature=0.0), wanted)
    assert model.generate_text(TextRequest(images)) == reading.segments[1].texts
