"""The text's latent: shape, padding, divergence; what keeps the text in it; groups of rows."""

import math

import pytest
import torch
import torch.nn.functional as F

from unify.nn.init import initialise
from unify.nn.latent_flow import mate, same_group
from unify.nn.text_latent import (
    Contrast,
    Deterministic,
    ImageText,
    Noised,
    Reconstruction,
    TextDecoder,
    TextEncoder,
    TextText,
    Variational,
    check_fit,
)
from unify.nn.trunk import Trunk
from unify.nn.vision import PatchEncoder

DIM, VOCAB, CHANNELS = 32, 20, 3
POSTERIORS = [Deterministic(), Noised(0.5), Variational(), Variational("mu6")]


def make(part):
    initialise(part, 0)
    return part


def encoder(posterior=None):
    return make(TextEncoder(Trunk(DIM, 2, 2), posterior or Variational(), VOCAB, CHANNELS))


def decoder():
    return make(TextDecoder(Trunk(DIM, 2, 2), VOCAB, CHANNELS))


def texts(rows=3, length=6):
    """ids and valid: row b has length - b tokens, the rest is padding."""
    ids = torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(0))
    return ids, torch.arange(length) < length - torch.arange(rows)[:, None]


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("grid", [(4, 4), (2, 6)])
def test_a_latent_has_as_many_numbers_as_the_target(posterior, grid):
    model = encoder(posterior)
    z = posterior.sample(model(*texts(), grid), torch.zeros(3, CHANNELS, *grid))
    assert z.shape == (3, CHANNELS, *grid)


def test_padding_changes_nothing_neither_its_ids_nor_its_amount():
    model, (ids, valid) = encoder(), texts()
    known = model(ids, valid, (4, 4))
    other = torch.where(valid, ids, (ids + 7) % VOCAB)
    torch.testing.assert_close(model(other, valid, (4, 4)), known)
    longer = [F.pad(ids, (0, 5)), F.pad(valid, (0, 5))]
    torch.testing.assert_close(model(*longer, (4, 4)), known)
    assert not torch.allclose(model((ids + 1) % VOCAB, valid, (4, 4)), known)


def test_every_place_depends_on_every_token_and_on_every_order():
    model, (ids, valid) = encoder(), texts(1)
    embedded = []
    model.embed.register_forward_hook(lambda m, a, out: embedded.append(out) or out.retain_grad())
    moments = model(ids, valid, (4, 4))
    for place in moments[0, 0, ::2, ::2].flatten():
        (gradient,) = torch.autograd.grad(place, embedded[0], retain_graph=True)
        assert (gradient[0].abs().amax(-1) > 0).all()
    assert not torch.allclose(model(ids.flip(1), valid, (4, 4)), moments)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_without_eps_the_latent_is_the_mean(posterior):
    moments = normal(2, posterior.moments * CHANNELS, 4, 4)
    z = posterior.sample(moments, torch.zeros(2, CHANNELS, 4, 4))
    assert torch.equal(z, moments[:, :CHANNELS])


def test_a_sample_has_the_mean_and_the_deviation_it_says():
    mean, logvar = torch.tensor([-1.0, 0.5]), torch.tensor([-2.0, 1.0])
    moments = torch.cat([mean, logvar])[None, :, None, None]
    eps = normal(200_000, 2, 1, 1)
    z = Variational().sample(moments, eps)[..., 0, 0]
    torch.testing.assert_close(z.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(z.std(0), (logvar / 2).exp(), atol=0.02, rtol=0)
    noised = Noised(0.5).sample(torch.zeros(1, 2, 1, 1), eps)
    assert noised.std().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kl", ["gaussian", "mu6"])
def test_divergence_is_zero_at_the_prior_and_positive_elsewhere(kl):
    posterior = Variational(kl)
    assert posterior.divergence(torch.zeros(2, 2 * CHANNELS, 4, 4)).tolist() == [0, 0]
    for seed in range(5):
        assert (posterior.divergence(normal(2, 2 * CHANNELS, 4, 4, seed=seed)) > 0).all()


def test_gaussian_divergence_is_that_of_the_distributions():
    mean, logvar = normal(2, 2, CHANNELS, 4, 4).unbind(1)
    prior = torch.distributions.Normal(0.0, 1.0)
    ours = torch.distributions.Normal(mean, (logvar / 2).exp())
    wanted = torch.distributions.kl_divergence(ours, prior).flatten(1).mean(1)
    result = Variational().divergence(torch.cat([mean, logvar], 1))
    torch.testing.assert_close(result, wanted)


def test_mu6_is_flat_near_the_prior_and_a_wall_beyond():
    def at(kl, mean):
        moments = torch.zeros(1, 2, 1, 1)
        moments[:, 0] = mean
        return Variational(kl).divergence(moments).item()

    assert at("mu6", 1.0) == pytest.approx(0.3**6 / 2, rel=1e-5)
    assert at("mu6", 1.0) < 0.01 * at("gaussian", 1.0)
    assert at("mu6", 10.0) > 5 * at("gaussian", 10.0)


@pytest.mark.parametrize("posterior", [Deterministic(), Noised()])
def test_without_a_prior_the_divergence_is_exactly_zero(posterior):
    assert posterior.divergence(normal(2, CHANNELS, 4, 4)).tolist() == [0, 0]


def everyone(rows):
    return torch.ones(rows, rows, dtype=torch.bool)


def test_contrast_is_clips_loss_over_the_group():
    one, other = normal(2, 5, 8).unbind(0)
    contrast = Contrast()
    scores = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T / 0.07
    rows = torch.arange(5)
    wanted = (F.cross_entropy(scores, rows) + F.cross_entropy(scores.T, rows)) / 2
    torch.testing.assert_close(contrast(one, other, everyone(5)).mean(), wanted)


def test_contrast_is_symmetric_under_swapping_modalities():
    one, other = normal(2, 5, 8).unbind(0)
    contrast = Contrast()
    swapped = contrast(other, one, everyone(5))
    torch.testing.assert_close(contrast(one, other, everyone(5)), swapped)


def test_contrast_of_aligned_rows_is_below_and_of_equal_rows_at_log_b():
    contrast, rows = Contrast(), normal(6, 16)
    assert contrast(rows, rows, everyone(6)).max().item() < math.log(6)
    level = contrast(rows[:1].expand(6, -1), rows[:1].expand(6, -1), everyone(6))
    torch.testing.assert_close(level, torch.full((6,), math.log(6)))


def test_contrast_of_groups_is_that_of_each_group_and_zero_alone():
    one, other = normal(2, 7, 8).unbind(0)
    contrast, same = Contrast(), same_group(range(7), 3)
    whole = contrast(one, other, same)
    for rows in (slice(0, 3), slice(3, 6)):
        torch.testing.assert_close(whole[rows], contrast(one[rows], other[rows], everyone(3)))
    assert whole[6] == 0
    whole.sum().backward()
    assert torch.isfinite(contrast.logit_scale.grad)


def test_contrast_never_multiplies_by_more_than_100():
    contrast, rows = Contrast(), normal(4, 8)
    values = []
    for scale in (math.log(100), 50.0):
        torch.nn.init.constant_(contrast.logit_scale, scale)
        values.append(contrast(rows, rows.flip(0), everyone(4)))
    torch.testing.assert_close(*values)


def test_a_group_is_so_many_consecutive_draws_wherever_a_batch_is_cut():
    assert same_group([4, 5, 6, 7], 2).int().tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    whole = same_group(range(12), 3)
    assert torch.equal(same_group(range(6, 12), 3), whole[6:, 6:])


@pytest.mark.parametrize("rows", [2, 3, 7, 8])
@pytest.mark.parametrize("size", [2, 3, 46])
def test_a_mate_is_another_row_of_the_group(rows, size):
    same, seen = same_group(range(rows), size), set()
    for step in range(200):
        u = torch.rand(rows, generator=torch.Generator().manual_seed(step))
        result = mate(same, u)
        for row, other in enumerate(result.tolist()):
            alone = same[row].sum() == 1
            assert same[row, other]
            assert (other == row) == alone
            seen.add((row, other))
    pairs = {(i, j) for i, j in same.nonzero().tolist() if i != j or same[i].sum() == 1}
    assert seen == pairs, "every mate is met"


def test_the_largest_uniform_still_finds_a_mate():
    for rows in (2, 3, 1000):
        result = mate(everyone(rows), torch.full((rows,), 1 - 2**-24))
        assert (result != torch.arange(rows)).all()


def test_a_row_keeps_its_mate_when_the_batch_is_cut_between_groups():
    u = torch.rand(12, generator=torch.Generator().manual_seed(0))
    whole = mate(same_group(range(12), 3), u)
    assert torch.equal(mate(same_group(range(6, 12), 3), u[6:]) + 6, whole[6:])


def test_decoder_tokens_do_not_depend_on_how_many_are_asked_for():
    model, z = decoder(), normal(2, CHANNELS, 4, 4)
    torch.testing.assert_close(model(z, 9)[:, :4], model(z, 4))
    ids, valid = texts(2)
    longer = model.nll(z, F.pad(ids, (0, 5)), F.pad(valid, (0, 5)))
    torch.testing.assert_close(longer, model.nll(z, ids, valid))


def test_encoder_and_decoder_learn_to_read_back_texts_of_any_length():
    ids, valid = texts(4, 7)
    one, other = encoder(), decoder()
    optimizer = torch.optim.Adam([*one.parameters(), *other.parameters()], 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        z = Variational().sample(one(ids, valid, (4, 4)), torch.zeros(4, CHANNELS, 4, 4))
        other.nll(z, ids, valid).mean().backward()
        optimizer.step()
    printed = other(z, 6).argmax(-1)
    assert torch.equal(printed[valid[:, 1:]], ids[:, 1:][valid[:, 1:]])


def regularisers():
    return {
        "image": ImageText(PatchEncoder(DIM, 1, 2), CHANNELS * 16),
        "text": TextText(TextEncoder(Trunk(DIM, 1, 2), Deterministic(), VOCAB, CHANNELS)),
        "tokens": Reconstruction(TextDecoder(Trunk(DIM, 1, 2), VOCAB, CHANNELS)),
    }


@pytest.mark.parametrize("name", ["image", "text", "tokens"])
def test_a_regulariser_teaches_the_latent_and_itself_one_value_per_row(name):
    part = make(regularisers()[name])
    z0 = normal(3, CHANNELS, 4, 4).requires_grad_()
    images = normal(3, 3, 8, 8, seed=2).tanh()
    value = part(z0, *texts(), images, everyone(3))
    assert value.shape == (3,)
    assert (value > 0).all()
    value.sum().backward()
    assert z0.grad.abs().max() > 0
    for key, parameter in part.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    assert part.flops(6, (4, 4), images) == pytest.approx(3 * part.flops(6, (4, 4), images[:1]))


@pytest.mark.parametrize("part", [encoder(), decoder()])
def test_flops_count_the_pairs_that_the_mask_has(part):
    seen = []
    part.trunk.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    if isinstance(part, TextEncoder):
        part(*(x[:1] for x in texts()), (4, 6))
        ends = part.head.weight.numel() * 2 * 3
    else:
        part(normal(1, CHANNELS, 4, 6), 6)
        ends = part.inward.weight.numel() * 2 * 3 + DIM * VOCAB * 6
    wanted = part.trunk.flops(seen[0].x.shape[1], seen[0].mask.pairs()) + 2 * ends
    assert part.flops(6, (4, 6)) == pytest.approx(wanted)


def test_misfits_are_named():
    with pytest.raises(ValueError, match=r"encoder.vocab_size is 20.*set it to 21"):
        check_fit("encoder", encoder(), VOCAB + 1, CHANNELS)
    with pytest.raises(ValueError, match="5x4 latent does not divide into patches of 2"):
        encoder()(*texts(), (5, 4))
    with pytest.raises(ValueError, match=r"regulariser.numbers is 48, but a latent has 96"):
        regularisers()["image"](
            normal(3, CHANNELS, 4, 8), *texts(), normal(3, 3, 8, 8), everyone(3)
        )
