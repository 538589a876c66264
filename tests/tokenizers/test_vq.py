"""Quantizers behind one contract, the VQ tokenizer, and its adversarial term."""

import codebook_child
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from unify.batch import Batch
from unify.nn.conv import Discriminator, Residual
from unify.noise import Noise
from unify.tokenizers.vq import (
    VQ,
    AdversarialVQ,
    EMACodebook,
    FSQCodes,
    LFQCodes,
    RotationCodebook,
    SimVQCodes,
)

QUANTIZERS = {
    "ema": lambda: EMACodebook(size=32, dim=4),
    "euclidean": lambda: EMACodebook(size=32, dim=4, cosine=False),
    "rotation": lambda: RotationCodebook(size=32, dim=4),
    "simvq": lambda: SimVQCodes(size=32, dim=4),
    "fsq": lambda: FSQCodes([4, 5, 3]),
    "lfq": lambda: LFQCodes(bits=5),
}
ALL = pytest.mark.parametrize("name", QUANTIZERS)
CODEBOOKS = pytest.mark.parametrize("name", ["ema", "euclidean", "rotation", "simvq"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def vectors(quantizer, rows=3, scale=1.0):
    return (scale * torch.randn(rows, quantizer.dim, 4, 5)).requires_grad_()  # [B C h w]


def codebook(quantizer):
    """All codes [K C]."""
    ids = torch.arange(quantizer.vocab_size).view(-1, 1, 1)
    return quantizer.lookup(ids)[..., 0, 0]


def images(rows=4, size=16):
    return torch.rand(rows, 3, size, size) * 2 - 1


def vq(name="rotation", cls=VQ, **parts):
    return cls(QUANTIZERS[name](), widths=[8, 16], patch=2, **parts)


def batch_of(data):
    batch = Batch.image(data, [f"image/{i}" for i in range(len(data))])
    return batch, Noise.for_batch(0, 0, batch)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same_state(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


# The contract


@ALL
@pytest.mark.parametrize("training", [True, False])
def test_quantised_vectors_codes_and_row_losses_have_the_shapes_of_the_contract(name, training):
    quantizer = QUANTIZERS[name]().train(training)
    z = vectors(quantizer)
    quantised, codes, loss = quantizer(z)
    assert quantised.shape == z.shape
    assert quantised.dtype == loss.dtype == torch.float32
    assert codes.shape == (3, 4, 5)
    assert codes.dtype == torch.long
    assert loss.shape == (3,)
    assert codes.min() >= 0
    assert codes.max() < quantizer.vocab_size


@ALL
def test_the_forward_value_is_the_code_that_lookup_gives(name):
    quantizer = QUANTIZERS[name]()
    z = vectors(quantizer, scale=3.0)
    before = codebook(quantizer).detach()  # a codebook moves after it was used
    quantised, codes, _ = quantizer(z)
    torch.testing.assert_close(quantised.movedim(1, -1), before[codes], atol=1e-5, rtol=1e-5)
    quantised, codes, _ = quantizer.eval()(z)
    assert torch.equal(quantised, quantizer.lookup(codes))


@CODEBOOKS
def test_a_code_is_the_nearest_by_brute_force(name):
    quantizer = QUANTIZERS[name]().eval()
    z = vectors(quantizer, rows=8).detach()
    flat = z.movedim(1, -1).reshape(-1, quantizer.dim)
    if name in ("ema", "rotation"):
        flat = F.normalize(flat, dim=-1)
    distance = (flat[:, None] - codebook(quantizer)).norm(dim=-1)  # [N K]
    codes = quantizer(z)[1].flatten()
    chosen = distance.gather(1, codes[:, None])[:, 0]
    torch.testing.assert_close(chosen, distance.min(1).values, atol=1e-5, rtol=0)


@ALL
def test_codes_do_not_depend_on_the_order_of_rows(name):
    quantizer = QUANTIZERS[name]().eval()
    z, order = vectors(quantizer, rows=6), torch.randperm(6)
    assert torch.equal(quantizer(z)[1][order], quantizer(z[order])[1])


@pytest.mark.parametrize("name", ["ema", "rotation"])
def test_a_cosine_codebook_ignores_the_length_of_vectors(name):
    quantizer = QUANTIZERS[name]().eval()
    z = vectors(quantizer)
    assert torch.equal(quantizer(z)[1], quantizer(7.5 * z)[1])


@pytest.mark.parametrize("name", ["fsq", "lfq"])
def test_every_code_survives_lookup_and_quantisation(name):
    quantizer = QUANTIZERS[name]().eval()
    ids = torch.arange(quantizer.vocab_size).view(1, -1, 1)
    codes = quantizer.lookup(ids)  # [1 C K 1]
    assert len(codebook(quantizer).unique(dim=0)) == quantizer.vocab_size
    if name == "fsq":  # its bound is a tanh: put the code where it rounds back
        half = (torch.tensor(quantizer.levels) - 1)[:, None, None] * 1.001 / 2
        width = (torch.tensor(quantizer.levels) // 2)[:, None, None]
        even = (torch.tensor(quantizer.levels) % 2 == 0)[:, None, None] * 0.5
        z = torch.atanh((codes * width + even) / half) - torch.atanh(even / half)
    else:
        z = codes
    assert torch.equal(quantizer(z)[1], ids)


@ALL
@pytest.mark.parametrize("mode", ["eval", "no gradient"])
def test_nothing_is_learned_in_eval_mode_or_without_a_gradient(name, mode):
    quantizer = QUANTIZERS[name]()
    before = state(quantizer)
    z = vectors(quantizer, rows=16)
    if mode == "eval":
        quantizer.eval()
        for _ in range(3):
            quantizer(z)
    else:
        for _ in range(3):
            quantizer(z.detach())
    assert same_state(quantizer, before)


@pytest.mark.parametrize("name", ["ema", "euclidean", "rotation"])
def test_an_ema_codebook_moves_in_training_and_revives_unused_codes(name):
    quantizer = QUANTIZERS[name]()
    z = vectors(quantizer, rows=16)
    first = codebook(quantizer)
    for _ in range(40):
        quantizer(z)
    assert not torch.equal(codebook(quantizer), first)
    used = len(quantizer.eval()(z)[1].unique())
    assert used > 0.9 * quantizer.vocab_size


def test_only_a_code_that_too_few_vectors_choose_restarts():
    """At a vector of the step; the others are what they would be without any restart."""
    kept, revived = (
        EMACodebook(size=3, dim=2, decay=0.5, cosine=False, revive_below=least)
        for least in (0.0, 0.3)
    )
    start = torch.tensor([[0.0, 0.0], [10.0, 0.0], [100.0, 100.0]])
    z = torch.tensor([[0.0, 1.0], [10.0, 1.0]])
    for quantizer in (kept, revived):
        quantizer.vq._codebook.embed.data.copy_(start)
        quantizer.vq._codebook.embed_avg.data.copy_(start)
        for _ in range(2):  # the third code's running count falls from 1 to 0.25
            quantizer(z.T.reshape(1, 2, 1, 2).requires_grad_())  # [B C h w]
    torch.testing.assert_close(codebook(kept)[2], start[2], atol=0.01, rtol=0)
    assert (codebook(revived)[2] == z).all(1).any()
    torch.testing.assert_close(codebook(revived)[:2], codebook(kept)[:2])


def test_the_euclidean_codebook_is_the_running_mean_of_its_vectors():
    quantizer = EMACodebook(size=4, dim=2, decay=0.5, cosine=False, revive_below=0.0)
    z = vectors(quantizer, rows=4)
    sums, counts = codebook(quantizer), torch.ones(4)
    for _ in range(3):
        codes = quantizer(z)[1].flatten()
        flat = z.detach().movedim(1, -1).reshape(-1, 2)
        hot = F.one_hot(codes, 4).float()
        sums, counts = 0.5 * sums + 0.5 * hot.T @ flat, 0.5 * counts + 0.5 * hot.sum(0)
    torch.testing.assert_close(codebook(quantizer), sums / counts[:, None], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("cosine", [False, True])
def test_a_codebook_whose_updates_are_added_up_moves_as_on_the_whole_batch(cosine):
    """Two processes with half of the batch each, one after the other."""
    whole, first, second = (
        EMACodebook(size=4, dim=2, decay=0.5, cosine=cosine, revive_below=0.0) for _ in range(3)
    )
    for part in (first, second):
        part.load_state_dict(whole.state_dict())
    z, sums = vectors(whole, rows=4).detach(), []
    second.share_updates(lambda tensor: sums.append(tensor.clone()))
    second(z[2:].requires_grad_())
    assert sums
    first.share_updates(lambda tensor: tensor.add_(sums.pop(0)))
    first(z[:2].requires_grad_())
    assert not sums
    whole(z.requires_grad_())
    torch.testing.assert_close(codebook(first), codebook(whole))


# Gradients


@pytest.mark.parametrize("name", ["euclidean", "lfq"])
def test_straight_through_passes_the_gradient_unchanged(name):
    quantizer = QUANTIZERS[name]()
    z = vectors(quantizer)
    upstream = torch.randn_like(z)
    (gradient,) = torch.autograd.grad(quantizer(z)[0], z, upstream)
    torch.testing.assert_close(gradient, upstream)


def test_straight_through_of_a_cosine_codebook_is_the_gradient_of_normalising():
    quantizer = QUANTIZERS["ema"]()
    z = vectors(quantizer)
    upstream = torch.randn_like(z)
    (gradient,) = torch.autograd.grad(quantizer(z)[0], z, upstream)
    (expected,) = torch.autograd.grad(F.normalize(z, dim=1), z, upstream)
    torch.testing.assert_close(gradient, expected)


def test_the_rotation_trick_scales_the_gradient_by_the_ratio_of_lengths():
    quantizer = RotationCodebook(size=32, dim=4, cosine=False)
    z = vectors(quantizer)
    quantised, _, _ = quantizer(z)
    upstream = torch.randn_like(z)
    (gradient,) = torch.autograd.grad(quantised, z, upstream)
    ratio = quantised.norm(dim=1) / z.norm(dim=1)
    torch.testing.assert_close(
        gradient.norm(dim=1), ratio * upstream.norm(dim=1), atol=1e-5, rtol=1e-4
    )


def test_a_gradient_along_the_code_turns_into_one_along_the_vector():
    quantizer = RotationCodebook(size=32, dim=4, cosine=False)
    z = vectors(quantizer)
    quantised, _, _ = quantizer(z)
    upstream = F.normalize(quantised.detach(), dim=1)
    (gradient,) = torch.autograd.grad(quantised, z, upstream)
    cosine = F.cosine_similarity(gradient, z, dim=1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_the_fsq_gradient_is_that_of_its_bound():
    quantizer = FSQCodes([5, 7])
    z = vectors(quantizer)
    (gradient,) = torch.autograd.grad(quantizer(z)[0].sum(), z)
    levels = torch.tensor([5, 7])[:, None, None]
    slope = (levels - 1) * 1.001 / 2 / (levels // 2) * (1 - z.detach().tanh() ** 2)
    torch.testing.assert_close(gradient, slope)


def test_simvq_learns_its_codebook_from_the_codebook_loss_alone():
    quantizer = QUANTIZERS["simvq"]()
    z = vectors(quantizer)
    quantised, _, loss = quantizer(z)
    weight = quantizer.vq.code_transform.weight
    assert torch.autograd.grad(quantised.sum(), weight, allow_unused=True) == (None,)
    (gradient,) = torch.autograd.grad(loss.sum(), weight)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["euclidean", "simvq"])
def test_the_codebook_loss_pulls_vectors_with_beta_and_codes_with_one(name):
    quantizer = QUANTIZERS[name]()
    z = vectors(quantizer)
    if name == "simvq":
        quantizer.vq.code_transform.weight.data.copy_(torch.eye(4))
    before = codebook(quantizer)
    _, codes, loss = quantizer(z)
    code, n = before[codes].movedim(-1, 1), z[0].numel()
    (gradient,) = torch.autograd.grad(loss.sum(), z, retain_graph=True)
    torch.testing.assert_close(gradient, 0.25 * 2 * (z - code).detach() / n)
    if name == "simvq":
        (learned,) = torch.autograd.grad(loss.sum(), quantizer.vq.code_transform.weight)
        pull = (2 * (code - z) / n).movedim(1, -1).reshape(-1, 4)  # [N C] dL/de, e = W c
        frozen = quantizer.vq.frozen_codebook[codes.flatten()]
        torch.testing.assert_close(learned, (pull.T @ frozen).detach())


def test_the_library_s_commitment_is_the_mean_of_ours_over_rows():
    from vector_quantize_pytorch import VectorQuantize

    ours = QUANTIZERS["ema"]()
    theirs = VectorQuantize(
        dim=4,
        codebook_size=32,
        use_cosine_sim=True,
        commitment_weight=0.25,
        accept_image_fmap=True,
    )
    theirs.load_state_dict(ours.vq.state_dict())
    z = vectors(ours)
    torch.testing.assert_close(ours(z)[2].mean(), theirs(z)[2])


# The tokenizer


@ALL
def test_decoding_codes_equals_decoding_what_the_quantizer_gave(name):
    model = vq(name).eval()
    data = images()
    with torch.no_grad():
        quantised, codes, _ = model.quantizer(model.encoder(data))
        expected = model.decoder(quantised).clamp(-1, 1)
    assert torch.equal(model.encode(data), codes.flatten(1))
    assert torch.equal(model.decode(codes.flatten(1), (4, 4)), expected)


@ALL
def test_encoding_while_training_gives_the_codes_of_eval_mode_and_learns_nothing(name):
    model = vq(name).train()
    before, data = state(model), images()
    codes = model.encode(data)
    assert same_state(model, before)
    assert torch.equal(codes, model.eval().encode(data))


@ALL
def test_codes_and_images_do_not_depend_on_autocast(name):
    model = vq(name).eval()
    data = images()
    codes = model.encode(data)
    copies = model.decode(codes, (4, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.encode(data), codes)
        assert torch.equal(model.decode(codes, (4, 4)), copies)


@pytest.mark.parametrize("training", [True, False])
@ALL
def test_a_row_s_loss_does_not_depend_on_its_batch_mates(name, training):
    training = training and name != "lfq"  # its entropy is over the micro-step, as it says
    model = vq(name).train(training)
    before = state(model)
    batch, noise = batch_of(images())
    terms = model.loss(batch, noise)
    model.load_state_dict(before)  # a codebook moves after it was used
    alone = model.loss(batch.rows(slice(1, 2)), noise)
    assert terms.keys() == model.terms
    for key, term in terms.items():
        assert term.value.shape == (4,)
        torch.testing.assert_close(term.value[1:2], alone[key].value, atol=1e-6, rtol=1e-5)


@ALL
def test_training_reaches_every_parameter(name):
    model = vq(name).train()
    terms = model.loss(*batch_of(images()))
    sum(term.value.mean() for term in terms.values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_a_few_steps_overfit_a_batch():
    model = vq("fsq").train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    batch, noise = batch_of(F.interpolate(images(4, 4), 16))
    first = last = 0.0
    for _ in range(60):
        loss = model.loss(batch, noise)["pixel"].value.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (first or loss.item()), loss.item()
    assert last < 0.4 * first


def test_the_grid_follows_the_stride_and_other_sizes_are_refused():
    model = vq()
    assert model.stride == 4
    assert model.grid(16, 24) == (4, 6)
    assert model.encode(torch.zeros(1, 3, 16, 24)).shape == (1, 24)
    assert model.decode(torch.zeros(1, 24, dtype=torch.long), (4, 6)).shape == (1, 3, 16, 24)
    with pytest.raises(ValueError, match="multiple of 4"):
        model.encode(torch.zeros(1, 3, 18, 16))


def test_the_content_hash_follows_every_weight_and_setting_and_survives_a_file(tmp_path):
    model = vq().eval()
    name = model.content_hash()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = vq().eval()
    other.encoder.layers[1].weight.data += 1
    assert other.content_hash() != name
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert other.content_hash() == name
    other.quantizer.vq._codebook.embed.data[0, 0, 0] += 1e-3
    assert other.content_hash() != name
    assert (
        vq("fsq").content_hash() != VQ(FSQCodes([5, 4, 3]), widths=[8, 16], patch=2).content_hash()
    )


def test_flops_grow_with_rows_and_leave_the_model_as_it_was():
    model = vq().train()
    before = state(model)
    one, four = (model.flops(batch_of(images(rows))[0]) for rows in (1, 4))
    assert one > 0
    assert four == 4 * one
    assert same_state(model, before)


def test_flops_of_a_block_are_those_of_its_two_convolutions():
    from unify.nn.conv import training_flops

    data = torch.zeros(5, 8, 6, 6)
    per_row = 2 * (2 * 8 * 8 * 9 * 6 * 6)
    assert training_flops(Residual(8), data) == 3 * 5 * per_row


# The adversarial terms


def adversarial():
    model = vq("rotation", AdversarialVQ, discriminator=Discriminator(widths=[8, 16]))
    return model.train()


def gradients(module):
    return [p.grad for p in module.parameters() if p.grad is not None and p.grad.abs().sum() > 0]


def test_the_generator_term_trains_the_autoencoder_alone():
    model = adversarial()
    terms = model.loss(*batch_of(images()))
    assert terms.keys() == model.terms
    terms["generator"].value.mean().backward()
    assert not gradients(model.discriminator)
    assert gradients(model.decoder)
    assert gradients(model.encoder)


def test_the_discriminator_term_trains_the_discriminator_alone():
    model = adversarial()
    model.loss(*batch_of(images()))["discriminator"].value.mean().backward()
    first = model.discriminator.layers[0].weight.grad
    assert first is not None
    assert first.abs().sum() > 0
    assert not gradients(model.encoder)
    assert not gradients(model.decoder)


def test_one_backward_gives_each_side_the_gradient_of_its_own_terms():
    model, data = adversarial().eval(), images()  # eval: the codebook stays where it is
    terms = model.loss(*batch_of(data))
    sum(term.value.mean() for term in terms.values()).backward()
    together = [p.grad.clone() for p in model.discriminator.parameters()]
    model.zero_grad()
    model.loss(*batch_of(data))["discriminator"].value.mean().backward()
    for a, b in zip(together, model.discriminator.parameters(), strict=True):
        assert torch.equal(a, b.grad)


def test_the_adversarial_terms_are_the_hinge_loss_of_the_logits():
    model, data = adversarial().eval(), images()
    terms = model.loss(*batch_of(data))
    with torch.no_grad():
        _, copies = model.reconstruct(data)
        real, fake = model.discriminator(data), model.discriminator(copies)
    hinge = 0.5 * ((1 - real).clamp(min=0) + (1 + fake).clamp(min=0)).mean((1, 2, 3))
    torch.testing.assert_close(terms["discriminator"].value, hinge)
    torch.testing.assert_close(terms["generator"].value, -fake.mean((1, 2, 3)))


def test_a_row_s_adversarial_terms_do_not_depend_on_its_batch_mates():
    model = adversarial().eval()
    batch, noise = batch_of(images())
    terms, alone = model.loss(batch, noise), model.loss(batch.rows(slice(2, 3)), noise)
    for key in model.terms:
        torch.testing.assert_close(terms[key].value[2:3], alone[key].value, atol=1e-6, rtol=1e-5)


# Several ranks


@pytest.mark.slow
def test_a_codebook_built_before_the_process_group_stays_the_same_on_all_ranks(tmp_path):
    torch.save(EMACodebook(size=32, dim=4).state_dict(), tmp_path / "start.pt")
    torch.multiprocessing.spawn(codebook_child.train_codebook, (str(tmp_path),), nprocs=2)
    start, first, second = (torch.load(tmp_path / f"{n}.pt") for n in ("start", "0", "1"))
    assert not torch.equal(start["vq._codebook.embed"], first["vq._codebook.embed"])
    for name in first:
        assert torch.equal(first[name], second[name]), name
