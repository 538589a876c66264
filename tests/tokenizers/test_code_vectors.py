"""Vectors of codes as latents: one tokenizer, one ceiling, whatever the quantizer."""

import pytest
import torch

from unify.metrics.reconstruction import reconstruct
from unify.nn.conv import Autoencoder
from unify.nn.flops import counted
from unify.tokenizer import DiscreteTokenizer
from unify.tokenizers import vq
from unify.tokenizers.code_vectors import CodeVectors
from unify.tokenizers.one_body import Codes

QUANTIZERS = {
    "ema": lambda: vq.EMACodebook(size=32, dim=4, cosine=False),
    "cosine": lambda: vq.EMACodebook(size=32, dim=4),
    "rotation": lambda: vq.RotationCodebook(size=32, dim=4),
    "simvq": lambda: vq.SimVQCodes(size=32, dim=4),
    "fsq": lambda: vq.FSQCodes([4, 5, 3]),
    "lfq": lambda: vq.LFQCodes(bits=5),
}
TOKENIZERS = {
    **{name: lambda q=q: vq.VQ(q(), widths=[8, 8], patch=2) for name, q in QUANTIZERS.items()},
    **{
        f"{name}-in-body": lambda q=q: Codes(Autoencoder(8, [8, 8], patch=2), q())
        for name, q in QUANTIZERS.items()
    },
}
EACH = pytest.mark.parametrize("name", TOKENIZERS)


def built(name):
    torch.manual_seed(0)
    tokenizer = CodeVectors(TOKENIZERS[name]()).requires_grad_(False).eval()
    if "simvq" not in name and "fsq" not in name and "lfq" not in name:
        embed = dict(tokenizer.named_buffers()) | dict(tokenizer.named_parameters())
        (table,) = [value for key, value in embed.items() if key.endswith("embed")]
        table.add_(0.3)  # a codebook that is not centred, as those that are trained
        if "ema" not in name:
            table.copy_(torch.nn.functional.normalize(table, dim=-1))
    return tokenizer


def pictures(rows=4):
    # contrasts far beyond a picture's: the codes of an untrained tokenizer would all be one
    generator = torch.Generator().manual_seed(1)
    return 20 * torch.randn(rows, 3, 16, 24, generator=generator)


@EACH
def test_what_is_given_back_is_the_tokenizers_own_to_the_bit(name):
    tokenizer = built(name)
    images = pictures()
    codes = tokenizer.codes.encode(images)
    latents = tokenizer.encode(images)
    assert latents.shape == (4, tokenizer.channels, 4, 6)
    own = tokenizer.codes.decode(codes, (4, 6))
    assert len(codes.unique()) > 3
    assert torch.equal(tokenizer.decode(latents), own)
    # and so by the metric that measures ceilings
    ceilings = [reconstruct(part, images, 3)[0] for part in (tokenizer, tokenizer.codes)]
    assert torch.equal(*ceilings)


@EACH
def test_a_latent_is_the_vector_of_its_code_less_the_mean_over_the_deviation(name):
    tokenizer = built(name)
    images = pictures()
    every = torch.arange(tokenizer.codes.vocab_size)
    vectors = tokenizer.codes.vectors(every[None])[0]  # [K C]
    assert vectors.shape == (tokenizer.codes.vocab_size, tokenizer.channels)
    mean, std = vectors.double().mean(0), vectors.double().std(0, correction=0)
    table = ((vectors - mean) / std).float()
    torch.testing.assert_close(tokenizer.table(), table)
    torch.testing.assert_close(table.mean(0), torch.zeros(len(mean)), atol=1e-5, rtol=0)
    torch.testing.assert_close(table.std(0, correction=0), torch.ones(len(mean)))
    codes = tokenizer.codes.encode(images).view(4, 4, 6)
    torch.testing.assert_close(tokenizer.encode(images), table[codes].permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if not name.startswith("fsq")])
def test_the_vectors_are_those_among_which_the_quantizer_chooses(name):
    """Given a code's vector it answers with that code (FSQ would bend it by a tanh first)."""
    tokenizer = built(name)
    quantizer = tokenizer.codes.quantizer
    quantizer = getattr(quantizer, "quantizer", quantizer)
    every = torch.arange(quantizer.vocab_size)
    vectors = tokenizer.codes.vectors(every[None])[0]
    _, codes, _ = quantizer(vectors.T[None, :, :, None])
    assert torch.equal(codes.flatten(), every)


@EACH
def test_noise_below_half_the_least_distance_changes_no_code_and_a_step_past_it_does(name):
    tokenizer = built(name)
    table = tokenizer.table()
    far = torch.cdist(table, table, compute_mode="donot_use_mm_for_euclid_dist")
    far.fill_diagonal_(torch.inf)
    least, every = far.min(), torch.arange(len(table))
    for seed in range(20):
        noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(seed))
        noise *= 0.49 * least / noise.norm(dim=1, keepdim=True)
        moved = (table + noise).T[None, :, :, None]  # [1 C K 1]
        assert torch.equal(tokenizer.nearest(moved)[0], every)
    one = int(far.argmin()) // len(table)
    other = int(far[one].argmin())
    past = table[one] + 0.51 * (table[other] - table[one])
    assert tokenizer.nearest(past[None, :, None, None]).item() == other


def test_the_nearest_is_that_of_brute_force_whatever_the_portions(monkeypatch):
    tokenizer = built("ema")
    latents = torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(2))
    cells = latents.double().permute(0, 2, 3, 1).reshape(-1, 4)
    table = tokenizer.table().double()
    wanted = [(cell - table).square().sum(1).argmin().item() for cell in cells]
    whole = tokenizer.nearest(latents)
    assert whole.flatten().tolist() == wanted
    monkeypatch.setattr("unify.tokenizers.code_vectors.AT_ONCE", 100)
    assert torch.equal(tokenizer.nearest(latents), whole)


def test_a_channel_in_which_all_codes_agree_is_zero():
    tokenizer = built("ema")
    tokenizer.codes.quantizer.vq._codebook.embed[..., 1] = 3.0
    table = tokenizer.table()
    assert torch.isfinite(table).all()
    assert table[:, 1].abs().max() < 1e-3
    assert tokenizer.nearest(table.T[None, :, :, None])[0].tolist() == list(range(32))


def test_weights_that_come_later_are_the_ones_that_count():
    tokenizer, other = built("rotation"), built("rotation")
    before = tokenizer.encode(pictures())
    for value in other.state_dict().values():
        if value.is_floating_point():
            value.mul_(torch.linspace(0.5, 1.5, value.numel()).view(value.shape))
    tokenizer.load_state_dict(other.state_dict())
    assert not torch.equal(tokenizer.encode(pictures()), before)
    assert torch.equal(tokenizer.encode(pictures()), other.encode(pictures()))


def test_the_hash_is_its_own_and_that_of_the_tokenizer_inside():
    hashes = {name: built(name).content_hash() for name in TOKENIZERS}
    assert len(set(hashes.values())) == len(TOKENIZERS)
    tokenizer = built("fsq")
    assert tokenizer.content_hash() == hashes["fsq"] != tokenizer.codes.content_hash()
    tokenizer.codes.quantizer.levels = [5, 4, 3]
    assert tokenizer.content_hash() != hashes["fsq"]


@EACH
def test_encoding_costs_what_the_tokenizer_inside_costs(name):
    """Looking a vector up is no product; SimVQ's map of the whole codebook is one."""
    tokenizer = built(name)
    image = pictures(1)
    inside = counted(lambda: tokenizer.codes.encode(image))
    assert inside > 0
    table = counted(tokenizer.table)
    assert (table > 0) == ("simvq" in name)
    assert counted(lambda: tokenizer.encode(image)) == inside + table


class Bare(DiscreteTokenizer):
    """Codes that stand for nothing."""

    vocab_size, stride = 4, 4

    def settings(self):
        return {}

    def encode(self, images):
        return torch.zeros(len(images), 1, dtype=torch.long)

    def decode(self, codes, grid):
        return torch.zeros(len(codes), 3, 4, 4)


def test_codes_without_vectors_are_refused_by_name():
    with pytest.raises(ValueError, match="codes: the codes of Bare stand for no vectors"):
        CodeVectors(Bare())
    with pytest.raises(NotImplementedError, match="Bare has codes without vectors"):
        Bare().vectors(torch.zeros(1, 1, dtype=torch.long))


def test_more_codes_than_can_be_compared_are_refused():
    many = vq.VQ(vq.LFQCodes(bits=21), widths=[8, 8], patch=2)
    with pytest.raises(ValueError, match=r"codes: VQ has 2097152 codes.* at most 1048576"):
        CodeVectors(many)
