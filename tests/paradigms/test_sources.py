"""Several source images, of which a row may lack some: what stands in their place is never seen."""

import pytest
import torch
import torch.nn.functional as F
from small import (
    DIM,
    PROMPTS,
    SIDE,
    Brightness,
    awake,
    make_ar,
    make_masked,
    make_masked_text,
    make_transfusion,
)
from test_dual_tower import from_llm, make_dual
from test_mar import make as make_mar
from test_queries_dit import make as make_queries
from test_queries_dit import sana

from unify.batch import Batch
from unify.nn.trunk import Trunk
from unify.noise import Noise
from unify.paradigm import ImageRequest
from unify.paradigms.ar_vq import ArVQ

SEEING = {"condition_on": "clean_copy", "understand": "vision", "text_tower": "detached"}


class Fine(Brightness):
    """So many codes that a draw tells two laws of them apart."""

    vocab_size = 4096

    def encode(self, images):
        cells = F.avg_pool2d(images.mean(1, keepdim=True), 4)
        return ((cells + 1) * 2048).long().clamp(0, 4095).flatten(1)

    def decode(self, codes, grid):
        return super().decode(codes / 256, grid)


PREFIXED = {
    "ar_vq": make_ar,
    "masked": lambda: make_masked(image=Fine()),
    "masked_text": lambda: make_masked_text(image=Fine()),
    "transfusion": make_transfusion,
    "clean": lambda: make_transfusion(condition_on="clean_copy"),
    "axes": lambda: make_transfusion(trunk=Trunk(DIM, 2, 2, sections=[2, 1, 1])),
    "mar": make_mar,
    "mar_encoder": lambda: make_mar(encoder=True),
    "dual_tower": make_dual,
    "bagel": lambda: from_llm(**SEEING),
}
QUERIES = {
    "queries_dit": make_queries,
    "latents": lambda: make_queries(denoiser=sana(source_channels=6)),
}
PRESENT = [torch.tensor([True, True, True]), torch.tensor([False, True, False])]


def model_of(make):
    return awake(make()).eval()


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def pictures(seed):
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def composing(second, present=PRESENT):
    return Batch.edit(
        [pictures(1), second], PROMPTS, pictures(2), list("abc"), 16, present, "compose"
    )


def drawn(model, second, rows=slice(None), present=PRESENT, **settings):
    """Images by two sources; `second`: of the second one, or None to give the first alone."""
    guidance = {"guidance": 2.0} | ({} if isinstance(model, ArVQ) else {"steps": 2})
    shown = [pictures(1)[rows]] + ([] if second is None else [second[rows]])
    masks = None if present is None else [mask[rows] for mask in present[: len(shown)]]
    seeds = [1, 2, 3][rows]
    return model.generate_image(
        ImageRequest(PROMPTS[rows], sources=shown, seed=seeds, present=masks),
        **{**guidance, **settings},
    )


@pytest.mark.parametrize("name", PREFIXED | QUERIES)
def test_what_stands_in_the_place_of_an_absent_source_changes_no_loss(name):
    model, result = model_of((PREFIXED | QUERIES)[name]), []
    assert "compose" in model.tasks
    filler = torch.where(PRESENT[1][:, None, None, None], pictures(3), pictures(4))
    for second in (pictures(3), filler):
        batch = composing(second)
        result.append(model.loss(batch, Noise.for_batch(0, 0, batch)))
        for row in range(3):
            part = batch.rows(slice(row, row + 1))
            for term, alone in model.loss(part, Noise.for_batch(0, 0, part)).items():
                close(result[-1][term].value[row : row + 1], alone.value)
    whole = composing(pictures(3), None)
    everyone = model.loss(whole, Noise.for_batch(0, 0, whole))
    for term in model.terms & {"image_ce", "image_flow"}:
        close(result[0][term].value, result[1][term].value)
        differs = (result[0][term].value - everyone[term].value).abs() > 1e-3
        assert differs.tolist() == [True, False, True]


@pytest.mark.parametrize("name", PREFIXED | QUERIES)
def test_a_drawn_row_depends_on_the_sources_that_it_has(name):
    """On no other, and not on what its batch mates have."""
    model = model_of((PREFIXED | QUERIES)[name])
    together = drawn(model, pictures(3))
    filler = torch.where(PRESENT[1][:, None, None, None], pictures(3), pictures(4))
    close(together, drawn(model, filler))
    for row in range(3):
        rows = slice(row, row + 1)
        close(together[rows], drawn(model, pictures(3), rows))
    everyone = drawn(model, pictures(3), present=None)
    assert torch.allclose(together[1], everyone[1], atol=1e-4)
    assert (together - everyone).abs().amax((1, 2, 3))[[0, 2]].min() > 1e-3


@pytest.mark.parametrize("name", PREFIXED)
def test_for_a_prefix_an_absent_source_is_none_at_all(name):
    model, rows = model_of(PREFIXED[name]), slice(0, 1)
    close(drawn(model, pictures(3), rows), drawn(model, None, rows, present=None))


@pytest.mark.parametrize("name", QUERIES)
def test_for_queries_an_absent_source_is_a_gray_one_as_in_training(name):
    model, rows = model_of(QUERIES[name]), slice(0, 1)
    gray = drawn(model, 0 * pictures(3), rows, present=None)
    close(drawn(model, pictures(3), rows), gray)
    assert not torch.allclose(gray, drawn(model, None, rows, present=None), atol=1e-3)


def test_guidance_never_shows_an_absent_source():
    """Neither v(I, 0) nor v(I, T) may see it."""
    model = model_of(QUERIES["latents"])
    settings = {"guidance": 3.0, "image_guidance": 2.0}
    close(drawn(model, pictures(3), **settings)[0], drawn(model, pictures(4), **settings)[0])
