"""Invariants of the dual tower: routing, what each loss trains, understanding, cache, budget.

Numbers in names are those of the invariants of dual-tower transformers; those of the trunk alone
are in tests/nn/test_towers.py.
"""

from dataclasses import replace

import pytest
import torch
from small import DIM, PROMPTS, SIDE, awake, make_transfusion
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unify.assembly.exported_weights import load_export, save_export
from unify.batch import Batch, Segment
from unify.flow import LogitNormalTime
from unify.nn.init import initialise
from unify.nn.patches import LinearPatches
from unify.nn.pretrained import PretrainedTrunk
from unify.nn.towers import IMAGE, TEXT
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder, TimmEncoder
from unify.noise import Noise
from unify.paradigm import ImageRequest, TextRequest
from unify.paradigms.dual_tower import DualTower
from unify.paradigms.vlm import VLM
from unify.schema.experiment import Optimizer
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes
from unify.training.optimizer import parameter_groups, update_ema

PATCHES = (SIDE // 4) ** 2
TEXT_SIDE = ("trunk.text.", "embed.", "to_text.", "vision.", "project.")


def make_llm() -> VLM:
    llm = VLM(Trunk(DIM, 2, 2), Bytes(), PatchEncoder(16, 1, 2, patch=2))
    initialise(llm, 1)
    return awake(llm)


def make_dual(**settings) -> DualTower:
    if "llm" not in settings:
        settings = {"trunk": Trunk(DIM, 2, 2), "text": Bytes()} | settings
    base = {
        "image": Pixels(),
        "patches": LinearPatches(3, DIM, 4),
        "time": LogitNormalTime(),
        "size": SIDE,
    }
    model = DualTower(**(base | settings))
    initialise(model, 0)
    return model


def from_llm(**settings) -> DualTower:
    """On a trained language model."""
    llm = make_llm()
    llm.pretrained, llm.source_hash = True, "0123456789ab"
    return make_dual(llm=llm, **settings)


SETTINGS = {
    "scratch": lambda: make_dual(),
    "ffn": lambda: make_dual(separation="ffn"),
    "clean": lambda: make_dual(condition_on="clean_copy"),
    "axes": lambda: make_dual(trunk=Trunk(DIM, 2, 2, sections=[2, 1, 1])),
    "frozen": lambda: from_llm(text_tower="frozen"),
    "bagel": lambda: from_llm(
        text_tower="detached", condition_on="clean_copy", understand="vision"
    ),
}


@pytest.fixture(params=SETTINGS)
def model(request) -> DualTower:
    return awake(SETTINGS[request.param]())


def terms(model, batch, step=0):
    return model.loss(batch, Noise.for_batch(0, step, batch))


def story(images):
    """An image that is drawn, then read: text, image target, text target."""
    columns = [
        Segment.text(PROMPTS, "condition", 16),
        Segment.image(images, "target"),
        Segment.text(PROMPTS, "target", 16),
    ]
    return Batch("story", columns, ["a", "b", "c"])


def layouts(images):
    keys = ["a", "b", "c"]
    return {
        "draw": Batch.text_to_image(PROMPTS, images, keys, 16),
        "caption": Batch.image_to_text(images, PROMPTS, keys, lengths=(16, 16)),
        "vqa": Batch.image_to_text(images, PROMPTS, keys, PROMPTS, (16, 16)),
        "edit": Batch.edit([images, images.flip(0)], PROMPTS, images, keys, 16),
        "depth": Batch.image_to_image(images, images.flip(1), keys),
        "text": Batch.text(PROMPTS, keys, 16),
        "story": story(images),
    }


def call(model, batch):
    """The trunk's input, mask, towers by place, and what each hidden state depends on [S S]."""
    seen = {}

    def before(module, args):
        tokens, *rest = args
        x = tokens.x.detach().clone().requires_grad_(True)
        runs = tokens.towers or ((TEXT, x.shape[1]),)
        towers = torch.tensor([tower for tower, n in runs for _ in range(n)])
        seen.update(x=x, mask=tokens.mask, towers=towers, positions=tokens.positions)
        return replace(tokens, x=x), *rest

    handles = [
        model.trunk.register_forward_pre_hook(before),
        model.trunk.register_forward_hook(lambda m, a, out: seen.update(hidden=out)),
    ]
    terms(model, batch)
    for handle in handles:
        handle.remove()
    rows = [
        torch.autograd.grad(h.sum(), seen["x"], retain_graph=True)[0][0].abs().amax(-1) > 0
        for h in seen["hidden"][0]
    ]
    return seen, torch.stack(rows)


def moved(model, value) -> set[str]:
    """Names of parameters with a gradient other than zero."""
    model.zero_grad()
    if value.requires_grad:
        value.mean().backward()
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def of(names, *prefixes) -> set[str]:
    return {name for name in names if name.startswith(prefixes)}


def test_separation_none_is_transfusion_bit_for_bit_from_the_same_seed(images):
    for condition_on in ("noised", "clean_copy"):
        plain = make_transfusion(condition_on=condition_on)
        dense = make_dual(separation="none", condition_on=condition_on)
        for batch in layouts(images).values():
            expected, result = terms(plain, batch), terms(dense, batch)
            for name, term in expected.items():
                assert torch.equal(result[name].value, term.value), name
            assert dense.tokens(batch) == plain.tokens(batch)
            assert dense.flops(batch) == plain.flops(batch)


@pytest.mark.parametrize("separation", ["ffn", "full"])
def test_at_the_start_both_towers_are_transfusion(images, separation):
    plain, dual = make_transfusion(), make_dual(separation=separation)
    for batch in layouts(images).values():
        result = terms(dual, batch)
        for name, term in terms(plain, batch).items():
            torch.testing.assert_close(result[name].value, term.value, rtol=1e-5, atol=1e-5)
        assert dual.flops(batch) == plain.flops(batch)


def test_patches_go_through_the_image_tower_and_delimiters_through_the_text_tower(images):
    dual = awake(make_dual(condition_on="clean_copy"))
    seen, _ = call(dual, story(images))
    inside = [False] + [True] * PATCHES + [False]
    assert seen["towers"].tolist() == [False] * 16 + inside * 2 + [False] * 16
    assert torch.equal(seen["towers"] == IMAGE, seen["mask"].segment[0] >= 0)


def test_to_5_what_depends_on_what_in_noised_mode(images):
    seen, depends = call(awake(make_dual(condition_on="noised")), story(images))
    patches = seen["mask"].segment[0] >= 0
    text, valid = torch.arange(len(patches)) < patches.int().argmax(), seen["mask"].valid[0]
    assert depends[patches][:, patches].all(), "both directions inside an image"
    assert not depends[text][:, ~text].any()
    assert depends[patches][:, text & valid].all()
    later = ~patches & ~text & valid & (torch.arange(len(patches)) > patches.nonzero().max())
    assert depends[later][:, patches].all(), "later text reads the noised image"
    assert not depends[patches][:, later].any()


def test_a_clean_copy_isolates_the_noised_image_and_has_its_positions(images):
    seen, depends = call(awake(make_dual(condition_on="clean_copy")), story(images))
    image, mask = seen["towers"] == IMAGE, seen["mask"]
    noised, clean = (mask.isolated[0] >= 0) & image, (mask.isolated[0] < 0) & image
    others = (mask.isolated[0] < 0) & mask.valid[0]
    assert not depends[others][:, noised].any()
    assert not depends[noised][:, clean].any(), "the target does not leak"
    later = others & (torch.arange(len(others)) > clean.nonzero().max())
    assert depends[later][:, clean].all()
    assert torch.equal(seen["positions"][0][noised], seen["positions"][0][clean])


def test_what_the_encoder_sees_of_an_image_does_not_leak_into_its_noised_copy(images):
    dual = awake(from_llm(condition_on="clean_copy", understand="vision"))
    seen, depends = call(dual, story(images))
    image, mask = seen["towers"] == IMAGE, seen["mask"]
    noised, clean = (
        (mask.isolated[0] >= 0) & image,
        ((mask.isolated[0] < 0) & image).nonzero().flatten(),
    )
    features = slice(clean.max() + 3, clean.max() + 3 + 16)  # after eoi and boi
    assert not depends[noised, features].any()
    assert not depends[features][:, noised].any()
    assert depends[features][:, clean].all()
    later = torch.arange(features.stop + 1, len(image))
    assert depends[later[mask.valid[0, later]], features].all()


def test_the_encoder_sees_what_is_asked_about_alone_and_sources_beside_their_latents(images):
    dual = awake(from_llm(condition_on="clean_copy", understand="vision"))
    features, batches, calls = 16, layouts(images), []
    dual.trunk.register_forward_pre_hook(
        lambda m, args: calls.append((args[0].x.shape[1], args[0].towers))
    )
    expected = {
        "draw": (1, 0),
        "caption": (0, 1),
        "vqa": (0, 1),
        "edit": (3, 2),
        "depth": (2, 1),
        "text": (0, 0),
        "story": (2, 1),
    }
    for name, (latents, shown) in expected.items():
        terms(dual, batches[name])
        length, towers = calls.pop()
        image = sum(n for tower, n in towers if tower == IMAGE)
        text = 16 * sum(c.kind == "text" for c in batches[name].segments)
        assert image == latents * PATCHES, name
        wanted = text + latents * (PATCHES + 2) + shown * (features + 2)
        assert (length, dual.tokens(batches[name])) == (wanted, 3 * wanted), name


def test_tokens_are_those_that_the_trunk_reads(model, images):
    lengths = []
    handle = model.trunk.register_forward_pre_hook(
        lambda module, args: lengths.append(args[0].x.shape[:2].numel())
    )
    for batch in layouts(images).values():
        terms(model, batch)
        assert lengths.pop() == model.tokens(batch)
    handle.remove()


def test_understanding_is_the_language_models_bit_for_bit_after_training_too(images):
    llm, dual = (
        make_llm(),
        from_llm(text_tower="frozen", condition_on="clean_copy", understand="vision"),
    )
    batches = layouts(images)
    optimizer = torch.optim.AdamW((p for p in dual.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(3):
        for task in ("caption", "vqa", "text"):
            expected = terms(llm, batches[task])["text_ce"].value
            assert torch.equal(terms(dual, batches[task])["text_ce"].value, expected), task
        printed = [m.generate_text(TextRequest(images, PROMPTS), max_length=5) for m in (llm, dual)]
        assert printed[0] == printed[1]
        optimizer.zero_grad()
        terms(dual, batches["draw"])["image_flow"].value.mean().backward()
        optimizer.step()


def test_a_frozen_text_side_keeps_its_bytes_and_has_no_state(images):
    dual, batches = from_llm(text_tower="frozen").train(), layouts(images)
    frozen = {n: p.clone() for n, p in dual.named_parameters() if n.startswith(TEXT_SIDE)}
    optimizer = torch.optim.AdamW(parameter_groups(dual, Optimizer(weight_decay=0.5)), lr=1e-2)
    optimizer.register_step_post_hook(lambda *_: update_ema(optimizer, 0.9))
    for step in range(3):
        optimizer.zero_grad()
        result = {**terms(dual, batches["draw"], step), **terms(dual, batches["caption"], step)}
        sum(term.value.mean() for term in result.values()).backward()
        optimizer.step()
    now = dict(dual.named_parameters())
    assert {n for n in now if not now[n].requires_grad} == frozen.keys()
    for name, value in frozen.items():
        assert torch.equal(now[name], value), name
        assert now[name] not in optimizer.state
    assert not torch.equal(now["trunk.image.norm.weight"], now["trunk.text.norm.weight"])
    assert not any(part.training for part in (dual.trunk.text, dual.embed, dual.to_text))


def test_what_a_caption_trains_by_text_tower(images):
    caption = layouts(images)["caption"]
    names = {n for n, _ in make_dual().named_parameters()}
    image = of(names, "trunk.image.blocks", "patches.inward", "patches.time")
    last = "trunk.image.blocks.1"  # after its keys and values nobody reads the image
    image -= of(names, f"{last}.attention.out", f"{last}.norm2", f"{last}.mlp")
    trained = awake(make_dual(condition_on="clean_copy"))
    result = moved(trained, terms(trained, caption)["text_ce"].value)
    assert result == image | of(names, "trunk.text.", "embed.", "to_text.")
    frozen = awake(from_llm(text_tower="frozen", condition_on="clean_copy"))
    result = moved(frozen, terms(frozen, caption)["text_ce"].value)
    assert result == image | {"delimiters.weight"}
    for understand in ("latents", "vision"):
        detached = awake(
            from_llm(text_tower="detached", condition_on="clean_copy", understand=understand)
        )
        assert not moved(detached, terms(detached, caption)["text_ce"].value)
        flow = moved(detached, terms(detached, layouts(images)["edit"])["image_flow"].value)
        assert flow == {n for n, p in detached.named_parameters() if p.requires_grad}


def test_the_same_loss_with_every_text_tower(images):
    towers = ("trained", "frozen", "detached")
    for batch in layouts(images).values():
        values = []
        for text_tower in towers:
            dual = from_llm(text_tower=text_tower)
            if dual.delimiters is not None:
                with torch.no_grad():
                    dual.delimiters.weight.copy_(dual.embed.weight[-2:])
            values.append(terms(dual, batch))
        for name, term in values[0].items():
            for other in values[1:]:
                assert torch.equal(other[name].value, term.value), name


def test_a_batch_without_images_or_without_text_is_finite(model, images):
    for task in ("text", "depth"):
        for name, term in terms(model, layouts(images)[task]).items():
            assert term.value.isfinite().all()
            gradients = moved(model, term.value)
            assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
            if task == "text":
                assert not of(gradients, "trunk.image."), name


def test_a_frozen_text_side_leaves_the_delimiters_of_latents_to_be_learned(images):
    dual = awake(from_llm(text_tower="frozen"))
    result = moved(dual, terms(dual, layouts(images)["draw"])["image_flow"].value)
    assert "delimiters.weight" in result
    assert from_llm(text_tower="trained").delimiters is None


def test_denoising_over_the_cached_prefix_equals_the_full_forward(model, images):
    t = torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        prefix, cache = model.prefix([(PROMPTS, [images])]), model.trunk.cache()
        prefix.run(model.trunk, cache)
        before = [k.clone() for k in cache.keys]
        cached = model.denoise(prefix.branch(), cache.view(), images, t)
        full = model.prefix([(PROMPTS, [images])])
        where, skip = model.add_latents(full, images, t)
        wanted = model.patches.latents(full.run(model.trunk)[:, where], skip, (SIDE, SIDE))
    torch.testing.assert_close(cached, wanted, atol=2e-5, rtol=2e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, cache.keys, strict=True))


def test_text_with_a_cache_is_text_without(model, images, monkeypatch):
    cached = model.generate_text(TextRequest(images, PROMPTS), max_length=6)
    monkeypatch.setattr(model.trunk, "cache", lambda *args: None)
    assert model.generate_text(TextRequest(images, PROMPTS), max_length=6) == cached


def test_images_are_drawn_alone_as_together(model, images):
    together = model.generate_image(
        ImageRequest(PROMPTS, sources=[images], seed=2), steps=2, guidance=2.0
    )
    for row, prompt in enumerate(PROMPTS):
        alone = model.generate_image(
            ImageRequest([prompt], sources=[images[row : row + 1]], seed=2), steps=2, guidance=2
        )
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)


def test_the_image_tower_starts_as_the_language_models_and_is_kept_by_initialisation():
    llm, dual = make_llm(), from_llm(understand="vision", condition_on="clean_copy")
    for name, tensor in llm.trunk.state_dict().items():
        assert torch.equal(dual.trunk.text.state_dict()[name], tensor), name
        assert torch.equal(dual.trunk.image.state_dict()[name], tensor), name
    for part in ("embed", "to_text", "vision", "project"):
        for name, tensor in getattr(llm, part).state_dict().items():
            assert torch.equal(getattr(dual, part).state_dict()[name], tensor), name


def test_a_frozen_language_model_is_stored_once(images, tmp_path):
    settings = {"text_tower": "frozen", "condition_on": "clean_copy", "understand": "vision"}
    dual = awake_image_side(from_llm(**settings))
    save_export(dual, {"class": "DualTower"}, tmp_path)
    from safetensors.torch import load_file

    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() == {n for n, p in dual.named_parameters() if p.requires_grad}
    other = from_llm(**settings)
    load_export(other, tmp_path)
    for (name, one), two in zip(dual.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
    whole = from_llm(text_tower="trained")
    save_export(whole, {"class": "DualTower"}, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() == {n for n, _ in whole.named_parameters()}


def awake_image_side(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(TEXT_SIDE):
                parameter += 0.1
    return model.eval()


def test_learning_rates_by_tower():
    settings = Optimizer(lr=1.0, lr_ratio={"trunk.text": 0.1, "embed": 0.0})
    dual = make_dual()
    rate = {id(p): g["lr"] for g in parameter_groups(dual, settings) for p in g["params"]}
    for name, parameter in dual.named_parameters():
        ratio = 0.1 if name.startswith("trunk.text.") else float(not name.startswith("embed."))
        assert rate[id(parameter)] == ratio, name


def counted(model, batch) -> float:
    """Of forward and backward, by torch."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        sum(term.value.mean() for term in terms(model, batch).values()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("separation", ["ffn", "full"])
@pytest.mark.parametrize(
    ("text_tower", "task"),
    [("frozen", "draw"), ("frozen", "caption"), ("detached", "draw"), ("detached", "edit")],
)
def test_what_an_untrained_text_side_saves_is_what_torch_counts(
    images, separation, text_tower, task
):
    batch = layouts(images)[task]
    models = [
        awake(from_llm(condition_on="clean_copy", text_tower=tower, separation=separation))
        for tower in ("trained", text_tower)
    ]
    saved = [
        function(models[0]) - function(models[1])
        for function in (lambda model: counted(model, batch), lambda model: model.flops(batch))
    ]
    assert saved[1] == pytest.approx(saved[0], rel=0.005 if text_tower == "detached" else 1e-9)


def test_the_encoder_is_counted(images):
    batch = layouts(images)["caption"]
    settings = {"condition_on": "clean_copy", "understand": "vision", "text_tower": "trained"}
    dual = awake(from_llm(**settings))
    assert dual.flops(batch) == make_llm().flops(batch)
    frozen = awake(from_llm(**settings | {"text_tower": "frozen"}))
    both = [model.flops(layouts(images)["depth"]) for model in (dual, frozen)]
    assert both[0] > both[1] > both[0] / 3


def test_wrong_settings_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match="give an llm, or else a trunk and a text tokenizer"):
        make_dual(trunk=None)
    with pytest.raises(ValueError, match="give an llm, or else a trunk and a text tokenizer"):
        make_dual(llm=make_llm(), text=Bytes())
    with pytest.raises(ValueError, match="text_tower frozen keeps what a language model has"):
        make_dual(text_tower="frozen")
    with pytest.raises(ValueError, match="set condition_on to clean_copy"):
        from_llm(understand="vision", condition_on="noised")
    for blind in ({}, {"llm": VLM(Trunk(DIM, 2, 2), Bytes())}):
        with pytest.raises(ValueError, match="understand vision is by the encoder of an llm"):
            make_dual(understand="vision", condition_on="clean_copy", **blind)


def test_a_trunk_whose_layers_are_not_ours_is_refused(monkeypatch):
    llm = make_llm()
    monkeypatch.setattr(PretrainedTrunk, "__init__", lambda self: torch.nn.Module.__init__(self))
    llm.trunk = PretrainedTrunk()
    with pytest.raises(ValueError, match=r"trunk is a PretrainedTrunk.*use a Trunk"):
        make_dual(llm=llm)


def test_an_encoder_of_timm_before_a_frozen_text_tower_learns_its_projection(images):
    """Only what has weights is frozen: the projection of a new encoder has none."""

    def build(text_tower, pretrained=False):
        vision = TimmEncoder("test_vit.r160_in1k", pretrained=False, size=32)
        llm = VLM(Trunk(DIM, 2, 2), Bytes(), vision)
        initialise(llm, 0)
        for part in (llm.trunk, llm.embed, llm.to_text, llm if pretrained else llm.trunk):
            part.pretrained = True
        vision.pretrained = True
        return make_dual(
            llm=llm, text_tower=text_tower, condition_on="clean_copy", understand="vision"
        )

    batch = Batch.image_to_text(images, ["red", "blue", "no"], list("abc"), lengths=(8, 8))
    dual = build("frozen")
    terms(dual, batch)["text_ce"].value.sum().backward()
    assert all(p.grad.abs().max() > 0 for p in dual.project.parameters())
    assert not any(p.requires_grad for p in (*dual.vision.parameters(), *dual.embed.parameters()))
    assert all(p.requires_grad for p in build("trained").vision.parameters())
    with pytest.raises(ValueError, match="no gradient comes to it through a detached text tower"):
        build("detached")
    assert not any(p.requires_grad for p in build("detached", pretrained=True).project.parameters())
