"""Invariants of queries that read a frozen language model for an external diffusion backbone."""

import copy
import hashlib

import pytest
import torch
from small import PROMPTS, SIDE, awake, confusion, learn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.batch import Batch
from unify.flow import UniformTime, guide, shift_time
from unify.nn.connector import Connector, PlainEncoder, RotaryEncoder
from unify.nn.denoiser import Denoiser, SanaDenoiser, UNetDenoiser
from unify.nn.frozen import freeze, kept_state, load_kept
from unify.nn.init import initialise
from unify.nn.sequence import TokenSequence
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest
from unify.paradigms.queries_dit import QueriesDiT
from unify.paradigms.vlm import VLM
from unify.schema.experiment import Optimizer
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes
from unify.training.optimizer import parameter_groups

DIM, OUT, N = 32, 24, 4
QUESTIONS = ["what?", "is it red?", "how many"]


def make_llm():
    return VLM(Trunk(DIM, 2, 2), Bytes(), PatchEncoder(DIM, 1, 2, patch=4))


def sana(**settings):
    sizes = {"channels": 3, "condition_dim": OUT, "width": 16, "depth": 2, "heads": 2, "patch": 2}
    return SanaDenoiser(**sizes, size=SIDE, **settings)


def make(**settings):
    parts = {
        "llm": make_llm(),
        "connector": Connector(DIM, OUT, RotaryEncoder(16, 1, 2)),
        "denoiser": sana(),
        "image": Pixels(),
        "time": UniformTime(),
        "queries": N,
        "size": SIDE,
    }
    model = QueriesDiT(**{**parts, **settings})
    model.denoiser.pretrained = not model.train_denoiser  # stage 1 is onto one that has weights
    initialise(model, 0)
    return awake(model)


class Echo(Denoiser):
    """Its velocity is the mean of what it is told: guidance can be followed number by number."""

    def __init__(self, source_channels=0):
        super().__init__()
        self.channels, self.condition_dim, self.source_channels = 3, OUT, source_channels
        self.gain = torch.nn.Parameter(torch.ones(1, 1))
        self.calls, self.sources = [], []

    def reset_parameters(self):
        torch.nn.init.ones_(self.gain)

    def velocity(self, xt, t, condition, valid=None, source=None):
        self.calls.append((xt, t, condition))
        self.sources.append(source)
        return self.gain * condition.mean((1, 2))[:, None, None, None] + 0 * xt


def terms(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))["image_flow"]


def tokens(model, prompts, sources=(), length=None):
    shown = [(images, torch.ones(len(images), dtype=torch.bool)) for images in sources]
    with torch.no_grad():
        return model.condition(prompts, shown, length)[0]


def fingerprint(module):
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def train(model, batch, steps, lr=1e-2, decay=0.1):
    model.train()
    settings = Optimizer(lr=lr, weight_decay=decay)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings), lr=lr)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = terms(model, batch, step if decay else 0).value.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return optimizer, losses


@pytest.fixture
def editing(images):
    return Batch.edit([images], PROMPTS, images.flip(0), list("abc"), 16)


def stacked(images, prompts, rows):
    """An editing batch of many rows from three."""
    index = torch.arange(rows) % 3
    keys = [f"row {row}" for row in range(rows)]
    return Batch.edit([images[index]], [prompts[i] for i in index], images[index], keys, 16)


# The frozen language model


def test_training_leaves_the_frozen_language_model_as_it_was(drawing, images):
    """20 steps with weight decay: bytes, logits and answers of the language model stay."""
    plain, model = make_llm(), make()
    plain.load_state_dict(model.llm.state_dict())
    plain.eval()
    before = fingerprint(model.llm)
    optimizer, _ = train(model, drawing, 20)
    assert fingerprint(model.llm) == before
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert all(p.grad is None and id(p) not in known for p in model.llm.parameters())
    assert model.generate_text(TextRequest(images, QUESTIONS)) == plain.generate_text(
        TextRequest(images, QUESTIONS)
    )
    assert model.generate_text(TextRequest(images)) == plain.generate_text(TextRequest(images))
    reading = Batch.image_to_text(images, PROMPTS, list("abc"), QUESTIONS, task="vqa")
    noise = Noise.for_batch(0, 0, reading)
    ours, theirs = (llm.loss(reading, noise)["text_ce"].value for llm in (model.llm, plain))
    assert torch.equal(ours, theirs)


def test_the_prefix_never_depends_on_the_queries(images):
    """Perturb one query: those before it stay, it and those after it change, the prefix stays."""
    model = make()
    context = model.llm.read(PROMPTS, [images])
    before = [tensor.clone() for tensor in (context.hidden, *context.cache.keys)]
    with torch.no_grad():
        first = model.llm.ask(context, model.queries)
        changed = model.queries.clone()
        changed[2] += 1
        second = model.llm.ask(context, changed)
    assert torch.equal(first[:, :2], second[:, :2])
    assert (first[:, 2:] - second[:, 2:]).abs().amax(-1).min() > 1e-3
    after = (context.hidden, *context.cache.keys)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_twice_as_many_queries_begin_with_the_same_answers():
    model, context = make(), make().llm.read(PROMPTS)
    with torch.no_grad():
        few = model.llm.ask(context, model.queries)
        many = model.llm.ask(context, torch.cat([model.queries, model.queries.flip(0)]))
    torch.testing.assert_close(many[:, :N], few, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("train_denoiser", [True, False], ids=["stage 2", "stage 1"])
def test_every_query_gets_a_gradient_and_the_frozen_parts_none(drawing, train_denoiser):
    model = make(train_denoiser=train_denoiser)
    terms(model, drawing).value.mean().backward()
    assert (model.queries.grad.abs().amax(-1) > 0).all()
    assert torch.isfinite(model.queries.grad).all()
    assert all(p.grad is None for p in model.llm.parameters())
    assert all((p.grad is not None) == train_denoiser for p in model.denoiser.parameters())


@pytest.mark.parametrize("conditioning", ["queries", "last_layer"])
def test_stage_1_onto_a_denoiser_without_weights_is_refused(conditioning):
    """Its output layer is zero and would stay so: no gradient would reach the queries."""
    parts = [make_llm(), Connector(DIM, OUT, PlainEncoder(DIM, 1, 2)), sana(), Pixels()]
    model = QueriesDiT(*parts, UniformTime(), train_denoiser=False, conditioning=conditioning)
    words = r"denoiser is frozen and has no weights: its model\.proj_out starts at zero .* train it"
    with pytest.raises(ValueError, match=words):
        initialise(model, 0)
    model.pretrained = True  # a whole model's weights
    initialise(model, 0)


def test_what_is_trained_is_exactly_what_the_stage_says():
    def trained(**settings):
        return sum(p.numel() for p in make(**settings).parameters() if p.requires_grad)

    model = make()
    parts = model.named_children()
    size = {name: sum(p.numel() for p in part.parameters()) for name, part in parts}
    bridge = size["connector"] + N * DIM
    assert trained(train_denoiser=False) == bridge
    assert trained() == bridge + size["denoiser"]
    assert trained(tune_llm=True) == bridge + size["denoiser"] + size["llm"]
    assert trained(conditioning="random_queries") == trained() - N * DIM
    assert trained(conditioning="last_layer") == trained() - N * DIM


def test_frozen_parts_stay_in_eval_mode(drawing):
    model = make(train_denoiser=False).train()
    assert model.training
    frozen = [*model.llm.modules(), *model.denoiser.modules()]
    assert not any(part.training for part in frozen)
    assert make(tune_llm=True).train().llm.training
    assert torch.equal(terms(model, drawing).value, terms(model, drawing).value)


def test_reading_the_prefix_once_without_gradient_is_exact(drawing, monkeypatch):
    """Equal loss and gradients where prefix and queries go through the model in one piece."""
    model = make()
    result = []
    for whole in (False, True):
        if whole:
            monkeypatch.setattr(model.llm, "ask", lambda context, q: in_one_piece(model.llm, q))
        model.zero_grad()
        value = terms(model, drawing).value
        value.mean().backward()
        result.append([value, *(p.grad.clone() for p in model.parameters() if p.requires_grad)])
    for cached, full in zip(*result, strict=True):
        torch.testing.assert_close(cached, full, atol=1e-5, rtol=1e-4)


def in_one_piece(llm, queries):
    sequence = TokenSequence(llm.trunk.axes)
    llm.add_text(sequence, PROMPTS, 16)
    where = sequence.add(queries.expand(3, -1, -1))
    return sequence.run(llm.trunk)[:, where]


def test_a_tuned_language_model_gets_gradients_and_a_frozen_one_costs_none(drawing):
    model = make(tune_llm=True)
    terms(model, drawing).value.mean().backward()
    assert all((p.grad.abs() > 0).any() for p in model.llm.trunk.parameters())
    assert model.llm.embed.weight.grad.abs().max() > 0


def test_one_that_reads_no_images_answers_nothing_about_them(drawing):
    blind, seeing = make(llm=VLM(Trunk(DIM, 2, 2), Bytes())), make()
    assert (blind.tasks, blind.answers) == ({"text_to_image"}, frozenset())
    assert (seeing.tasks, seeing.answers) == (QueriesDiT.tasks, {"caption", "vqa"})
    assert torch.isfinite(terms(blind, drawing).value).all()
    assert blind.generate_image(ImageRequest(PROMPTS), steps=1).shape == (3, 3, SIDE, SIDE)
    assert len(blind.generate_text(TextRequest(None, QUESTIONS))) == 3


# The layout of the sequence


def test_padding_changes_nothing():
    model = make()
    alone = torch.cat([tokens(model, [prompt]) for prompt in PROMPTS])
    for length in (16, 30):
        padded = tokens(model, PROMPTS, length=length)
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


def test_queries_stand_right_after_the_prompt(monkeypatch):
    """At positions n .. n + N - 1 after n real tokens, however much padding lies between."""
    model, seen = make(), []
    handle = model.llm.trunk.register_forward_pre_hook(
        lambda m, args: seen.append(args[0].positions)
    )
    tokens(model, PROMPTS, length=30)
    handle.remove()
    ends = model.llm.text.encode(PROMPTS, 30)[1].sum(1)
    assert torch.equal(seen[1][..., 0], ends[:, None] + torch.arange(N))


def test_a_prompt_that_is_too_long_for_training_is_cut(images):
    """Only letters go: the end of the text stays."""
    model, long = make(), "a red circle at the top left"
    batch = Batch.text_to_image([long] * 3, images, list("abc"), 8)
    prompts, sources, length = model._conditions(batch, Noise.for_batch(0, 0, batch))
    cut = model.condition(prompts, sources, length)[0]
    torch.testing.assert_close(cut, tokens(model, [long[:6]] * 3), atol=1e-5, rtol=1e-5)


def test_another_number_of_queries_does_not_load():
    words = r"have queries of 4 x 32 instead of 5 x 32; build the model with the settings that they"
    with pytest.raises(ValueError, match=words):
        load_kept(make(queries=N + 1), make().state_dict())


def test_a_state_without_the_frozen_language_model_draws_the_same_images():
    model, twin = make(), make()
    twin.queries.data.zero_()
    for part in (model.llm, twin.llm):
        part.source_hash = "0123456789ab"
    state = kept_state(model)
    assert not any(name.startswith("llm.") for name in state)
    load_kept(twin, state)
    drawn = (one.generate_image(ImageRequest(PROMPTS), steps=2) for one in (model, twin))
    assert torch.equal(*drawn)


def test_queries_start_apart():
    """At D^-0.5 (OpenUni), unlike copies of one mean row that only their positions tell apart."""
    model = QueriesDiT(
        make_llm(), Connector(DIM, OUT, PlainEncoder(DIM, 1, 2)), sana(), Pixels(), UniformTime()
    )
    initialise(model, 0)
    assert model.queries.shape == (64, DIM)
    assert model.queries.std().item() == pytest.approx(DIM**-0.5, rel=0.05)
    unit = torch.nn.functional.normalize(model.queries, dim=-1)
    assert (unit @ unit.T).fill_diagonal_(0).abs().max() < 0.8


@pytest.mark.parametrize("std", [1.0, 0.3])
def test_queries_start_as_large_as_asked(std):
    connector = Connector(DIM, OUT, PlainEncoder(DIM, 1, 2))
    model = QueriesDiT(make_llm(), connector, sana(), Pixels(), UniformTime(), query_std=std)
    initialise(model, 0)
    assert model.queries.std().item() == pytest.approx(std, rel=0.05)


# The flow


def test_an_oracles_loss_is_zero_and_t_1_is_the_data(drawing, monkeypatch):
    model = make(denoiser=Echo())
    x0 = Noise.for_batch(0, 0, drawing).normal("image1/x0", (3, SIDE, SIDE))
    x1 = drawing.segments[1].images
    monkeypatch.setattr(model.denoiser, "velocity", lambda xt, t, *rest: x1 - x0)
    assert terms(model, drawing).value.abs().max() < 1e-10
    for steps in (1, 5):
        monkeypatch.setattr(Noise, "normal", lambda self, name, shape: x0)
        drawn = model.generate_image(ImageRequest(PROMPTS), steps=steps)
        torch.testing.assert_close(drawn, x1, atol=1e-5, rtol=1e-5)


def test_the_noise_is_the_one_that_transfusion_sees(drawing):
    model = make(denoiser=Echo())
    terms(model, drawing)
    noise = Noise.for_batch(0, 0, drawing)
    xt, t, _ = model.denoiser.calls[0]
    assert torch.equal(t, noise.uniform("image1/t"))
    x0, x1 = noise.normal("image1/x0", (3, SIDE, SIDE)), drawing.segments[1].images
    torch.testing.assert_close(xt, (1 - t)[:, None, None, None] * x0 + t[:, None, None, None] * x1)


def test_the_shift_of_training_and_the_shift_of_sampling_are_two_settings(drawing):
    model = make(denoiser=Echo(), train_shift=3.0)
    u = Noise.for_batch(0, 0, drawing).uniform("image1/t")
    torch.testing.assert_close(terms(model, drawing).t, shift_time(u, 3.0))
    model.denoiser.calls.clear()
    model.generate_image(ImageRequest(PROMPTS), steps=4, shift=2.0)
    asked = torch.stack([t[0] for _, t, _ in model.denoiser.calls])
    torch.testing.assert_close(asked, shift_time(torch.arange(4) / 4, 2.0))


def test_the_denoisers_own_weight_scales_the_error(drawing, monkeypatch):
    model = make()
    plain = terms(model, drawing)
    monkeypatch.setattr(model.denoiser, "weight", lambda t: t.square())
    torch.testing.assert_close(terms(model, drawing).value, plain.value * plain.t.square())


# Guidance


def test_the_unconditional_pass_is_what_dropout_trains_on(drawing, images):
    """No byte of the caption is left, and the condition is the one of sampling without text."""
    model = make(dropout=1.0).train()
    prompts, sources, length = model._conditions(drawing, Noise.for_batch(0, 0, drawing))
    assert prompts == [None] * 3
    dropped = model.condition(prompts, sources, length)[0]
    torch.testing.assert_close(dropped, tokens(model, [None] * 3), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(dropped, tokens(model, PROMPTS), atol=1e-3)


def answers(model, prompts, sources):
    """v(I, T) of an Echo, [B]."""
    return model.denoiser.gain.item() * tokens(model, prompts, sources).mean((1, 2))


def guided(model, images, negative=None, **settings):
    """The velocity of the first step of an edit, and how many rows the denoiser was given."""
    model.denoiser.calls.clear()
    seen = []
    model.image.decode, decode = seen.append, model.image.decode
    x0 = Noise.for_prompts(0, PROMPTS).normal("x0", (3, SIDE, SIDE))
    try:
        request = ImageRequest(PROMPTS, sources=[images], negative=negative)
        model.generate_image(request, steps=1, **settings)
    finally:
        model.image.decode = decode
    rows = {len(xt) for xt, _, _ in model.denoiser.calls}
    return (seen[0] - x0).mean((1, 2, 3)), rows.pop()


@pytest.mark.parametrize(
    ("text", "image", "passes"),
    [(1, 1, 1), (3, 1, 2), (1, 2, 3), (3, 2, 3), (2.5, 2.5, 2), (0, 1, 2), (0, 0, 2)],
)
def test_dual_guidance_is_its_formula_and_passes_without_weight_are_skipped(
    images, text, image, passes
):
    """v(0,0) + g_I [v(I,0) - v(0,0)] + g_T [v(I,T) - v(I,0)]."""
    model, nothing = make(denoiser=Echo()), [None] * 3
    parts = [
        answers(model, nothing, [0 * images]),
        answers(model, nothing, [images]),
        answers(model, PROMPTS, [images]),
    ]
    result, rows = guided(model, images, guidance=text, image_guidance=image)
    torch.testing.assert_close(result, guide(parts, [image, text]), atol=1e-5, rtol=1e-4)
    assert rows == 3 * passes
    if text == image:
        both = parts[0] + text * (parts[2] - parts[0])
        torch.testing.assert_close(result, both, atol=1e-5, rtol=1e-4)


def test_a_negative_prompt_stands_wherever_there_was_no_text(images):
    model, unwanted = make(denoiser=Echo()), PROMPTS[::-1]
    parts = [
        answers(model, unwanted, [0 * images]),
        answers(model, unwanted, [images]),
        answers(model, PROMPTS, [images]),
    ]
    result, _ = guided(model, images, negative=unwanted, guidance=3.0, image_guidance=2.0)
    torch.testing.assert_close(result, guide(parts, [2.0, 3.0]), atol=1e-5, rtol=1e-4)


def test_image_to_image_is_guided_by_the_image_alone(images):
    model = make(denoiser=Echo())
    for prompts in (None, [None] * 3):
        model.denoiser.calls.clear()
        model.generate_image(ImageRequest(prompts, sources=[images]), steps=1, guidance=5.0)
        assert len(model.denoiser.calls[0][0]) == 3
        model.generate_image(ImageRequest(prompts, sources=[images]), steps=1, image_guidance=2.0)
        assert len(model.denoiser.calls[1][0]) == 6
        shown = model.denoiser.calls[0][2]
        torch.testing.assert_close(shown, tokens(model, None, [images]), atol=1e-5, rtol=1e-5)


def test_dropout_follows_its_joint_table(images):
    """70 / 10 / 10 / 10 within four standard deviations, and one condition alone by its own."""
    rows = 3000
    model, batch = make(dropout=0.3).train(), stacked(images, PROMPTS, rows)
    prompts, sources, _ = model._conditions(batch, Noise.for_batch(0, 0, batch))
    no_text = torch.tensor([prompt is None for prompt in prompts])
    no_image = ~sources[0][1]
    for result, share in (
        (no_text & ~no_image, 0.1),
        (no_text & no_image, 0.1),
        (~no_text & no_image, 0.1),
        (~no_text & ~no_image, 0.7),
    ):
        assert abs(result.sum() - rows * share) < 4 * (rows * share * (1 - share)) ** 0.5
    shown = Batch.image_to_image(batch.segments[0].images, batch.segments[2].images, batch.keys)
    _, sources, _ = model._conditions(shown, Noise.for_batch(0, 0, shown))
    assert abs((~sources[0][1]).sum() - rows * 0.3) < 4 * (rows * 0.3 * 0.7) ** 0.5


def test_nothing_is_dropped_in_eval_mode(drawing, editing):
    model = make(dropout=1.0, source_dropout=(0.0, 1.0, 0.0)).eval()
    for batch in (drawing, editing):
        prompts, sources, _ = model._conditions(batch, Noise.for_batch(0, 0, batch))
        assert prompts == PROMPTS
        assert all(present.all() for _, present in sources)


def test_a_dropped_image_is_gray_and_keeps_the_number_of_tokens(images, editing):
    model = make(source_dropout=(0.0, 0.0, 1.0)).train()
    prompts, sources, length = model._conditions(editing, Noise.for_batch(0, 0, editing))
    dropped = model.condition(prompts, sources, length)[0]
    gray = tokens(model, PROMPTS, [0 * images])
    torch.testing.assert_close(dropped, gray, atol=1e-5, rtol=1e-5)
    black = tokens(model, PROMPTS, [0 * images - 1])
    assert not torch.allclose(dropped, black, atol=1e-4)


# Sampling


def test_several_images_of_a_prompt_equal_single_runs_with_their_seeds(images):
    """Rows i*k .. (i+1)*k belong to prompt i, with its own source and its own noise."""
    model, seeds = make(), [7, 8, 9, 10]
    prompts = [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    sources = images[[0, 0, 1, 1]]
    settings = {"steps": 3, "guidance": 2.0, "image_guidance": 1.5}
    together = model.generate_image(
        ImageRequest(prompts, sources=[sources], seed=seeds), **settings
    )
    for row in range(4):
        alone = model.generate_image(
            ImageRequest(
                prompts[row : row + 1], sources=[sources[row : row + 1]], seed=seeds[row : row + 1]
            ),
            **settings,
        )
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_the_seed_of_equal_prompts_counts_them():
    model = make()
    first = model.generate_image(ImageRequest([PROMPTS[0]] * 2, seed=3), steps=2)
    other = model.generate_image(
        ImageRequest([PROMPTS[1], PROMPTS[0], PROMPTS[0]], seed=3), steps=2
    )
    torch.testing.assert_close(first, other[1:], atol=1e-3, rtol=1e-3)


def test_nothing_to_draw_from_is_named():
    with pytest.raises(ValueError, match="needs prompts, source images, or both"):
        ImageRequest(None)


# Learning and its baselines


def test_one_pair_is_overfitted_and_captions_stay_apart(images):
    """The loss falls tenfold; conditions differ, as those of collapsed queries would not."""
    model = make(dropout=0.0)
    batch = Batch.text_to_image(PROMPTS[:2], images[:2], list("ab"), 16)
    _, losses = train(model, batch, 60, decay=0.0)
    assert losses[-1] < 0.1 * losses[0]
    one, other = tokens(model.eval(), PROMPTS[:2]).flatten(1)
    assert torch.cosine_similarity(one, other, dim=0) < 0.99


def test_colours_learned_by_heart_are_drawn():
    sizes = {"channels": 3, "condition_dim": OUT, "width": 16, "depth": 1, "heads": 2, "patch": 2}
    model = make(denoiser=SanaDenoiser(**sizes, size=SIDE), dropout=0.0)
    flat = (2 * torch.eye(3) - 1)[..., None, None].expand(3, 3, SIDE, SIDE)
    batch = Batch.text_to_image(PROMPTS * 2, flat.repeat(2, 1, 1, 1), list("abcdef"), 16)
    learn(model, [batch], 40, {"image_flow"})
    assert confusion(model.generate_image(ImageRequest(PROMPTS), steps=10), flat).max() < 0.5


def test_swapped_captions_swap_conditions():
    model, order = make(), [2, 0, 1]
    swapped = tokens(model, [PROMPTS[i] for i in order])
    torch.testing.assert_close(swapped, tokens(model, PROMPTS)[order], atol=1e-5, rtol=1e-5)


def test_what_conditions_is_one_switch(drawing):
    """Learned and random queries cost the same tokens; the last layer gives the whole prefix."""
    learned, chance, last = (
        make(conditioning=name) for name in ("queries", "random_queries", "last_layer")
    )
    assert learned.tokens(drawing) == chance.tokens(drawing) == last.tokens(drawing) + 3 * N
    assert learned.flops(drawing) > chance.flops(drawing)  # no gradient to the queries
    assert tokens(learned, PROMPTS).shape == tokens(chance, PROMPTS).shape == (3, N, OUT)
    assert tokens(last, PROMPTS, length=16).shape == (3, 16, OUT)
    assert last.queries is None
    before = chance.queries.clone()
    train(chance, drawing, 3)
    assert torch.equal(chance.queries, before)


def test_last_layer_conditions_ignore_padding(images):
    model, result = make(conditioning="last_layer"), []
    for length in (16, 30):
        batch = Batch.text_to_image(PROMPTS, images, list("abc"), length)
        result.append(terms(model, batch).value)
    torch.testing.assert_close(*result, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "beyond"),
    [({}, 0.12), ({"tune_llm": True}, 0.25), ({"conditioning": "last_layer"}, 0.12)],
)
def test_flops_are_about_those_that_are_counted(editing, settings, beyond):
    """Forward and backward; what gets no gradient at either end is counted too: the first layers'
    inputs, and the last layer of a prefix that only gives keys and values."""
    model, stage2 = (make(**settings, train_denoiser=stage) for stage in (False, True))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        terms(model, editing).value.mean().backward()
    # the counter takes a depthwise convolution's gradients for those of a full one
    assert 0.95 < model.flops(editing) / counter.get_total_flops() < 1 + beyond
    given = N if model.queries is not None else model.llm.context_tokens(16, [(SIDE, SIDE)])
    forward = 3 * model.denoiser.flops((SIDE, SIDE), given)
    assert stage2.flops(editing) - model.flops(editing) == pytest.approx(forward)


# Editing and image to image


def test_another_source_image_changes_the_condition(images):
    model = make()
    one, other = (tokens(model, PROMPTS, [shown]) for shown in (images, images.flip(0)))
    assert (one - other).abs().amax((1, 2))[[0, 2]].min() > 1e-3
    torch.testing.assert_close(one[1], other[1], atol=1e-5, rtol=1e-5)


def test_a_row_without_a_source_does_not_depend_on_its_batch_mates(images, editing):
    """Nor on what stands in the place of the absent image."""
    model = make(denoiser=sana(source_channels=3))
    present = torch.tensor([True, False, True])
    result = []
    for filler in (images, images.roll(1, 0)):
        shown = torch.where(present[:, None, None, None], images, filler)
        batch = Batch.edit([shown], PROMPTS, images.flip(0), list("abc"), 16, [present])
        result.append(terms(model, batch).value)
        alone = terms(model, batch.rows(slice(1, 2))).value
        torch.testing.assert_close(result[-1][1:2], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(*result)
    assert not torch.allclose(result[0][1], terms(model, editing).value[1])


def test_source_latents_are_those_of_the_sources_and_zero_where_dropped(images):
    model = make(denoiser=Echo(source_channels=6))
    here, gone = torch.ones(3, dtype=torch.bool), torch.tensor([True, False, True])
    small = images[..., ::2, ::2]  # shown at the target's size
    both = model.source_latents([(images, here), (small, gone)], (SIDE, SIDE))
    assert torch.equal(both[:, :3], images)
    assert both[1, 3:].abs().max() == 0
    assert both[0, 3:].abs().max() > 0
    one = model.source_latents([(images, here)], (SIDE, SIDE))
    assert one[:, 3:].abs().max() == 0
    assert make(denoiser=Echo()).source_latents([(images, here)], (SIDE, SIDE)) is None


def test_source_latents_follow_the_image_through_guidance(images):
    """Zeros where v(0, .) is asked, the source's latents where v(I, .) is."""
    model = make(denoiser=Echo(source_channels=3))
    model.generate_image(
        ImageRequest(PROMPTS, sources=[images]), steps=1, guidance=3.0, image_guidance=2.0
    )
    without, shown, full = model.denoiser.sources[0].chunk(3)
    assert without.abs().max() == 0
    assert torch.equal(shown, images)
    assert torch.equal(full, images)


def test_every_image_task_has_a_loss_with_gradient(images):
    model, keys = make(), list("abc")
    model.requires_grad_(False)
    model.queries.requires_grad_(True)
    batches = [
        Batch.image_to_image(images, images.flip(0), keys, "depth"),
        Batch.image_to_image(images[..., :4, :4], images, keys, "super_resolution"),
        Batch.edit([images, images.flip(1)], PROMPTS, images, keys, 16),
        Batch.image(images, keys),
    ]
    for batch in batches:
        term = terms(model, batch)
        assert term.value.shape == term.t.shape == (3,)
        (gradient,) = torch.autograd.grad(term.value.mean(), model.queries)
        assert gradient.abs().max() > 0
        assert model.tokens(batch) > 0
        assert model.flops(batch) > 0


def test_reconstruction_reads_its_own_target(images):
    model = make(denoiser=Echo())
    terms(model, Batch.image(images, list("abc")))
    torch.testing.assert_close(
        model.denoiser.calls[0][2], tokens(model, None, [images]), atol=1e-5, rtol=1e-5
    )


# Declarations


def test_understanding_is_evaluated_without_being_trained():
    """`answers` join the tasks that metrics see; there is no text term, so no perplexity."""
    from pathlib import Path

    from unify.assembly.assemble import assemble
    from unify.config import load_recipe
    from unify.evaluation.score_run import subject_of
    from unify.metrics.perplexity import Perplexity

    path = Path(__file__).parents[2] / "experiments" / "queries_dit.yaml"
    config = load_recipe(path, tiny=True)
    recipe = assemble(config, {})
    subject = subject_of(recipe, 0)
    assert set(config["data"]["tasks"]) == {"text_to_image"}
    assert subject.tasks == {"text_to_image", "caption", "vqa"}
    assert Perplexity().measure(subject) == ([], [])
    assert not recipe.model.answers & recipe.model.tasks
    assert recipe.model.terms == {"image_flow"}


def test_the_language_models_tokenizers_are_listed():
    model = make()
    assert set(model.tokenizers()) == {"image", "llm.text"}
    assert model.tokenizers()["llm.text"] is model.llm.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"connector": Connector(16, OUT, PlainEncoder(16, 1, 2))},
            "connector.dim is 16.*has 32",
        ),
        (
            {"connector": Connector(DIM, 20, PlainEncoder(DIM, 1, 2))},
            "denoiser.condition_dim is 24.*has 20",
        ),
        ({"denoiser": SanaDenoiser(4, OUT, 16, 1, 2)}, "denoiser.channels is 4.*has 3"),
        ({"llm": freeze(make_llm()), "tune_llm": True}, "llm is frozen.*frozen: false"),
        ({"denoiser": sana(source_channels=4)}, "source_channels is 4.*multiple.*tokenizer's 3"),
    ],
)
def test_parts_that_do_not_fit_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**copy.copy(settings))


def test_a_ddpm_trains_at_its_own_times_and_is_given_no_law(images):
    unet = {"channels": 3, "condition_dim": OUT, "widths": (16, 16), "heads": 2, "norm_groups": 4}
    model = make(denoiser=UNetDenoiser(**unet), time=None)
    batch = Batch.text_to_image(PROMPTS, images, list("abc"), 16)
    result = terms(model, batch)
    assert torch.isin(result.t, model.denoiser.grid).all()
    u = Noise.for_batch(0, 0, batch).uniform("image1/t")
    assert torch.equal(result.t, model.denoiser.own_times(u))
    assert torch.isfinite(model.generate_image(ImageRequest(PROMPTS), steps=2)).all()
    with pytest.raises(ValueError, match="UNetDenoiser trains at its own times: set time to null"):
        make(denoiser=UNetDenoiser(**unet))
    with pytest.raises(ValueError, match="train_shift to 1"):
        make(denoiser=UNetDenoiser(**unet), time=None, train_shift=3.0)
    with pytest.raises(ValueError, match="SanaDenoiser has no times of its own; name a law"):
        make(time=None)
