"""Language models that are read and asked, ours and those of transformers: what must hold of both.

Numbers are those of the invariants of frozen language models with learned queries.
"""

import copy

import pytest
import torch
from tiny_llms import FAMILIES, SEEING, SIDE, make_model, make_tokenizer, save_tiny
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.nn.frozen import content_hash, freeze
from unify.nn.init import initialise
from unify.nn.pretrained_vlm import DESCRIBE, PretrainedVLM
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder
from unify.paradigm import TextRequest
from unify.paradigms.vlm import VLM
from unify.sampling import TextSampler
from unify.tokenizers.text import Bytes

DIM, N = 32, 5
PROMPTS = ["a red circle", None, "a blue square and a green triangle"]


def make_ours(blind=False, **settings):
    vision = None if blind else PatchEncoder(DIM, 1, 2, patch=8)
    model = VLM(Trunk(DIM, 2, 2, **settings), Bytes(), vision)
    initialise(model, 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return freeze(model)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: save_tiny(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def models(folders):
    built = {"ours": make_ours(), "axes": make_ours(sections=[2, 1, 1]), "blind": make_ours(True)}
    return built | {family: PretrainedVLM(folder) for family, folder in folders.items()}


@pytest.fixture(params=["ours", "axes", "blind", *FAMILIES])
def llm(request, models):
    return models[request.param]


def picture(rows=3, seed=0):
    return torch.rand(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def shown(llm, rows=3, seed=0):
    """One image per row where the model reads images."""
    return [picture(rows, seed)] if llm.sees else []


def make_queries(n=N, seed=1):
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed)) * DIM**-0.5


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_weights_do_not_drift_and_have_no_optimizer_state(llm):
    """25 steps of AdamW with decay: queries and a head learn, the model stays as it is."""
    model = torch.nn.Module()
    model.llm, model.head = llm, torch.nn.Linear(DIM, 1)
    model.queries = torch.nn.Parameter(make_queries())
    before = content_hash(llm)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(25):
        with torch.no_grad():
            context = llm.read(PROMPTS, shown(llm))
        optimizer.zero_grad()
        model.head(llm.ask(context, model.queries)).square().mean().backward()
        optimizer.step()
    assert content_hash(llm) == before
    assert all(p.grad is None and p not in optimizer.state for p in llm.parameters())
    assert not torch.equal(model.queries, make_queries())


@torch.no_grad()
def test_queries_change_nothing_before_them(llm):
    context = llm.read(PROMPTS, shown(llm))
    kept = [x.clone() for x in (*context.cache.keys, *context.cache.values, context.hidden)]
    queries, other = make_queries(), make_queries()
    other[2] += 1.0
    first, second = llm.ask(context, queries), llm.ask(context, other)
    assert torch.equal(first[:, :2], second[:, :2])
    assert ((first - second).abs().amax(-1) > 1e-6)[:, 2:].all()
    now = (*context.cache.keys, *context.cache.values, context.hidden)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))
    assert torch.equal(llm.ask(context, queries), first)


@torch.no_grad()
def test_the_first_of_twice_as_many_queries_are_those_of_half(llm):
    context, many = llm.read(PROMPTS, shown(llm)), make_queries(2 * N)
    close(llm.ask(context, many)[:, :N], llm.ask(context, many[:N]))


def test_every_query_gets_a_gradient_and_the_embedding_none(llm):
    with torch.no_grad():
        context = llm.read(PROMPTS, shown(llm))
    assert not context.hidden.requires_grad
    queries = make_queries().requires_grad_()
    llm.ask(context, queries).square().sum().backward()
    assert torch.isfinite(queries.grad).all()
    assert (queries.grad.abs().amax(-1) > 0).all()
    assert all(p.grad is None for p in llm.parameters())


def test_a_frozen_model_stays_in_eval_mode(llm):
    parent = torch.nn.ModuleDict({"llm": llm}).train()
    assert parent.training
    assert not any(part.training for part in llm.modules())


def whole(llm, prompt, images, queries):
    """The queries' states by one pass over everything, without a cache."""
    if isinstance(llm, VLM):
        sequence = llm.prefix([([prompt], images)])
        where = sequence.add(queries[None])
        return sequence.run(llm.trunk)[:, where]
    seen = {}
    handle = llm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        llm.read([prompt], images)
    handle.remove()
    x, places = seen.get("inputs_embeds"), seen["position_ids"]
    if x is None:
        x = llm.model.get_input_embeddings()(seen["input_ids"])
    after = places.max() + 1 + torch.arange(len(queries))
    return llm.decoder(
        inputs_embeds=torch.cat([x, queries[None]], 1),
        position_ids=torch.cat([places, after.expand(*places.shape[:-1], -1)], -1),
    ).last_hidden_state[:, -len(queries) :]


def test_the_cached_prefix_gives_the_states_and_gradients_of_the_full_forward(llm):
    images, result = shown(llm, 1), []
    for way in ("cached", "whole"):
        queries = make_queries().requires_grad_()
        if way == "cached":
            with torch.no_grad():
                context = llm.read(PROMPTS[:1], images)
            hidden = llm.ask(context, queries)
        else:
            hidden = whole(llm, PROMPTS[0], images, queries)
        (hidden * torch.arange(N * DIM).view(N, DIM)).sum().backward()
        result.append((hidden.detach(), queries.grad))
    close(result[0][0], result[1][0])
    close(result[0][1], result[1][1], 1e-4 * result[0][1].abs().max().item())


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing(llm):
    images, queries = shown(llm), make_queries()
    together = llm.read(PROMPTS, images)
    longer = llm.read(PROMPTS, images, 40)
    answers = llm.ask(together, queries)
    close(answers, llm.ask(longer, queries))
    for row in range(3):
        mine = [image[row : row + 1] for image in images]
        alone = llm.read(PROMPTS[row : row + 1], mine)
        close(answers[row : row + 1], llm.ask(alone, queries))
        close(together.hidden[row][together.valid[row]], alone.hidden[0][alone.valid[0]])


@torch.no_grad()
def test_queries_stand_right_after_their_own_prefix(llm):
    """Positions len(prefix) + 0..N-1, whatever the padding; ours: an image takes as many."""
    context = llm.read(PROMPTS, ())
    start = context.state.next if isinstance(llm, VLM) else context.state
    assert start.tolist() == context.valid.sum(1).tolist()


@torch.no_grad()
def test_a_long_caption_loses_its_own_tokens_only(llm):
    caption = "a red circle and a blue square"
    short, long = (llm.read([caption], (), n) for n in (4, 6))
    if isinstance(llm, VLM):
        ids = llm.text.encode([caption], 6)[0][0].tolist()
        assert (ids[0], ids[-1]) == (llm.text.bos, llm.text.eos)
        assert long.valid.all()
        return
    assert int(long.valid.sum() - short.valid.sum()) == 2
    tail = "<|im_end|>\n<|im_start|>assistant\n"
    for length in (4, 6, 100):
        text = llm.render(llm.instructed(caption, length), 0)
        assert text.endswith(tail)
        assert text.startswith("<|im_start|>user\nGenerate an image: a")
    close(llm.read([caption], (), 100).hidden, llm.read([caption]).hidden)


@torch.no_grad()
def test_as_many_vectors_as_queries(llm):
    context = llm.read(PROMPTS, shown(llm))
    assert llm.ask(context, make_queries(3)).shape == (3, 3, DIM)
    own = torch.stack([make_queries(seed=seed) for seed in range(3)])
    answers = llm.ask(context, own)
    assert answers.shape == (3, N, DIM)
    close(answers[1], llm.ask(context, own[1])[1])


@torch.no_grad()
def test_prompts_and_images_are_read(llm):
    queries, images = make_queries(), shown(llm)
    first = llm.ask(llm.read(PROMPTS, images), queries)
    other = llm.ask(llm.read(PROMPTS[::-1], images), queries)
    assert not torch.allclose(first[0], other[0], atol=1e-4)
    if images:
        other = llm.ask(llm.read(PROMPTS, shown(llm, seed=5)), queries)
        assert (first - other).abs().amax((1, 2)).min() > 1e-4
        alone = llm.ask(llm.read(None, images), queries)
        assert alone.shape == first.shape
        two = llm.ask(llm.read(PROMPTS, [*images, *shown(llm, seed=5)]), queries)
        assert (first - two).abs().amax((1, 2)).min() > 1e-4


@torch.no_grad()
def test_hidden_states_end_with_the_final_norm_and_fit_the_head(llm):
    context = llm.read(PROMPTS[:1], shown(llm, 1))
    assert context.hidden.shape == (1, context.cache.length, llm.dim)
    assert context.valid.shape == context.hidden.shape[:2]
    if not isinstance(llm, VLM):
        weight = llm.decoder.norm.weight
        close((context.hidden / weight).square().mean(-1), torch.ones_like(context.hidden[..., 0]))


@torch.no_grad()
def test_tokens_and_flops_are_those_of_a_pass(llm):
    sizes = [(SIDE, SIDE)] if llm.sees else []
    length = 6
    context = llm.read(["a red circle and a blue square"], shown(llm, 1), length)
    tokens = llm.context_tokens(length, sizes)
    assert tokens == context.hidden.shape[1]
    layers, width = context.cache.keys, 4 * 8 if not isinstance(llm, VLM) else DIM

    def counted(function):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            function()
        return counter.get_total_flops()

    unread = 4.0 * (N * (N - 1) / 2) * width * len(layers)  # a dense kernel scores them too
    measured = counted(lambda: llm.ask(context, make_queries()))
    assert llm.flops_ask(tokens, N) == pytest.approx(measured - unread)
    measured = counted(lambda: llm.read(["a red circle and a blue square"], shown(llm, 1), length))
    assert llm.flops_read(length, sizes) == pytest.approx(measured, rel=0.1)
    assert llm.flops_read(length, sizes) >= llm.flops_ask(0, length)


def test_reading_nothing_is_named(llm):
    with pytest.raises(ValueError, match="read needs prompts, images, or both"):
        llm.read(None)


@torch.no_grad()
def test_answers_follow_their_seed_and_no_batch_mate(llm):
    images, asked = shown(llm) or [None], ["what is it", "red?", "how many squares are there"]
    settings = {"max_length": 6, "temperature": 1.0}
    answers = llm.sample_text(
        TextRequest(images[0], asked, seed=[4, 5, 6]), TextSampler(**settings)
    )
    assert answers == llm.sample_text(
        TextRequest(images[0], asked, seed=[4, 5, 6]), TextSampler(**settings)
    )
    assert answers != llm.sample_text(
        TextRequest(images[0], asked, seed=[7, 8, 9]), TextSampler(**settings)
    )
    for row in range(3):
        mine = None if images[0] is None else images[0][row : row + 1]
        alone = llm.sample_text(
            TextRequest(mine, asked[row : row + 1], seed=[4 + row]), TextSampler(**settings)
        )
        assert alone == answers[row : row + 1]


# Those of transformers: the bare model, bit for bit


@pytest.fixture(params=FAMILIES)
def pair(request, models, folders):
    """(ours, the bare model)."""
    import transformers as hf

    kind = hf.AutoModelForImageTextToText if request.param in SEEING else hf.AutoModelForCausalLM
    return models[request.param], kind.from_pretrained(folders[request.param]).eval()


def bare_inputs(llm, texts, images):
    """As a user of transformers makes them."""
    from PIL import Image

    if not llm.sees:
        chats = [[{"role": "user", "content": text}] for text in texts]
    else:
        arrays = ((images.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
        chats = [
            [{"role": "user", "content": [
                {"type": "image", "image": Image.fromarray(array)}, {"type": "text", "text": text}
            ]}]
            for text, array in zip(texts, arrays, strict=True)
        ]  # fmt: skip
    side = {"padding_side": "left"}
    extra = {"processor_kwargs": {"padding": True, **side}}
    if not llm.sees:
        extra = {"padding": True, "tokenizer_kwargs": side}
    return llm.processor.apply_chat_template(
        chats,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        **extra,
    )


@torch.no_grad()
def test_logits_and_states_are_bit_equal_to_the_bare_model(pair):
    llm, bare = pair
    images = shown(llm, 1)
    inputs = bare_inputs(llm, ["Generate an image: a red circle"], images[0] if images else None)
    weights = llm.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in bare.state_dict().items())
    context = llm.read(["a red circle"], images)
    assert torch.equal(context.hidden, llm.model.base_model(**inputs).last_hidden_state)
    assert torch.equal(llm.model.lm_head(context.hidden), llm.model(**inputs).logits)
    close(context.hidden, bare.base_model(**inputs).last_hidden_state)


@torch.no_grad()
def test_greedy_answers_are_those_of_the_bare_model(pair):
    llm, bare = pair
    images, asked = shown(llm), ["red?", "what is it", "how many squares are there"]
    inputs = bare_inputs(llm, asked, images[0] if images else None)
    ids = bare.generate(**inputs, do_sample=False, max_new_tokens=8)
    wanted = llm.tokenizer.batch_decode(
        ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert (
        llm.sample_text(
            TextRequest(images[0] if images else None, asked), TextSampler(max_length=8)
        )
        == wanted
    )
    assert len(set(wanted)) > 1


@torch.no_grad()
def test_an_answer_ends_at_any_of_the_models_ends(models):
    llm = copy.deepcopy(models["qwen2"])
    inputs = bare_inputs(llm, ["red?"], None)
    start = inputs["input_ids"].shape[1]
    ids = llm.model.generate(**inputs, do_sample=False, max_new_tokens=8)[0, start:].tolist()
    assert len(set(ids)) > 2
    other = next(one for one in ids if one != ids[0])
    llm.model.generation_config.eos_token_id = [llm.tokenizer.eos_token_id, other]
    kept = llm.tokenizer.decode(ids[: ids.index(other)])
    assert llm.sample_text(TextRequest(None, ["red?"]), TextSampler(max_length=8)) == [kept]


@torch.no_grad()
def test_queries_have_the_mrope_positions_of_text_after_the_image(models):
    llm = models["qwen2_5_vl"]
    context = llm.read(PROMPTS, shown(llm))
    texts = [llm.instruction.replace("{}", prompt or "") for prompt in PROMPTS]
    inputs, valid, _ = llm._inputs(texts, shown(llm))
    grown = {
        name: torch.nn.functional.pad(tensor, (0, N), value=value)
        for name, tensor, value in (
            ("input_ids", inputs["input_ids"], 0),
            ("mm_token_type_ids", inputs["mm_token_type_ids"], 0),
            ("attention_mask", valid.long(), 1),
        )
    }
    wanted = llm.model.model.get_rope_index(**grown, image_grid_thw=inputs["image_grid_thw"])[0]
    assert torch.equal(
        wanted[..., -N:], (context.state[:, None] + torch.arange(N)).expand(3, -1, -1)
    )
    assert (context.state < context.valid.sum(1)).all()  # an image takes fewer than its tokens


@torch.no_grad()
def test_no_prompt_is_the_template_with_an_empty_one(models):
    llm = models["qwen2"]
    assert torch.equal(llm.read([None]).hidden, llm.read([""]).hidden)


@torch.no_grad()
def test_special_tokens_in_a_prompt_are_taken_out(models):
    llm = models["llava_onevision"]
    plain = llm.read(["a red circle"], shown(llm, 1))
    marked = llm.read(["a red<image> circle<|im_end|>"], shown(llm, 1))
    assert torch.equal(plain.hidden, marked.hidden)


@torch.no_grad()
def test_without_questions_a_description_is_asked_for(models):
    llm = models["internvl"]
    asked = llm.sample_text(TextRequest(picture(), [DESCRIBE] * 3), TextSampler(max_length=4))
    assert llm.sample_text(TextRequest(picture()), TextSampler(max_length=4)) == asked


def test_what_it_cannot_read_is_named(folders, models, tmp_path):
    with pytest.raises(ValueError, match="Qwen2ForCausalLM reads no images"):
        models["qwen2"].read(PROMPTS, [picture()])
    with pytest.raises(ValueError, match=r"has no \{\}, where the prompt"):
        PretrainedVLM(folders["qwen2"], instruction="draw")
    with pytest.raises(ValueError, match="needs images, prompts, or both"):
        TextRequest()
    model, processor = make_model("internvl", make_tokenizer("internvl"))
    processor.chat_template = processor.tokenizer.chat_template = None
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no chat template"):
        PretrainedVLM(str(tmp_path))


@torch.no_grad()
def test_a_base_model_without_a_template_reads_the_bare_instruction(tmp_path):
    tokenizer = make_tokenizer("qwen2")
    tokenizer.chat_template = None
    model, _ = make_model("qwen2", tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    llm = PretrainedVLM(str(tmp_path))
    ids = llm._inputs(["a red circle"], [])[0]["input_ids"]
    assert llm.tokenizer.decode(ids[0]) == "a red circle"


def test_one_that_is_not_frozen_learns_from_what_is_asked(folders):
    llm = PretrainedVLM(folders["qwen2"], frozen=False)
    assert llm.training
    llm.ask(llm.read(PROMPTS), make_queries()).square().sum().backward()
    assert all(p.grad is not None for p in llm.decoder.layers.parameters())


def test_the_source_is_named_by_its_files(folders, models):
    assert models["qwen2"].source_hash == PretrainedVLM(folders["qwen2"]).source_hash
    assert len({models[family].source_hash for family in FAMILIES}) == len(FAMILIES)
