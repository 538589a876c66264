"""Invariants of masked prediction: what is hidden, the bound, drawing, and next-token text."""

import itertools
import math

import pytest
import torch
from small import DIM, PROMPTS, SIDE, Brightness, awake, learn, make_masked

from unify.batch import Batch
from unify.nn.masking import CosineMasking, Hidden, LinearMasking
from unify.nn.trunk import Trunk
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest

ATTENTION = pytest.mark.parametrize("attention", ["causal_text", "full"])
PLACES = 4  # of an image of 8 x 8 pixels


class Dark(Brightness):
    """Two codes: a cell is dark or bright."""

    vocab_size = 2

    def encode(self, images):
        return super().encode(images) // 8

    def decode(self, codes, grid):
        return super().decode(codes * 8 + 4, grid)


def hide(monkeypatch, masking, places):
    """Let a masking hide these places [B N], drawn at the share that they are."""
    places = torch.as_tensor(places)
    drawn = Hidden(places, places.float().mean(1))
    monkeypatch.setattr(masking, "draw", lambda *args: drawn)


def seen_by(module):
    outputs = []
    module.register_forward_hook(lambda m, args, out: outputs.append(out))
    return outputs


def terms(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))


def test_what_is_read_alone_has_no_place_in_the_softmax():
    """So no logits whatever can draw the mask or the ends of an image."""
    model = make_masked()
    text, codes = model.text.vocab_size, model.image.vocab_size
    assert model.vocab_size == model.to_logits.weight.shape[0] == text + codes
    assert model.embed.num_embeddings == text + codes + 3
    assert (model.codes, model.mask) == (text, text + codes)


@ATTENTION
def test_what_is_drawn_are_codes_whatever_the_logits(attention):
    model = awake(make_masked(attention=attention))
    with torch.no_grad():
        model.to_logits.weight[: model.codes] = 100.0  # text is far more likely
    for settings in ({}, {"steps": 1}, {"steps": 100}, {"temperature": 0.0, "guidance": 2.0}):
        drawn = model.generate_image(ImageRequest(PROMPTS, seed=1), **settings)
        codes = model.image.encode(drawn)
        assert torch.equal(model.image.decode(codes, (2, 2)), drawn)


@ATTENTION
def test_hidden_codes_are_never_read(attention, monkeypatch, images):
    """Logits of two pictures that differ where codes are hidden are the same."""
    model = awake(make_masked(attention=attention))
    places = torch.tensor([[True, True, False, False]] * 3)
    hide(monkeypatch, model.masking, places)
    logits = seen_by(model.to_logits)
    for shift in (0.0, 0.8):
        changed = images.clone()
        changed[:, :, :4] = (changed[:, :, :4] + 1 + shift) % 2 - 1  # the upper two cells
        terms(model, Batch.text_to_image(PROMPTS, changed, ["a", "b", "c"], 16))
    assert torch.equal(*logits)


@ATTENTION
def test_teacher_forcing_equals_decoding(attention, monkeypatch, drawing):
    """The loss and the sampler see one network: with its prefix cached, and read anew."""
    model = awake(make_masked(attention=attention, dropout=0.0))
    places = torch.tensor([[True, False, True, True], [True] * 4, [False, True, False, False]])
    hide(monkeypatch, model.masking, places)
    logits = seen_by(model.to_logits)
    terms(model, drawing)
    codes = model.image.encode(drawing.segments[1].images)
    prefix = model.prefix([([None] * 3, []), (PROMPTS, [])])
    guided = model.codes_predictor(prefix, (2, 2), [1.0])(codes, places)
    plain = model.codes_predictor(model.prefix([(PROMPTS, [])]), (2, 2))(codes, places)
    torch.testing.assert_close(plain, logits[0][..., model.codes :], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(guided, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("weight", ["token", "elbo"])
@pytest.mark.parametrize("law", [CosineMasking, LinearMasking])
def test_the_bound_is_the_mean_over_orders_and_bounds_the_likelihood(law, weight, monkeypatch):
    """Of all 16 pictures of two codes, exactly: P(x) of drawing one place after another.

    The bound is summed over all sets of hidden places, with the chances of the law.
    """
    model = awake(make_masked(image=Dark(), masking=law(weight), dropout=0.0))
    sets = torch.tensor(list(itertools.product([False, True], repeat=PLACES)))
    chance = model.masking.counts(PLACES)[sets.sum(1)]
    chance = chance / torch.tensor([math.comb(PLACES, n) for n in sets.sum(1)])
    hide(monkeypatch, model.masking, sets)
    logits, total = seen_by(model.to_logits), 0.0
    orders = list(itertools.permutations(range(PLACES)))
    for codes in itertools.product([0, 1], repeat=PLACES):
        picture = model.image.decode(torch.tensor([codes] * len(sets)), (2, 2))
        batch = Batch.text_to_image(["red"] * len(sets), picture, list(map(str, sets)), 8)
        with torch.no_grad():
            bound = (chance * terms(model, batch)["image_ce"].total).sum().item()
            scores = logits.pop().log_softmax(-1)  # [sets N V]
        ids = torch.tensor(codes)[:, None] + model.codes
        known = {
            tuple(s): row[range(PLACES), ids[:, 0]]
            for s, row in zip(sets.tolist(), scores, strict=True)
        }
        of_orders = [
            sum(
                known[tuple(place not in order[:done] for place in range(PLACES))][order[done]]
                for done in range(PLACES)
            ).item()
            for order in orders
        ]
        likelihood = sum(map(math.exp, of_orders)) / len(orders)
        assert bound == pytest.approx(-sum(of_orders) / len(orders), rel=1e-5)
        assert bound >= -math.log(likelihood)
        total += likelihood
    assert total <= 1


def test_all_weights_are_of_one_network_and_one_bound(drawing):
    values = {}
    for weight in ("token", "sample", "inverse_p", "elbo"):
        model = awake(make_masked(masking=CosineMasking(weight), dropout=0.0))
        term = terms(model, drawing)["image_ce"]
        values[weight] = term.value
        assert term.count.tolist() == [PLACES] * 3
        torch.testing.assert_close(term.total, values.setdefault("total", term.total))
        assert torch.equal(term.t, 1 - model.masking.share(Noise.for_batch(0, 0, drawing).t(1)))
    torch.testing.assert_close(values["elbo"], values["total"] / PLACES)
    assert len({tuple(v.tolist()) for v in values.values()}) == 5


def test_a_random_head_starts_near_the_uniform_loss(drawing, reading):
    """Log of the vocabulary, and half of the logits' unit variance."""
    model = make_masked(masking=CosineMasking("sample"))
    wanted = math.log(model.vocab_size)
    for batch, name in ((drawing, "image_ce"), (reading, "text_ce")):
        assert terms(model, batch)[name].value.mean().item() == pytest.approx(wanted + 0.5, abs=1.0)


@ATTENTION
def test_likelihood_of_next_token_text_is_exact(attention, reading):
    """Chances of all next tokens sum to one, and total is the chain rule's sum: of what stands
    before alone, even where the image reads all of itself and of its prompt."""
    model = awake(make_masked(attention=attention))
    term = terms(model, reading)["text_ce"]
    ids, valid = model.text.encode(reading.segments[1].texts, 8)
    for row in range(3):
        total = 0.0
        image = reading.segments[0].images[row : row + 1]
        for place in range(1, int(valid[row].sum())):
            sequence = model.prefix([(None, [image])], answers=True)
            where = sequence.add(model.embed(ids[row : row + 1, :place]))
            with torch.no_grad():
                last = model.to_logits(sequence.run(model.trunk)[:, where.stop - 1])
            chances = last.softmax(-1)[0]
            assert chances.sum().item() == pytest.approx(1, abs=1e-5)
            total -= chances[ids[row, place]].log().item()
        assert term.total[row].item() == pytest.approx(total, rel=1e-4)
        assert term.count[row] == valid[row].sum() - 1


@ATTENTION
@pytest.mark.parametrize("axes", [None, [2, 1, 1]])
def test_a_prompt_reads_the_image_only_where_attention_is_full(attention, axes, drawing):
    model = make_masked(attention=attention, trunk=Trunk(DIM, 2, 2, sections=axes))
    masks = []
    model.trunk.register_forward_pre_hook(lambda m, args: masks.append(args[0].mask))
    terms(model, drawing)
    reads = masks[0].dense()[0, 0]
    real = masks[0].valid[0]
    prompt, image = slice(0, int(real[:16].sum())), slice(17, 17 + PLACES)
    assert reads[image, image].all()
    assert reads[image, prompt].all()
    assert reads[prompt, image].all() == (attention == "full")
    assert reads[prompt, image].any() == (attention == "full")


@ATTENTION
def test_pairs_learned_by_heart_are_drawn_and_read(attention, drawing, reading, images):
    model = make_masked(attention=attention, dropout=0.0, masking=CosineMasking("token"))
    learn(model, [drawing, reading], 40, {"image_ce", "text_ce"})
    wanted = model.image.decode(model.image.encode(images), (2, 2))
    for steps in (2, PLACES):
        drawn = model.generate_image(ImageRequest(PROMPTS), temperature=0.0, steps=steps)
        assert torch.equal(drawn, wanted)
    assert model.generate_text(TextRequest(images)) == reading.segments[1].texts


def test_images_of_one_area_and_other_sides_are_told_apart():
    model = awake(make_masked())
    states = []
    for grid in ((2, 8), (8, 2), (4, 4)):
        sequence = model.new_sequence()
        where = model.add_codes(sequence, torch.full((1, 16), model.mask), grid)
        states.append(sequence.run(model.trunk)[:, where])
    assert not torch.allclose(states[0], states[1], atol=1e-2)
    assert not torch.allclose(states[0], states[2], atol=1e-2)
    drawn = model.generate_image(ImageRequest(PROMPTS, size=(SIDE, 4 * SIDE)))
    assert drawn.shape == (3, 3, SIDE, 4 * SIDE)
