"""A pretrained language model in our own trunk, with its vocabulary: alone, and as a text tower."""

from pathlib import Path

import pytest
import torch
from tiny_llms import make_model, make_tokenizer, save_tiny

from unify.assembly.assemble import open_run
from unify.assembly.exported_weights import load_export, save_export
from unify.batch import Batch
from unify.config import load_recipe
from unify.flow import UniformTime
from unify.nn.frozen import sources
from unify.nn.init import initialise
from unify.nn.masks import Mask
from unify.nn.patches import LinearPatches
from unify.nn.trunk import Tokens
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest
from unify.paradigms.dual_tower import DualTower
from unify.paradigms.vlm import LlamaVLM
from unify.tokenizers.pixels import Pixels
from unify.training.train_run import train

DIM, SIDE = 32, 8
PROMPTS = ["a red circle", "blue", "a green square"]
EXPERIMENT = Path(__file__).parents[2] / "experiments" / "dual_tower_llm.yaml"


@pytest.fixture(scope="module", params=["qwen2", "llama", "tied"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    if request.param != "tied":
        return save_tiny(request.param, path)
    torch.manual_seed(0)
    model, tokenizer = make_model("llama", make_tokenizer("llama"))
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def bare(folder):
    import transformers as hf

    return hf.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture
def ids(bare):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, bare.config.vocab_size, (2, 9), generator=generator)


def logits(trunk, embed, head, ids):
    valid = torch.ones_like(ids, dtype=torch.bool)
    return head(
        trunk(Tokens(embed(ids), Mask.causal(valid), torch.arange(ids.shape[1]).expand_as(ids)))
    )


def dual(folder, **settings):
    parts = {"image": Pixels(), "patches": LinearPatches(3, DIM, 4), "time": UniformTime()}
    model = DualTower(llm=LlamaVLM(folder), size=SIDE, **parts, **settings)
    initialise(model, 0)
    return model.eval()


@torch.no_grad()
def test_its_logits_are_those_of_the_bare_model(folder, bare, ids):
    llm = LlamaVLM(folder).eval()
    initialise(llm, 0)
    result = logits(llm.trunk, llm.embed, llm.to_text, ids)[..., : bare.config.vocab_size]
    torch.testing.assert_close(result, bare(ids).logits, atol=1e-4, rtol=1e-4)
    printed = llm.text.encode(["a red circle"], 9)[0][0].tolist()
    known = llm.text.model("a red circle", add_special_tokens=False)["input_ids"]
    assert printed[1 : 1 + len(known)] == known


def test_tokens_beyond_the_vocabulary_are_like_the_others_and_always_the_same(folder, bare):
    """Specials, and what a tokenizer knows beyond its model: a Qwen2 of this library has one."""
    one, other = LlamaVLM(folder), LlamaVLM(folder)
    initialise(other, 7)
    for name, count in (("embed", 2), ("to_text", 0)):
        table, again = getattr(one, name).weight, getattr(other, name).weight
        assert torch.equal(table, again)
        known, new = table[: bare.config.vocab_size], table[bare.config.vocab_size :]
        assert len(table) == one.text.vocab_size + count > len(known)
        assert 0.3 < (new.std() / known.std()).item() < 3
        assert torch.cdist(new, new).fill_diagonal_(9).min() > 0.1 * known.std()
    assert not one.trunk.words  # the tables are held once


def test_it_learns_from_text_and_with_an_encoder_from_images(folder):
    blind, seeing = LlamaVLM(folder), LlamaVLM(folder, PatchEncoder(16, 1, 2, patch=4))
    assert (blind.sees, blind.tasks) == (False, {"text"})
    assert seeing.tasks == {"caption", "vqa", "text"}
    images = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    batch = Batch.image_to_text(images, PROMPTS, list("abc"), lengths=(8, 8))
    noise = Noise.for_batch(0, 0, batch)
    seeing.loss(batch, noise)["text_ce"].value.sum().backward()
    assert all(p.grad is not None for p in seeing.parameters())
    with pytest.raises(ValueError, match="LlamaVLM reads no images: give it a vision encoder"):
        blind.loss(batch, noise)


@torch.no_grad()
def test_as_a_text_tower_it_still_speaks_and_the_image_tower_starts_as_its_copy(folder, bare, ids):
    model = dual(folder)
    result = logits(model.trunk, model.embed, model.to_text, ids)[..., : bare.config.vocab_size]
    torch.testing.assert_close(result, bare(ids).logits, atol=1e-4, rtol=1e-4)
    towers = model.trunk.text.state_dict(), model.trunk.image.state_dict()
    assert all(torch.equal(value, towers[1][name]) for name, value in towers[0].items())
    assert torch.equal(model.embed.weight, dual(folder).embed.weight)


def test_a_frozen_text_tower_is_stored_by_its_source_alone(folder, tmp_path):
    model = dual(folder, text_tower="frozen")
    assert sources(model).keys() == {"trunk.text", "embed", "to_text"}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * parameter.requires_grad  # the patches' last layer starts at zero
    batch = Batch.text_to_image(PROMPTS, torch.rand(3, 3, SIDE, SIDE), list("abc"), 8)
    model.loss(batch, Noise.for_batch(0, 0, batch))["image_flow"].value.sum().backward()
    assert all(p.grad is None for p in model.trunk.text.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.trunk.image.parameters())
    save_export(model, {"class": "unify.x.Y"}, tmp_path)
    other = dual(folder, text_tower="frozen")
    load_export(other, tmp_path)
    drawn = [one.generate_image(ImageRequest(PROMPTS), steps=2) for one in (model, other)]
    assert torch.equal(*drawn)


def test_another_architecture_is_named(tmp_path):
    folder = save_tiny("gpt2", tmp_path / "gpt2")
    with pytest.raises(ValueError, match="a gpt2 model is not of Llama, Qwen2 or Qwen3 type"):
        LlamaVLM(folder)


def test_the_shipped_experiment_starts_from_a_folder(tmp_path):
    folder = save_tiny("qwen2", tmp_path / "qwen2")
    llm = f"model.llm={{class: unify.paradigms.vlm.LlamaVLM, source: {folder}}}"
    machine = [f"machine.runs={tmp_path}/runs", "machine.tracker=none", "model.patches.dim=32"]
    config = load_recipe(EXPERIMENT, [llm, *machine, "model.text_tower=frozen"], tiny=True)
    run = train(config, lambda text: None)
    model = open_run(run.folder)[2].model
    known = LlamaVLM(folder).trunk.state_dict()
    towers = model.trunk.text.state_dict(), model.trunk.image.state_dict()
    assert all(torch.equal(value, towers[0][name]) for name, value in known.items())
    assert not all(torch.equal(value, towers[1][name]) for name, value in known.items())
    assert len(model.generate_text(TextRequest(None, ["red?"]), max_length=3)) == 1
