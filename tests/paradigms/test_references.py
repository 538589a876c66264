"""Where images lie that another is drawn from, in paradigms that hide tokens of what they draw."""

import pytest
import torch
from small import DIM, PROMPTS, awake, make_mar, make_masked, make_masked_text

from unify.batch import Batch
from unify.nn.trunk import Trunk
from unify.noise import Noise
from unify.paradigm import ImageRequest

MAKERS = {
    "masked": make_masked,
    "masked, full": lambda **settings: make_masked(attention="full", **settings),
    "masked_text": make_masked_text,
    "mar": make_mar,
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def positions_of(model, run):
    """Positions [S A] of the first row's real tokens, over all that a run gives the trunk."""
    given = []
    with model.trunk.register_forward_pre_hook(lambda m, args: given.append(args[0])):
        run()
    if given[-1].mask.start:  # read over a cache
        given = [given[0], given[-1]]
    else:
        given = given[-1:]
    places = torch.cat([tokens.positions[0] for tokens in given])
    return places[given[-1].mask.valid[0]]


@pytest.mark.parametrize("references", ["order", "shared", "offset", "frame"])
@torch.no_grad()
def test_training_reads_references_where_drawing_does(make, images, references):
    model = awake(make(trunk=Trunk(DIM, 2, 2, sections=[2, 1, 1]), references=references))
    sources = [images, images.flip(0)]
    batch = Batch.edit(sources, PROMPTS, images, list("abc"), 16)
    learned = positions_of(model, lambda: model.loss(batch, Noise.for_batch(0, 0, batch)))
    drawn = positions_of(model, lambda: model.generate_image(ImageRequest(PROMPTS, sources)))
    assert torch.equal(learned, drawn)
    first, second = learned[1:5], learned[7:11]  # tokens of the sources, between their ends
    target = learned[-5:-1]
    if references == "order":
        assert first[:, 0].max() < second[:, 0].min() <= second[:, 0].max() < target[:, 0].min()
    else:
        steps = {"shared": (0, 0), "offset": (1, 1), "frame": (1, 2)}[references]
        for source, step in zip((first, second), steps, strict=True):
            assert torch.equal(source, target + torch.tensor([step, 0, 0]))


def test_references_need_axes_to_tell_places_by(make):
    with pytest.raises(ValueError, match="give the trunk three position axes"):
        make(references="shared")
