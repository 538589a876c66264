"""The small vision-language model: layout, loss, and what it gives to those who condition on it."""

import pytest
import torch
from places import ROOT
from small import learn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.assembly.assemble import open_run
from unify.assembly.exported_weights import load_export, save_export
from unify.batch import Batch, Segment
from unify.config import load_recipe
from unify.evaluation.score_run import evaluate
from unify.nn.frozen import freeze, kept_state
from unify.nn.init import initialise
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder, TimmEncoder
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest
from unify.paradigms.vlm import VLM
from unify.tokenizers.text import Bytes
from unify.training.train_run import train

DIM = 32
ASKED = ["is it red?", "what", "how many"]


def make_vlm(trunk=None, vision=None, seed=0, **settings):
    vision = vision or PatchEncoder(16, 1, 2, patch=4)
    model = VLM(trunk or Trunk(DIM, 2, 2), Bytes(), vision, **settings)
    initialise(model, seed)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture
def asking(images):
    return Batch.image_to_text(
        images, ["red", "blue", "no"], ["a", "b", "c"], questions=ASKED, lengths=(12, 8)
    )


def term(model, batch):
    return model.loss(batch, Noise.for_batch(0, 0, batch))["text_ce"]


def call(model, batch):
    """The tokens that the trunk reads in one loss."""
    seen = []
    handle = model.trunk.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    term(model, batch)
    handle.remove()
    return seen[0]


@torch.no_grad()
def test_a_row_is_the_projected_image_in_its_delimiters_then_text(asking):
    model = make_vlm()
    tokens = call(model, asking)
    x, mask, positions = tokens.x, tokens.mask, tokens.positions
    features = model.project(model.vision(asking.segments[0].images))
    assert torch.equal(x[:, 0], model.embed.weight[-2].expand(3, -1))
    torch.testing.assert_close(x[:, 1:5], features)
    assert torch.equal(x[:, 5], model.embed.weight[-1].expand(3, -1))
    ids, valid = model.text.encode(ASKED, 12)
    assert torch.equal(x[:, 6:18], model.embed(ids))
    assert torch.equal(mask.valid[:, 6:18], valid)
    assert x.shape[1] == 4 + 2 + 12 + 8 == model.tokens(asking) // 3
    assert (positions[:, :6, 0] == torch.arange(6)).all()


def test_image_tokens_are_causal_like_all_others(asking):
    mask = call(make_vlm(), asking).mask
    assert (mask.segment < 0).all()


@torch.no_grad()
def test_the_loss_is_the_chain_rule_over_the_answer(asking):
    model = make_vlm()
    result = term(model, asking)
    images = asking.segments[0].images
    for row, answer in enumerate(["red", "blue", "no"]):
        sequence = model.prefix([(ASKED[row : row + 1], [images[row : row + 1]])])
        ids, _ = model.text.encode([answer], len(answer) + 2)  # bos, letters, eos
        where = sequence.add(model.embed(ids))
        chance = model.to_text(sequence.run(model.trunk)[0, where]).log_softmax(-1)
        steps = [-chance[place - 1, ids[0, place]] for place in range(1, ids.shape[1])]
        torch.testing.assert_close(result.total[row], torch.stack(steps).sum())
        torch.testing.assert_close(result.value[row], torch.stack(steps).mean())
    assert result.count.tolist() == [4, 5, 3]  # letters and eos


def test_gradient_reaches_the_encoder_from_every_text_task(reading, asking):
    for batch in (reading, asking):
        model = make_vlm()
        term(model, batch).value.sum().backward()
        assert model.vision.inward.weight.grad.abs().max() > 0
        assert all(p.grad is not None for p in model.parameters())


def test_answers_learned_by_heart_are_given(asking):
    model = learn(make_vlm(), [asking], 40, {"text_ce"})
    images, questions, answers = (column.data for column in asking.segments)
    assert model.generate_text(TextRequest(images, questions)) == answers
    order = [1, 2, 0]
    asked = [questions[i] for i in order]
    assert model.generate_text(TextRequest(images[order], asked)) == [answers[i] for i in order]


@torch.no_grad()
def test_text_alone_is_a_language_model():
    model = make_vlm()
    result = term(model, Batch.text(["red", "two"], ["a", "b"], 8))
    assert result.count.tolist() == [4, 4]
    assert torch.isfinite(result.value).all()


@torch.no_grad()
def test_an_absent_image_changes_nothing(images):
    model, present = make_vlm(), torch.tensor([True, False, True])

    def batch(pictures):
        answer = Segment.text(["red", "blue", "no"], "target", 8)
        return Batch(
            "caption", [Segment.image(pictures, "condition", present), answer], list("abc")
        )

    first, second = (term(model, batch(pictures)).value for pictures in (images, images.flip(3)))
    assert (first != second).tolist() == [True, False, True]


@torch.no_grad()
def test_an_image_keeps_one_position_with_several_axes(asking):
    model = make_vlm(Trunk(DIM, 2, 2, sections=[2, 1, 1]))
    positions = call(model, asking).positions
    patches = positions[0, 1:5]
    assert patches.tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2]]
    assert positions[0, 5].tolist() == [3, 3, 3]


@torch.no_grad()
def test_flops_are_those_of_a_pass(asking):
    model, one = make_vlm(), asking.rows(slice(0, 1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        term(model, one)
    length = model.tokens(one)
    unread = 4.0 * length * (length - 1) / 2 * DIM * 2  # a dense kernel scores them too
    pixels = 2.0 * model.vision.inward.weight.numel() * 4  # to which no gradient goes
    assert model.flops(one) == pytest.approx(3 * (counter.get_total_flops() - unread) - pixels)


@torch.no_grad()
def test_an_encoder_of_timm_fits_in():
    vision = TimmEncoder("test_vit", pretrained=False, size=32)
    model = make_vlm(vision=vision)
    context = model.read(["a"], [torch.zeros(1, 3, 16, 16)], 6)
    assert context.hidden.shape == (1, 4 + 2 + 6, DIM)
    assert model.context_tokens(6, [(16, 16)]) == 12


@torch.no_grad()
def test_what_is_read_is_laid_out_as_in_training(asking):
    model, images = make_vlm(), asking.segments[0].images
    tokens = call(model, asking)
    seen = []
    model.trunk.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.read(ASKED, [images], 12)
    assert torch.equal(seen[0].x, tokens.x[:, :18])
    assert torch.equal(seen[0].positions, tokens.positions[:, :18])


@torch.no_grad()
def test_the_unconditional_prompt_is_the_tokenizers_null():
    model = make_vlm()
    seen = []
    model.trunk.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.read([None])
    wanted = [model.text.bos, model.text.null, model.text.eos]
    assert torch.equal(seen[0].x[0], model.embed.weight[wanted])


def test_it_trains_and_is_measured_by_the_ordinary_pipeline(tmp_path):
    """Captions and questions are scored; what it does not do is left out, and drawing refused."""
    small = [
        "study=alone",
        f"machine.runs={tmp_path}",
        "machine.tracker=none",
        "evaluation=[{class: unify.metrics.shapes_images.TextToImage},"
        "{class: unify.metrics.shapes_texts.VisualQuestions, questions: 8, heldout: 4},"
        "{class: unify.metrics.perplexity.Perplexity, rows: 4},"
        "{class: unify.metrics.reconstruction.Reconstruction, images: 4},"
        "{class: unify.metrics.speed.Speed, rows: 2, repeats: 1}]",
    ]
    config = load_recipe(ROOT / "experiments" / "vlm.yaml", small, tiny=True)
    run = train(config, say=lambda line: None)
    _, config, recipe = open_run(run.folder)
    result = {row["metric"] for row in evaluate(run, recipe, config)}
    assert {"vqa/accuracy", "vqa/blind", "caption/perplexity", "generate/texts_per_s"} <= result
    assert not any(name.startswith(("text_to_image", "tokenizer")) for name in result)
    with pytest.raises(ValueError, match="VLM does not generate images"):
        recipe.model.generate_image(ImageRequest(["a red circle"]))


def test_a_trained_one_is_frozen_named_and_left_out_of_what_it_is_part_of(tmp_path):
    node = load_recipe(ROOT / "experiments" / "vlm.yaml", tiny=True)["model"]
    trained = make_vlm()
    digest = save_export(trained, node, tmp_path)
    llm = make_vlm(seed=1)
    load_export(llm, tmp_path)
    assert (llm.source_hash, llm.pretrained) == (digest, True)
    parent = torch.nn.ModuleDict({"llm": freeze(llm), "head": torch.nn.Linear(DIM, 1)})
    initialise(parent, 5)
    assert set(kept_state(parent)) == {"head.weight", "head.bias"}
    with torch.no_grad():
        one, other = (model.read(ASKED).hidden for model in (trained, llm))
    assert torch.equal(one, other)
