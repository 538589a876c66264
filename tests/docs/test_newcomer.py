"""A sixth paradigm is one Python file and one YAML, in a folder of its own outside the package."""

import subprocess
import sys

import pytest
from places import ROOT
from unify.runs.folder.folder import Run

PARADIGM = '''
"""A flow on pixels by an MLP that sees a pixel, its place, the time and the prompt's mean word."""

from dataclasses import dataclass

import torch
from torch import nn

from unify.flow import guide, integrate, interpolate
from unify.nn.layers import Embedding, sincos_2d
from unify.paradigm import Paradigm, Term
from unify.tokenizer import TextTokenizer


@dataclass
class PixelSampler:
    guidance: float = 1.0
    steps: int = 8


class PixelFlow(Paradigm):
    tasks = frozenset({"text_to_image"})
    terms = frozenset({"flow"})
    image_sampler = PixelSampler

    def __init__(self, text: TextTokenizer, width: int = 64, size: int = 32):
        super().__init__()
        self.text, self.size = text, size
        self.embed = Embedding(text.vocab_size, width)
        self.net = nn.Sequential(
            nn.Linear(3 + 1 + 2 * width, 2 * width), nn.SiLU(),
            nn.Linear(2 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 3),
        )

    def words(self, texts):
        ids, valid = self.text.encode(texts, 128)
        return (self.embed(ids) * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)

    def velocity(self, x, t, words):
        h, w = x.shape[-2:]
        place = sincos_2d(h, w, words.shape[-1]).to(x).expand(len(x), -1, -1)
        pixels = x.flatten(2).transpose(1, 2)
        other = torch.cat([t[:, None], words], 1)[:, None].expand(-1, h * w, -1)
        out = self.net(torch.cat([pixels, place, other], -1))
        return out.transpose(1, 2).unflatten(2, (h, w))

    def loss(self, batch, noise):
        prompts, x1 = batch.segments[0].texts, batch.segments[1].images
        dropped = (noise.uniform("drop") < 0.1).tolist()
        words = self.words([None if d else p for d, p in zip(dropped, prompts)])
        t = noise.uniform("t")
        xt, v = interpolate(noise.normal("x0", x1.shape[1:]), x1, t)
        error = (self.velocity(xt, t, words) - v).square().flatten(1).mean(1)
        return {"flow": Term(error, t=t)}

    def flops(self, batch):
        weights = sum(p.numel() for p in self.net.parameters())
        return 2.0 * weights * batch.segments[1].images.numel()

    def sample_image(self, request, sampler):
        x0 = request.noise("cpu").normal("x0", (3, *(request.size or (self.size, self.size))))
        prompts, guidance = request.prompts, sampler.guidance
        texts = [request.negative or [None] * len(prompts)] * (guidance != 1) + [prompts]
        words = [self.words(some) for some in texts]

        def velocity(x, t):
            parts = [self.velocity(x, t, some) for some in words]
            return guide(parts, [guidance] * (len(parts) - 1))

        return integrate(velocity, x0, sampler.steps).clamp(-1, 1)
'''

YAML = """
name: pixel_flow
data:
  source: {class: unify.data.shapes.Shapes, size: 16, grid: 1, objects: [1, 1]}
  tasks: {text_to_image: 8}
model: {class: "./pixel_flow.py:PixelFlow", text: {class: unify.tokenizers.text.Bytes}, size: 16}
loss_weights: {flow: 1.0}
steps: 20
tiny: {steps: 2}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pixel_flow.py").write_text(PARADIGM)
    (tmp_path / "pixel_flow.yaml").write_text(YAML)
    return tmp_path


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_unify_train_picks_it_up(folder):
    out = run("unify.cli", "train", "-c", "pixel_flow.yaml", "machine.tracker=none", cwd=folder)
    (trained,) = (folder / "runs" / "default").iterdir()
    assert str(trained.relative_to(folder)) in out
    assert Run(trained).finished
    assert Run(trained).info["paradigm"] == "PixelFlow"


def test_the_contract_tests_pick_it_up(folder):
    contracts = str(ROOT / "tests" / "contracts")
    out = run("pytest", contracts, "--experiments", str(folder), "-p", "no:cacheprovider", cwd=ROOT)
    assert "passed" in out
    assert "failed" not in out
