"""Understanding apart from drawing: neither path's loss reaches the other's parts (Janus)."""

import pytest
import torch
from small import (
    DIM,
    PROMPTS,
    SIDE,
    awake,
    make_ar,
    make_mar,
    make_masked,
    make_masked_text,
    make_transfusion,
)

from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest
from unify.paradigms.masked_text import MaskedText

MAKERS = {
    "ar_vq": make_ar,
    "transfusion": lambda **settings: make_transfusion(condition_on="clean_copy", **settings),
    "transfusion, noised": make_transfusion,
    "masked": make_masked,
    "masked, full": lambda **settings: make_masked(attention="full", **settings),
    "masked_text": make_masked_text,
    "mar": make_mar,
    "mar, encoder": lambda **settings: make_mar(encoder=Trunk(DIM, 1, 2), **settings),
}
DRAWING = ("patches.", "flow_head.", "inward.", "unknown.", "encoder.")  # parameters that draw


@pytest.fixture(params=MAKERS)
def model(request):
    return awake(MAKERS[request.param](understand=PatchEncoder(16, 1, 2, patch=4)))


def gradients(model, batch):
    """{name of a parameter: largest gradient} of the loss of one batch."""
    model.train()
    terms = model.loss(batch, Noise.for_batch(0, 0, batch))
    model.zero_grad()
    sum(term.value.mean() for term in terms.values()).backward()
    named = model.named_parameters()
    return {n: 0.0 if p.grad is None else float(p.grad.abs().max()) for n, p in named}


def rows(model, table):
    """Gradient of the rows of text and of what draws, of `embed` or `to_logits`: 2 numbers."""
    gradient = getattr(model, table).weight.grad.abs().amax(1)
    words, drawing = model.text.vocab_size, torch.arange(len(gradient)) >= model.codes
    if isinstance(model, MaskedText):
        drawing &= torch.arange(len(gradient)) != model.mask  # hides letters and codes alike
    return float(gradient[:words].max()), float(gradient[drawing].max())


def test_a_text_loss_reaches_nothing_that_draws(model, reading):
    reached = gradients(model, reading)
    drawing = [name for name in reached if name.startswith(DRAWING)]
    assert not any(reached[name] for name in drawing)
    seen = [name for name in reached if name.startswith("seen.")]
    assert all(reached[name] > 0 for name in seen), "the reading path learns"
    if hasattr(model, "codes"):
        for table in ("embed", "to_logits"):
            words, codes = rows(model, table)
            assert words > 0
            assert codes == 0


def test_an_image_loss_reaches_nothing_that_reads(model, drawing):
    reached = gradients(model, drawing)
    assert not any(value for name, value in reached.items() if name.startswith("seen."))
    if hasattr(model, "codes"):
        words, codes = rows(model, "to_logits")
        assert words == 0
        assert codes > 0
    else:
        assert reached["to_text.weight"] == 0
        drawing = [value for name, value in reached.items() if name.startswith(DRAWING)]
        assert drawing
        assert all(drawing)


def test_answers_depend_on_the_encoder_and_pictures_do_not(model):
    images = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    request = ImageRequest(PROMPTS)
    drawn, read = model.generate_image(request), logits(model, images)
    with torch.no_grad():
        for parameter in model.seen.parameters():
            parameter.mul_(-1.7)
    assert torch.equal(model.generate_image(request), drawn)
    assert not torch.allclose(logits(model, images), read)


def test_an_image_that_was_seen_is_not_encoded_and_counts_its_own_tokens(model, reading, drawing):
    assert model.encoded(reading) == []
    assert model.encoded(drawing) != []
    text = sum(column.length for column in reading.segments if column.kind == "text")
    if isinstance(model, MaskedText):
        text = model.window + 1
    assert model.tokens(reading) == len(reading) * ((SIDE // 4) ** 2 + 2 + text)


def test_without_an_encoder_nothing_is_new(reading):
    names = dict(make_ar().named_parameters()).keys()
    assert names == dict(make_ar(understand=None).named_parameters()).keys()
    assert not any(name.startswith("seen") for name in names)


def test_text_is_drawn_among_words_alone():
    """The softmax of a text is over text: what codes would be likely changes no likelihood."""
    model = awake(make_ar(understand=PatchEncoder(16, 1, 2, patch=4)))
    assert model.alphabet == model.text.vocab_size
    images = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    with torch.no_grad():
        before = model.generate_text(TextRequest(images), max_length=5)
        model.to_logits.weight[model.codes :] += 100 / DIM
    assert model.generate_text(TextRequest(images), max_length=5) == before


def test_the_time_can_stand_in_place_of_boi(drawing):
    """Then no loss reaches boi's row, and with a time of its own every row reads another token."""
    for token in (False, True):
        model = awake(make_transfusion(condition_on="clean_copy", time_token=token))
        gradients(model, drawing)
        boi = model.embed.weight.grad[-2].abs().max()
        assert (boi == 0) == token
        first = [column.x[:, 0] for column in framed(model, drawing)][-3]  # boi, patches, eoi
        assert bool((first.std(0) > 0).any()) == token


def framed(model, batch):
    """The columns of latents at three times, with their frame."""
    sequence, images = model.prefix([(PROMPTS, [])]), batch.segments[-1].images
    model.add_latents(sequence, model.image.encode(images), torch.tensor([0.1, 0.5, 0.9]))
    return sequence.columns


def logits(model, images):
    sequence = model.prefix([(None, [images])], answers=True)
    model.token(sequence, model.text.bos, len(images))
    with torch.no_grad():
        return model.text_logits(sequence.run(model.trunk)[:, -1])
