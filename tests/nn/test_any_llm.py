"""Causal language models of other architectures, against the bare model; one that is none.

GPT-2 and Falcon name their layers as they like, Gemma-2 and BLOOM have no SDPA, BLOOM no positions
but its mask's, and Mamba keeps no keys and values.
"""

import pytest
import torch
from tiny_llms import BLIND, save_tiny
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.data.module import Data
from unify.data.shapes import Shapes
from unify.evaluation.score_run import measure
from unify.flow import UniformTime
from unify.metrics.shapes_texts import Captions, VisualQuestions
from unify.nn.connector import Connector, PlainEncoder
from unify.nn.denoiser import SanaDenoiser
from unify.nn.masks import Mask
from unify.nn.pretrained import PretrainedTrunk
from unify.nn.pretrained_vlm import PretrainedVLM
from unify.nn.trunk import Tokens
from unify.paradigm import TextRequest
from unify.paradigms.queries_dit import QueriesDiT
from unify.sampling import TextSampler
from unify.schema.experiment import Recipe
from unify.tokenizers.pixels import Pixels

DIM, N = 32, 3
PROMPTS = ["a red circle", None, "a blue square and a green triangle"]


@pytest.fixture(scope="module", params=BLIND)
def folder(request, tmp_path_factory):
    return save_tiny(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def pair(folder):
    """(ours, the bare model)."""
    import transformers as hf

    return PretrainedVLM(folder), hf.AutoModelForCausalLM.from_pretrained(folder).eval()


def make_queries():
    return torch.randn(N, DIM, generator=torch.Generator().manual_seed(1))


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_what_is_read_and_asked_is_one_pass_of_the_bare_model(pair):
    llm, bare = pair
    queries = make_queries().requires_grad_()
    with torch.no_grad():
        context = llm.read(PROMPTS[:1])
    hidden = llm.ask(context, queries)
    text = llm.render(llm.instructed(PROMPTS[0], None), 0)
    ids = llm.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    x = torch.cat([bare.get_input_embeddings()(ids), queries[None]], 1)
    whole = bare.base_model(inputs_embeds=x).last_hidden_state
    close(torch.cat([context.hidden, hidden], 1), whole)
    result, wanted = (
        torch.autograd.grad(h[:, -N:].square().sum(), queries)[0] for h in (hidden, whole)
    )
    close(result / wanted.abs().max(), wanted / wanted.abs().max())
    assert (result.abs().amax(-1) > 0).all()


@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch_mates(pair):
    llm, _ = pair
    together = llm.ask(llm.read(PROMPTS), make_queries())
    for row in range(3):
        close(together[row : row + 1], llm.ask(llm.read(PROMPTS[row : row + 1]), make_queries()))


@torch.no_grad()
def test_greedy_answers_are_those_of_the_bare_model(pair):
    llm, bare = pair
    asked = ["red?", "what is it", "how many squares are there"]
    inputs = llm.tokenizer(
        [llm.render(text, 0) for text in asked],
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
    )
    inputs.pop("token_type_ids", None)
    ids = bare.generate(**inputs, do_sample=False, max_new_tokens=6)
    wanted = ids[:, inputs["input_ids"].shape[1] :]
    printed = llm.tokenizer.batch_decode(wanted, skip_special_tokens=True)
    assert llm.sample_text(TextRequest(None, asked), TextSampler(max_length=6)) == printed


@torch.no_grad()
def test_flops_of_queries_are_counted(pair):
    llm, _ = pair
    context = llm.read(PROMPTS[:1])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        llm.ask(context, make_queries())
    unread = 4.0 * (N * (N - 1) / 2) * DIM * 2  # a dense kernel scores them too
    measured = counter.get_total_flops() - unread
    assert llm.flops_ask(context.hidden.shape[1], N) == pytest.approx(measured)


@torch.no_grad()
def test_as_a_trunk_it_is_its_own_decoder_or_is_refused_by_name(pair, folder):
    _, bare = pair
    if bare.config.model_type == "bloom":
        with pytest.raises(ValueError, match="a BloomModel cannot be read and then asked"):
            PretrainedTrunk(folder)
        return
    trunk, x = PretrainedTrunk(folder), torch.randn(2, 9, DIM)
    valid, places = torch.ones(2, 9, dtype=torch.bool), torch.arange(9).expand(2, 9)
    wanted = bare.base_model(inputs_embeds=x).last_hidden_state
    close(trunk(Tokens(x, Mask.causal(valid), places)), wanted)
    hidden, chosen = trunk(Tokens(x, Mask.full(valid), places), layers=[1])
    assert not torch.allclose(hidden[:, 0], wanted[:, 0], atol=1e-3)
    assert chosen[1].shape == x.shape
    assert trunk.flops(9, 45) > 0


@pytest.mark.parametrize("kind", [PretrainedVLM, PretrainedTrunk])
def test_one_without_attention_is_refused_by_name(kind, tmp_path):
    folder = save_tiny("mamba", tmp_path)
    with pytest.raises(ValueError, match=r"a Mamba\w+ cannot be read and then asked: .* choose a"):
        kind(folder)


def test_one_that_takes_no_positions_is_refused_as_a_trunk(tmp_path):
    folder = save_tiny("mpt", tmp_path)
    with pytest.raises(ValueError, match="a MptModel goes by masks or positions of its own"):
        PretrainedTrunk(folder)


def test_queries_dit_asks_nothing_about_images_of_one_that_reads_none(pair):
    llm, _ = pair
    denoiser = SanaDenoiser(channels=3, condition_dim=8, width=8, depth=1, heads=2)
    connector = Connector(DIM, 8, PlainEncoder(8, 1, 2))
    model = QueriesDiT(llm, connector, denoiser, Pixels(), UniformTime(), queries=N)
    scored = [Captions(images=2, heldout=2), VisualQuestions(questions=2, heldout=2)]
    recipe = Recipe(model, Data(Shapes(), {"text_to_image": 2}), evaluation=scored)
    assert measure(recipe, {"seed": 0, "weights": ""}, recipe.evaluation) == ([], [])
    words = r"edit: QueriesDiT does not learn it, because its llm \(PretrainedVLM\) reads no images"
    with pytest.raises(ValueError, match=words):
        Recipe(model, Data(Shapes(), {"edit": 2, "text_to_image": 2}))
