"""Paradigms in one sequence that go on from a language model, and CrossFlow over its features."""

import pytest
import torch
from places import EXPERIMENTS
from safetensors.torch import load_file
from small import DIM, PROMPTS, SIDE, Brightness, awake
from torch_flops import by_torch

from unify.assembly.assemble import assemble
from unify.assembly.exported_weights import load_export, save_export
from unify.batch import Batch
from unify.config import load_recipe
from unify.flow import LogitNormalTime
from unify.nn.flops import dense
from unify.nn.image_layers import ImageLayers
from unify.nn.init import initialise
from unify.nn.masking import CosineMasking
from unify.nn.patches import LinearPatches
from unify.nn.provenance import mark_loaded
from unify.nn.text_features import FeatureEncoder
from unify.nn.text_latent import ImageText, Variational
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder
from unify.nn.words import LanguageTrunk
from unify.noise import Noise
from unify.paradigms.ar_vq import ArVQ
from unify.paradigms.crossflow import CrossFlow
from unify.paradigms.masked import Masked
from unify.paradigms.transfusion import Transfusion
from unify.paradigms.vlm import VLM
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import BPE, Bytes

KEYS, V = ["a", "b", "c"], Bytes.vocab_size


@pytest.fixture
def llm() -> VLM:
    """A language model that counts as trained."""
    model = VLM(Trunk(DIM, 2, 2), Bytes(), PatchEncoder(16, 1, 2, patch=2))
    initialise(model, 1)
    mark_loaded(awake(model), "0123456789ab")
    return model


def transfusion(llm, text=None, seed=0):
    patches = LinearPatches(3, DIM, 4)
    parts = (LanguageTrunk(llm), text or Bytes(), Pixels(), patches, LogitNormalTime())
    model = Transfusion(*parts, condition_on="clean_copy", size=SIDE)
    initialise(model, seed)
    return model


def ar_vq(llm, text=None, seed=0):
    model = ArVQ(LanguageTrunk(llm), text or Bytes(), Brightness(), size=SIDE)
    initialise(model, seed)
    return model


def layered(llm, text=None, seed=0):
    model = ArVQ(ImageLayers(LanguageTrunk(llm)), text or Bytes(), Brightness(), size=SIDE)
    initialise(model, seed)
    return model


def masked(llm, text=None, seed=0):
    parts = (LanguageTrunk(llm), text or Bytes(), Brightness(), CosineMasking())
    model = Masked(*parts, size=SIDE)
    initialise(model, seed)
    return model


def crossflow(llm, text=None, seed=0):
    model = CrossFlow(
        text=text or Bytes(),
        encoder=FeatureEncoder(llm, Trunk(DIM, 1, 2), Variational(), 3, 4),
        regulariser=ImageText(PatchEncoder(DIM, 1, 2), 3 * SIDE * SIDE),
        trunk=Trunk(DIM, 2, 2),
        image=Pixels(),
        patches=LinearPatches(3, DIM, 4),
        time=LogitNormalTime(),
        size=SIDE,
    )
    initialise(model, seed)
    return model


MAKERS = {
    **{"ar_vq": ar_vq, "image_layers": layered, "masked": masked},
    **{"transfusion": transfusion, "crossflow": crossflow},
}


def test_transfusion_says_of_a_text_what_the_language_model_says_to_the_bit(llm):
    batch = Batch.text(PROMPTS, KEYS, 16)
    noise = Noise.for_batch(0, 0, batch)
    expected = llm.loss(batch, noise)["text_ce"].value
    assert torch.equal(transfusion(llm).loss(batch, noise)["text_ce"].value, expected)


@pytest.mark.parametrize("ar_vq", [ar_vq, layered])
def test_ar_vq_has_the_language_model_s_states_and_text_logits_to_the_bit(llm, ar_vq):
    model, ids = ar_vq(llm), Bytes().encode(PROMPTS, 16)[0]
    assert torch.equal(model.embed(ids), llm.embed(ids))
    ends = torch.tensor([[model.boi, model.eoi]])
    assert torch.equal(model.embed(ends), llm.embed(torch.tensor([[V, V + 1]])))
    hidden = model.prefix([(PROMPTS, [])]).run(model.trunk)
    assert torch.equal(hidden, llm.read(PROMPTS).hidden)
    assert torch.equal(model.text_logits(hidden), llm.text_logits(hidden))


def test_masked_has_the_language_model_s_text_to_the_bit(llm):
    """And its boi and eoi, which stand behind codes and mask."""
    model, batch = masked(llm), Batch.text(PROMPTS, KEYS, 16)
    ends = torch.tensor([[model.mask + 1, model.mask + 2]])
    assert torch.equal(model.embed(ends), llm.embed(torch.tensor([[V, V + 1]])))
    ids = Bytes().encode(PROMPTS, 16)[0]
    hidden = model.prefix([(PROMPTS, [])]).run(model.trunk)
    assert torch.equal(model.embed(ids), llm.embed(ids))
    assert torch.equal(model.text_logits(hidden), llm.text_logits(hidden))
    assert model.loss(batch, Noise.for_batch(0, 0, batch)).keys() == {"text_ce"}


def test_only_rows_that_the_language_model_lacks_are_drawn_from_the_seed(llm):
    one, other = (dict(ar_vq(llm, seed=seed).named_parameters()) for seed in (0, 1))
    differ = {name for name in one if not torch.equal(one[name], other[name])}
    assert differ == {"embed.new.weight", "to_logits.new.weight"}
    assert one["embed.new.weight"].shape == (1 + Brightness.vocab_size, DIM), "eol and codes"


@pytest.mark.parametrize("name", MAKERS)
def test_flops_are_those_that_torch_counts(name, llm, drawing, reading):
    model = MAKERS[name](llm).train()
    for batch in [drawing] if name == "crossflow" else [drawing, reading]:
        with dense():
            stated = model.flops(batch)  # pixels and their brightness cost no product
        assert stated == pytest.approx(by_torch(model, batch), rel=0.02), batch.task


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_exported_loads_into_a_fresh_build(name, llm, tmp_path):
    model, other = MAKERS[name](llm), MAKERS[name](llm, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    wanted = {key: value.clone() for key, value in model.state_dict().items()}
    save_export(model, {"class": "unify.x.Y"}, tmp_path)
    load_export(other, tmp_path)
    assert all(torch.equal(value, wanted[key]) for key, value in other.state_dict().items())
    left_out = {key for key in wanted if ".features." in key}
    assert set(load_file(tmp_path / "model.safetensors")) == wanted.keys() - left_out


@pytest.mark.parametrize("name", MAKERS)
def test_a_text_tokenizer_that_is_not_the_language_model_s_is_refused(name, llm):
    with pytest.raises(ValueError, match=r"(trunk|encoder)\.llm reads other tokens than `text`"):
        MAKERS[name](llm, BPE(300))


# From YAML: the weights of a run or an export

START = {
    "ar_vq": ["trunk", "unify.nn.words.LanguageTrunk"],
    "transfusion": ["trunk", "unify.nn.words.LanguageTrunk"],
    "crossflow": ["encoder", "unify.nn.text_features.FeatureEncoder"],
}
NAMES = {  # of the arm -> of the language model
    "ar_vq": {"trunk.body.": "trunk.", "embed.known.": "embed.", "to_logits.known.": "to_text."},
    "transfusion": {"trunk.body.": "trunk.", "embed.": "embed.", "to_text.": "to_text."},
    "crossflow": {"encoder.features.trunk.": "trunk.", "encoder.features.embed.": "embed."},
}
TEXT = "{class: unify.tokenizers.text.Bytes}"
VQ = (
    "{class: unify.tokenizers.vq.VQ, widths: [8, 8], "
    "quantizer: {class: unify.tokenizers.vq.FSQCodes}}"
)
VAE = "{class: unify.tokenizers.vae.VAE, channels: 4, widths: [8, 8, 8]}"


@pytest.mark.parametrize("name", START)
def test_an_arm_of_a_yaml_starts_with_the_exported_weights_to_the_bit(name, tmp_path):
    vlm = load_recipe(EXPERIMENTS / "vlm.yaml", ["model.vision.dim=32"], tiny=True)
    source = assemble(vlm, {}).model
    initialise(source, 3)
    save_export(source, vlm["model"], tmp_path / "llm")

    place, cls = START[name]
    node = f"class: {cls}, llm: {{weights: {tmp_path / 'llm'}}}"
    words = [f"model.text={TEXT}", f"model.image={VQ if name == 'ar_vq' else VAE}"]
    if name == "crossflow":
        node += ", trunk: {class: unify.nn.trunk.Trunk, dim: 32, depth: 1, heads: 2}, channels: 4"
        node += ", posterior: {class: unify.nn.text_latent.Variational}"
    elif name == "transfusion":
        words.append("model.patches.dim=32")
    config = load_recipe(EXPERIMENTS / f"{name}.yaml", [f"model.{place}={{{node}}}", *words])
    model = assemble(config, {}).model
    initialise(model, 0)
    state, saved = model.state_dict(), load_file(tmp_path / "llm/model.safetensors")
    for own, theirs in NAMES[name].items():
        keys = {key for key in saved if key.startswith(theirs)}
        assert keys
        for key in keys:
            assert torch.equal(state[own + key.removeprefix(theirs)], saved[key]), key
