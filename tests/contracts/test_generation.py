"""What every paradigm must do when it generates."""

from itertools import pairwise

import pytest
import torch

from unify.assembly.exported_weights import load_export, save_export
from unify.nn.trunk import Backbone
from unify.paradigm import ImageRequest, TextRequest
from unify.tokenizer import ImageTokenizer

PROMPTS = ["a red circle at the top left", "a blue square", "a green triangle at the top right"]


def text_tasks(subject):
    return [task for task in ("caption", "vqa") if task in subject.tasks]


def questions(subject, rows=3):
    batch = subject.batch("vqa", rows)
    return batch.segments[0].images, batch.segments[1].texts


def test_a_paradigm_that_draws_nothing_says_so(subject):
    if subject.model.tasks & {"text_to_image", "edit", "depth", "super_resolution"}:
        pytest.skip("declares that it draws")
    with pytest.raises(ValueError, match=f"{type(subject.model).__name__} does not generate image"):
        subject.model.generate_image(ImageRequest(PROMPTS))


def test_images_have_the_asked_size_and_range(subject):
    drawn = subject.draw(PROMPTS)
    side = subject.image_batch(1).segments[1].images.shape[-1]
    assert drawn.shape == (3, 3, side, side)
    assert torch.isfinite(drawn).all()
    assert drawn.abs().max() <= 1
    other = (side, 2 * side)
    image = subject.model.draws_with
    if image is not None and image.side:  # of the one size that its tokenizer has
        with pytest.raises(ValueError, match=f"has images of {side}x{side} pixels alone"):
            subject.draw(PROMPTS[:1], size=other)
        return
    assert subject.draw(PROMPTS[:1], size=other).shape == (1, 3, *other)


def test_drawn_images_come_from_the_decoder_that_it_declares(subject, monkeypatch):
    """A ceiling is of the tokenizer that a paradigm draws with."""
    declared = subject.model.draws_with
    for part in subject.model.tokenizers().values():
        if isinstance(part, ImageTokenizer) and part is not declared:
            monkeypatch.setattr(part, "decode", None)
    if declared is None:
        subject.draw(PROMPTS)
        return
    decode = declared.decode
    monkeypatch.setattr(declared, "decode", lambda *args: torch.full_like(decode(*args), 0.25))
    assert set(subject.draw(PROMPTS).flatten().tolist()) == {0.25}


def test_the_softmax_of_a_text_is_over_the_alphabet_that_it_declares(subject, monkeypatch):
    """Perplexities over unlike alphabets are never put in one column."""
    tasks = [t for t in subject.tasks if subject.batch(t, 1).segments[-1].kind == "text"]
    if not tasks or subject.model.likelihood == "none":
        pytest.skip("declares no likelihood of texts")
    widths, inner = [], torch.nn.functional.cross_entropy

    def seen(logits, *args, **kwargs):
        widths.append(logits.shape[1])
        return inner(logits, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", seen)
    subject.terms(subject.batch(tasks[0]))
    assert subject.model.alphabet in (widths or [subject.model.alphabet])


def test_same_seed_same_image_and_another_seed_another(subject):
    first = subject.draw(PROMPTS, seed=3)
    assert torch.equal(first, subject.draw(PROMPTS, seed=3))
    assert torch.equal(first, subject.draw(PROMPTS, seed=4)) != subject.model.seeded


def test_an_image_does_not_depend_on_its_batch_mates(subject):
    together = subject.draw(PROMPTS, seed=5)
    alone = torch.cat([subject.draw([prompt], seed=5) for prompt in PROMPTS])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)


def test_guidance_0_is_unconditional_and_1_is_conditional(subject):
    seeds = [1, 2, 3]
    if subject.model.guided_by == "indicator":
        pytest.skip("declares guidance by an indicator: there is no unconditional text")
    nothing = subject.draw([None] * 3, seed=seeds, guidance=1.0)
    torch.testing.assert_close(
        subject.draw(PROMPTS, seed=seeds, guidance=0.0), nothing, atol=1e-3, rtol=1e-3
    )
    given = subject.draw(PROMPTS, seed=seeds, guidance=1.0)
    assert not torch.equal(given, nothing)
    from_itself = subject.draw(PROMPTS, seed=seeds, guidance=3.0, negative=PROMPTS)
    torch.testing.assert_close(from_itself, given, atol=1e-3, rtol=1e-3)


def test_guidance_starts_at_the_conditional_model_and_changes_it(subject):
    given = subject.draw(PROMPTS, seed=1, guidance=1.0)
    near = subject.draw(PROMPTS, seed=1, guidance=1 + 1e-9)
    torch.testing.assert_close(near, given, atol=1e-3, rtol=1e-3)
    for guidance in (0.0, 4.0):
        assert not torch.equal(subject.draw(PROMPTS, seed=1, guidance=guidance), given)


def test_a_negative_prompt_replaces_the_unconditional_text(subject):
    seeds = [1, 2, 3]
    if subject.model.guided_by == "indicator":
        with pytest.raises(ValueError, match="indicator"):
            subject.draw(PROMPTS, negative=PROMPTS[::-1])
        return
    wanted = subject.draw(PROMPTS[::-1], seed=seeds, guidance=1.0)
    guided = subject.draw(PROMPTS, negative=PROMPTS[::-1], seed=seeds, guidance=0.0)
    torch.testing.assert_close(guided, wanted, atol=1e-3, rtol=1e-3)


def test_guidance_1_skips_the_second_pass(subject):
    if not isinstance(getattr(subject.model, "trunk", None), Backbone):
        pytest.skip("no trunk to count passes of")
    rows = []
    handle = subject.model.trunk.register_forward_hook(lambda m, a, out: rows.append(len(out)))
    subject.draw(PROMPTS, guidance=1.0)
    once = max(rows)
    rows.clear()
    subject.draw(PROMPTS, guidance=2.0)
    handle.remove()
    assert (once, max(rows)) == (3, 6)


def test_saved_and_loaded_again_is_bit_equal(subject, twin, tmp_path):
    save_export(subject.model, subject.config["model"], tmp_path)
    with torch.no_grad():
        for parameter in twin.model.parameters():
            parameter.zero_()
    for name, part in subject.model.tokenizers().items():
        if isinstance(part, torch.nn.Module):
            getattr(twin.model, name).load_state_dict(part.state_dict())
    load_export(twin.model, tmp_path)
    for task in subject.tasks:
        known, again = (model.terms(subject.batch(task)) for model in (subject, twin))
        assert all(torch.equal(term.value, again[name].value) for name, term in known.items())
    assert torch.equal(subject.draw(PROMPTS, seed=1), twin.draw(PROMPTS, seed=1))


def test_two_builds_of_a_yaml_have_the_same_weights(subject, twin):
    for (name, one), other in zip(
        subject.model.named_parameters(), twin.model.parameters(), strict=True
    ):
        assert torch.equal(one, other), name


def test_texts_are_answers_one_per_row(subject):
    if "vqa" not in subject.tasks:
        pytest.skip("the experiment does not train question answering")
    images, asked = questions(subject)
    answers = subject.model.generate_text(TextRequest(images, asked), max_length=6)
    assert len(answers) == 3
    assert all(isinstance(answer, str) for answer in answers)
    alone = [
        subject.model.generate_text(TextRequest(images[i : i + 1], asked[i : i + 1]), max_length=6)[
            0
        ]
        for i in range(3)
    ]
    assert answers == alone


def test_sampled_text_follows_its_seed(subject):
    if not text_tasks(subject):
        pytest.skip("the experiment does not train text")
    images = subject.batch(text_tasks(subject)[0]).segments[0].images

    def write(seed):
        request = TextRequest(images, seed=seed)
        return subject.model.generate_text(request, max_length=8, temperature=1.0)

    assert write(1) == write(1)
    assert write(1) != write(2)


def test_cached_decoding_equals_the_full_forward(subject, monkeypatch):
    """As declared: the hidden states that each text token is predicted from are the same."""
    if not (subject.model.cached and "vqa" in subject.tasks):
        pytest.skip("declares no cached text decoding")
    images, asked = questions(subject)
    trunk = subject.model.trunk

    def run():
        seen = []
        handle = trunk.register_forward_hook(
            lambda m, a, out: seen.append((a[0].x.shape[1], out[:, -1]))
        )
        texts = subject.model.generate_text(TextRequest(images, asked), max_length=6)
        handle.remove()
        return texts, seen

    cached_texts, cached = run()
    monkeypatch.setattr(trunk, "cache", lambda *args: None)
    full_texts, full = run()
    assert cached_texts == full_texts
    assert all(new == 1 for new, _ in cached[1:]), (
        "declared cached, but more than the new token ran"
    )
    assert all(old < new for (old, _), (new, _) in pairwise(full))
    for (_, one), (_, other) in zip(cached, full, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)
