"""What every tokenizer must do, by its contract in unify/tokenizer.py.

B rows, L codes or tokens, C channels, h x w grid.
"""

import itertools
from pathlib import Path

import pytest
import torch
from parts import SHIPPED, Part, concrete, seeded, tokenizers_in

from unify.batch import Batch
from unify.flow import UniformTime
from unify.nn.conv import Autoencoder, Discriminator
from unify.nn.denoiser import SanaDenoiser
from unify.nn.vision import PatchEncoder
from unify.noise import Noise
from unify.paradigm import Trainable
from unify.tokenizer import DiscreteTokenizer, ImageTokenizer, TextTokenizer, Tokenizer
from unify.tokenizers import vq
from unify.tokenizers.code_vectors import CodeVectors
from unify.tokenizers.one_body import Codes, Latents
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.quantised import QuantisedLatents
from unify.tokenizers.rae import RAE, PretrainedRAE
from unify.tokenizers.semantic_codes import SemanticCodes
from unify.tokenizers.text import BPE, Bytes, PretrainedText
from unify.tokenizers.vae import VAE, PretrainedDCAE, PretrainedVAE

TEXTS = ["a red circle", "two blue squares at the top", "what color is the star?", "no"]
SMALL = {"widths": (8, 8), "norm_groups": 4}
QUANTIZERS = {
    "ema": lambda: vq.EMACodebook(size=32, dim=4, cosine=False),
    "rotation": lambda: vq.RotationCodebook(size=32, dim=4),
    "simvq": lambda: vq.SimVQCodes(size=32, dim=4),
    "fsq": lambda: vq.FSQCodes(levels=(5, 5)),
    "lfq": lambda: vq.LFQCodes(bits=5),
}


def bpe():
    tokenizer = BPE(300)
    tokenizer.fit(TEXTS)
    return tokenizer


def pretrained_text(folder):
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=bpe().model, eos_token="!")
    fast.save_pretrained(folder / "text")
    return PretrainedText(str(folder / "text"))


def pretrained_vae(folder):
    VAE(**SMALL).net.save_pretrained(folder / "vae")
    return PretrainedVAE(str(folder / "vae"))


def pretrained_dc_ae(folder):
    from diffusers import AutoencoderDC

    sides = {"block_out_channels": (8, 8), "layers_per_block": (1, 1), "qkv_multiscales": ((), ())}
    sides["block_types"] = "ResBlock"
    both = {
        f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in sides.items()
    }
    net = AutoencoderDC(latent_channels=4, attention_head_dim=4, **both)
    net.save_pretrained(folder / "dc_ae")
    return PretrainedDCAE(str(folder / "dc_ae"))


def pretrained_rae(folder):
    from diffusers import AutoencoderRAE

    sides = {"encoder_hidden_size": 64, "encoder_num_hidden_layers": 1, "encoder_patch_size": 8}
    sides |= {"encoder_input_size": 32, "patch_size": 4, "decoder_hidden_size": 16}
    sides |= {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    net = AutoencoderRAE(
        encoder_type="mae",
        decoder_intermediate_size=16,
        latents_mean=[[[0.1]]] * 64,
        latents_std=[[[0.5]]] * 64,
        noise_tau=0.5,  # of its own training
        **sides,
    )
    net.save_pretrained(folder / "rae")
    return PretrainedRAE(str(folder / "rae"))


def small_rae(**settings):
    return RAE(PatchEncoder(16, 1, 2, patch=4), 4, dim=16, depth=1, heads=2, **settings)


def semantic_codes():
    sizes = {"dim": 16, "depth": 1, "heads": 2}
    return SemanticCodes(
        encoder=PatchEncoder(16, 1, 2, patch=4),
        quantizer=QUANTIZERS["rotation"](),
        latents=VAE(**SMALL),
        denoiser=SanaDenoiser(condition_dim=16, width=16, depth=1, heads=2, patch=2),
        time=UniformTime(),
        codes=5,
        size=16,
        steps=2,
        **sizes,
    )


def shipped(folder):
    """Every shipped tokenizer in a small size; `folder` is where the pretrained ones lie."""
    made = {
        "pixels": Pixels,
        "vae": lambda: VAE(**SMALL),
        "vae-patch": lambda: VAE(**SMALL, patch=2),
        **{
            name: lambda make=make: vq.VQ(make(), widths=(8, 8), patch=2)
            for name, make in QUANTIZERS.items()
        },
        "adversarial": lambda: vq.AdversarialVQ(
            vq.RotationCodebook(size=32, dim=4), Discriminator((8, 8)), widths=(8, 8), patch=2
        ),
        "latents-in-body": lambda: Latents(Autoencoder(8, (8, 8), patch=2)),
        "codes-in-body": lambda: Codes(Autoencoder(8, (8, 8), patch=2), QUANTIZERS["rotation"]()),
        **{
            f"vectors-of-{name}": lambda make=make: CodeVectors(
                vq.VQ(make(), widths=(8, 8), patch=2)
            )
            for name, make in QUANTIZERS.items()
        },
        "quantised": lambda: QuantisedLatents(VAE(**SMALL), QUANTIZERS["rotation"](), patch=2),
        "rae": small_rae,
        "rae-of-directions": lambda: small_rae(scaling="length"),
        "semantic-codes": semantic_codes,
        "vectors-of-semantic-codes": lambda: CodeVectors(semantic_codes()),
        "bytes": Bytes,
        "bpe": bpe,
        "pretrained-text": lambda: pretrained_text(folder),
        "pretrained-vae": lambda: pretrained_vae(folder),
        "dc-ae": lambda: pretrained_dc_ae(folder),
        "pretrained-rae": lambda: pretrained_rae(folder),
    }
    return [Part(name, seeded(build)) for name, build in made.items()]


def pytest_generate_tests(metafunc):
    folder = Path(metafunc.config.getoption("--experiments"))
    known = shipped(Path("never read")) if folder == SHIPPED else None
    for fixture, kind in (("images_of", ImageTokenizer), ("texts_of", TextTokenizer)):
        if fixture in metafunc.fixturenames:
            parts = _of_kind(folder, known, kind)
            metafunc.parametrize(fixture, parts, ids=[part.name for part in parts], indirect=True)


TEXT_NAMES = ("bytes", "bpe", "pretrained-text")


def _of_kind(folder, known, kind):
    if known is None:
        return [part for part in tokenizers_in(folder) if isinstance(part.build(), kind)]
    return [part for part in known if (part.name in TEXT_NAMES) == (kind is TextTokenizer)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tmp_path_factory.mktemp("pretrained")


def _part(request, saved):
    named = {part.name: part for part in shipped(saved)}
    shipped_ones = Path(request.config.getoption("--experiments")) == SHIPPED
    return named[request.param.name] if shipped_ones else request.param


@pytest.fixture
def images_of(request, saved):
    """An image tokenizer as a `Part`."""
    return _part(request, saved)


@pytest.fixture
def texts_of(request, saved):
    return _part(request, saved)


def frozen(part):
    return part.build().requires_grad_(False).eval()


def pictures(tokenizer, rows=3, cells=(2, 4)):
    """Images [B 3 H W] in [-1, 1] on a grid that is no square."""
    size = [tokenizer.side or n * tokenizer.stride * 4 for n in cells]
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, 3, *size, generator=generator) * 2 - 1


def decode(tokenizer, content, images):
    if isinstance(tokenizer, DiscreteTokenizer):
        return tokenizer.decode(content, tokenizer.grid(*images.shape[-2:]))
    return tokenizer.decode(content)


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_every_shipped_tokenizer_is_tried(saved, shipped_only):
    tried = {type(part.build()) for part in shipped(saved)}
    assert tried == concrete(Tokenizer, "unify.tokenizers")


# Images


def test_the_grid_divides_the_image_and_another_size_is_refused(images_of):
    tokenizer = frozen(images_of)
    stride = tokenizer.stride
    if side := tokenizer.side:  # the one that it takes
        assert tokenizer.grid(side, side)
        with pytest.raises(ValueError, match=f"has images of {side}x{side} pixels alone"):
            tokenizer.encode(torch.zeros(1, 3, 2 * side, side))
        return
    assert tokenizer.grid(2 * stride, 5 * stride) == (2, 5)
    if stride > 1:
        with pytest.raises(ValueError, match=f"{stride}"):
            tokenizer.encode(torch.zeros(1, 3, 4 * stride + 1, 4 * stride))


def test_codes_and_latents_have_their_shape_type_and_range(images_of):
    tokenizer = frozen(images_of)
    images = pictures(tokenizer)
    h, w = tokenizer.grid(*images.shape[-2:])
    content = tokenizer.encode(images)
    if isinstance(tokenizer, DiscreteTokenizer):
        assert (content.shape, content.dtype) == ((3, h * w), torch.long)
        assert content.min() >= 0
        assert content.max() < tokenizer.vocab_size
        return
    assert (content.shape, content.dtype) == ((3, tokenizer.channels, h, w), torch.float32)
    assert torch.isfinite(content).all()


def test_whatever_is_decoded_is_an_image(images_of):
    """Of codes of its own making and of any others, of latents a hundred times as large."""
    tokenizer = frozen(images_of)
    images = pictures(tokenizer)
    own = tokenizer.encode(images)
    if isinstance(tokenizer, DiscreteTokenizer):
        last = torch.full_like(own, tokenizer.vocab_size - 1)
        others = [torch.zeros_like(own), last]
    else:
        others = [100 * own]
    for content in (own, *others):
        copies = decode(tokenizer, content, images)
        assert copies.shape == images.shape
        assert torch.isfinite(copies).all()
        assert copies.abs().max() <= 1


def test_different_images_become_different_codes(images_of):
    tokenizer = frozen(images_of)
    images = pictures(tokenizer)
    content = tokenizer.encode(torch.cat([images, -images]))
    assert len({row.numpy().tobytes() for row in content}) > 1


def test_coding_is_a_function_of_the_image_alone(images_of):
    """Neither of the global generator, nor of training mode or the run's precision: no gradient."""
    tokenizer = images_of.build().eval()
    images = pictures(tokenizer)
    torch.manual_seed(1)
    content = tokenizer.encode(images)
    copies = decode(tokenizer, content, images)
    torch.manual_seed(2)
    before, random = weights_of(tokenizer), torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        again = tokenizer.encode(images)
        copies_again = decode(tokenizer, again, images)
    assert torch.equal(content, again)
    assert torch.equal(copies, copies_again)
    assert not again.requires_grad
    assert not copies_again.requires_grad
    tokenizer.train()
    assert torch.equal(tokenizer.encode(images), content)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], now) for name, now in tokenizer.state_dict().items())


def test_a_row_is_coded_alike_whatever_its_batch_mates(images_of):
    tokenizer = frozen(images_of)
    images = pictures(tokenizer)
    content = tokenizer.encode(images)
    alone = torch.cat([tokenizer.encode(image[None]) for image in images])
    torch.testing.assert_close(content, alone, atol=1e-4, rtol=1e-4)
    together = decode(tokenizer, content, images)
    singly = torch.cat([decode(tokenizer, row[None], images) for row in content])
    torch.testing.assert_close(together, singly, atol=1e-4, rtol=1e-4)


def test_the_hash_names_the_weights_and_survives_a_file(images_of, tmp_path):
    tokenizer, twin = frozen(images_of), frozen(images_of)
    name = tokenizer.content_hash()
    assert len(name) == 12
    assert int(name, 16) >= 0
    assert twin.content_hash() == name
    tokenizer.encode(pictures(tokenizer))
    assert tokenizer.train().content_hash() == name
    for key, tensor in twin.state_dict().items():
        kept = tensor.clone()
        tensor.copy_(kept + 1 if tensor.dtype != torch.bool else ~kept)
        assert twin.content_hash() != name, key
        tensor.copy_(kept)
    torch.save(tokenizer.state_dict(), tmp_path / "weights.pt")
    twin.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert twin.content_hash() == name


def test_the_hash_tells_settings_apart(saved, shipped_only):
    parts = [part.build() for part in shipped(saved)]
    hashes = [part.content_hash() for part in parts]
    assert len(set(hashes)) == len(hashes)


def test_one_that_is_trained_has_finite_terms_per_row_by_name_and_learns_by_all_of_them(images_of):
    tokenizer = images_of.build()
    if not isinstance(tokenizer, Trainable):
        pytest.skip("is not trained here")
    tokenizer.requires_grad_(True).train()  # a paradigm has frozen it
    batch = Batch.image(pictures(tokenizer), ["a", "b", "c"])
    terms = tokenizer.loss(batch, Noise.for_batch(0, 0, batch))
    assert terms.keys() == tokenizer.terms
    for term in terms.values():
        assert term.value.shape == (3,)
        assert torch.isfinite(term.value).all()
    sum(term.value.sum() for term in terms.values()).backward()
    for name, parameter in tokenizer.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    assert tokenizer.flops(batch) > 0
    assert tokenizer.flops(batch.rows(slice(0, 1))) == pytest.approx(tokenizer.flops(batch) / 3)


def test_given_its_noise_the_loss_of_one_that_is_trained_is_a_function(images_of):
    values = []
    for seed in (1, 2):
        tokenizer = images_of.build()
        if not isinstance(tokenizer, Trainable):
            pytest.skip("is not trained here")
        torch.manual_seed(seed)
        batch = Batch.image(pictures(tokenizer), ["a", "b", "c"])
        terms = tokenizer.eval().loss(batch, Noise.for_batch(0, 0, batch))
        values.append({name: term.value for name, term in terms.items()})
    assert all(torch.equal(value, values[1][name]) for name, value in values[0].items())


# Texts


def test_texts_are_framed_padded_on_the_right_and_within_the_vocabulary(texts_of):
    tokenizer = texts_of.build()
    ids, valid = tokenizer.encode([*TEXTS, "", None], 80)
    assert ids.shape == valid.shape == (len(TEXTS) + 2, 80)
    assert (ids.dtype, valid.dtype) == (torch.long, torch.bool)
    assert ids.min() >= 0
    assert ids.max() < tokenizer.vocab_size
    for row, count in zip(ids, valid.sum(1), strict=True):
        assert row[0] == tokenizer.bos
        assert row[count - 1] == tokenizer.eos
        assert (row[count:] == tokenizer.pad).all()
    assert torch.equal(valid, torch.arange(80) < valid.sum(1, keepdim=True))
    assert ids[-1, :3].tolist() == [tokenizer.bos, tokenizer.null, tokenizer.eos]
    assert ids[-2, :2].tolist() == [tokenizer.bos, tokenizer.eos]


def test_no_text_is_read_as_unconditional_or_as_an_end(texts_of):
    tokenizer = texts_of.build()
    assert tokenizer.null not in (tokenizer.bos, tokenizer.eos, tokenizer.pad)
    ids, valid = tokenizer.encode([*TEXTS, "<eos> <bos> <pad> <null>"], 80)
    for row, count in zip(ids.tolist(), valid.sum(1).tolist(), strict=True):
        assert not {tokenizer.null, tokenizer.eos} & set(row[1 : count - 1])


def test_a_text_comes_back(texts_of):
    tokenizer = texts_of.build()
    ids, _ = tokenizer.encode([*TEXTS, None, ""], 80)
    assert tokenizer.decode(ids) == [*TEXTS, "", ""]


def test_decoding_stops_at_the_first_end(texts_of):
    tokenizer = texts_of.build()
    one, two = tokenizer.encode(TEXTS[:2], 60)[0]
    joined = torch.cat([one, two])[None]
    assert tokenizer.decode(joined) == TEXTS[:1]
    assert tokenizer.decode(torch.full((1, 5), tokenizer.pad)) == [""]


def test_a_text_that_does_not_fit_is_cut_before_its_end_and_counted(texts_of):
    tokenizer = texts_of.build()
    whole = int(tokenizer.encode(TEXTS[:1], 80)[1].sum())
    assert tokenizer.cut == 0
    tokenizer.encode(TEXTS[:1], whole)
    assert tokenizer.cut == 0
    ids, valid = tokenizer.encode([TEXTS[0], None, TEXTS[0]], whole - 1)
    assert tokenizer.cut == 2
    assert valid[0].all()
    assert ids[0, -1] == tokenizer.eos
    assert torch.equal(ids[0, :-1], tokenizer.encode(TEXTS[:1], 80)[0][0, : whole - 2])


def test_a_text_is_coded_alike_whatever_its_batch_mates_and_length(texts_of):
    tokenizer = texts_of.build()
    together, valid = tokenizer.encode([*TEXTS, None], 80)
    for text, row, mask in zip([*TEXTS, None], together, valid, strict=True):
        alone = tokenizer.encode([text], 70)[0][0]
        assert torch.equal(row[mask], alone[: mask.sum()])


def test_the_hash_of_a_text_tokenizer_is_that_of_its_twin_and_encoding_keeps_it(texts_of):
    tokenizer, twin = texts_of.build(), texts_of.build()
    name = tokenizer.content_hash()
    tokenizer.encode(TEXTS, 5)
    tokenizer.encode(TEXTS, 80)
    assert name == tokenizer.content_hash() == twin.content_hash()
    for one, other in itertools.pairwise([tokenizer, twin]):
        assert torch.equal(one.encode(TEXTS, 40)[0], other.encode(TEXTS, 40)[0])
