"""Small paradigms on raw pixels and a toy code book, so that every number can be followed."""

import torch
import torch.nn.functional as F

from unify.flow import LogitNormalTime
from unify.nn.flow_head import FlowHead
from unify.nn.init import initialise
from unify.nn.masking import CosineMasking, LinearMasking
from unify.nn.patches import LinearPatches
from unify.nn.trunk import Trunk
from unify.noise import Noise
from unify.paradigms.ar_vq import ArVQ
from unify.paradigms.mar import MAR
from unify.paradigms.masked import Masked
from unify.paradigms.masked_text import MaskedText
from unify.paradigms.transfusion import Transfusion
from unify.tokenizer import DiscreteTokenizer
from unify.tokenizers.pixels import Pixels
from unify.tokenizers.text import Bytes

SIDE, DIM = 8, 32
PROMPTS = ["a red circle", "blue", "green square"]


class Brightness(DiscreteTokenizer):
    """A code is the brightness of a cell of 4 x 4 pixels, in 16 steps."""

    stride, vocab_size = 4, 16

    def settings(self):
        return {}

    def encode(self, images):
        cells = F.avg_pool2d(images.mean(1, keepdim=True), 4)  # [B 1 h w]
        return ((cells + 1) * 8).long().clamp(0, 15).flatten(1)

    def decode(self, codes, grid):
        cells = (codes.view(-1, 1, *grid) + 0.5) / 8 - 1
        return F.interpolate(cells.repeat(1, 3, 1, 1), scale_factor=4.0)


def awake(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def learn(model, batches, steps, names):
    """Some steps on these batches, with new noise each, by the terms of these names."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        for batch in batches:
            terms = model.loss(batch, Noise.for_batch(0, step, batch))
            sum(term.value.mean() for name, term in terms.items() if name in names).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def confusion(drawn, wanted):
    """How near each image is to its own target, as a share of how near to any other's, [B]."""
    error = (drawn[:, None] - wanted).square().flatten(2).mean(2)  # [drawn wanted]
    others = error.masked_fill(torch.eye(len(error)).bool(), torch.inf)
    return error.diagonal() / others.amin(1)


def make_transfusion(**settings):
    patches = settings.pop("patches", None) or LinearPatches(3, DIM, 4)
    model = Transfusion(
        settings.pop("trunk", None) or Trunk(DIM, 2, 2),
        Bytes(),
        Pixels(),
        patches,
        settings.pop("time", LogitNormalTime()),
        size=SIDE,
        **settings,
    )
    initialise(model, 0)
    return model


def make_ar(**settings):
    model = ArVQ(Trunk(DIM, 2, 2), Bytes(), Brightness(), size=SIDE, **settings)
    initialise(model, 0)
    return model


def make_masked(**settings):
    parts = {"trunk": Trunk(DIM, 2, 2), "image": Brightness(), "masking": CosineMasking("token")}
    model = Masked(text=Bytes(), size=SIDE, **parts | settings)
    initialise(model, 0)
    return model


def make_masked_text(**settings):
    parts = {"masking": CosineMasking("token"), "text_masking": LinearMasking("elbo"), "window": 15}
    parts |= {"trunk": Trunk(DIM, 2, 2), "image": Brightness()}
    model = MaskedText(text=Bytes(), size=SIDE, **parts | settings)
    initialise(model, 0)
    return model


def make_mar(**settings):
    parts = {"trunk": Trunk(DIM, 2, 2), "masking": CosineMasking("sample")}
    parts["flow_head"] = FlowHead(3, DIM, 4, width=32, depth=1)
    law = LogitNormalTime()
    model = MAR(text=Bytes(), image=Pixels(), time=law, size=SIDE, **parts | settings)
    initialise(model, 0)
    return model
