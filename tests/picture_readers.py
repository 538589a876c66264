"""Tiny readers and judges of the embedded world, and what they are given."""

import torch

from unify.data.world.checker import Checker
from unify.metrics.picture_encoder import PictureEncoder
from unify.metrics.scene_reader import SceneReader
from unify.metrics.text_image_judge import TextImageJudge
from unify.nn.init import initialise
from unify.noise import stable_seed


def tiny_reader(world, **settings):
    """Untrained, the same on every call."""
    reader = SceneReader(world, width=4, features=4, **settings)
    initialise(reader, 0)
    return reader.eval()


class Knowing(SceneReader):
    """Reads as the checker's nearest reading does, without its refusals."""

    def __init__(self, world, checker):
        super().__init__(world, width=4, features=4)
        self.checker = checker

    def scenes(self, images):
        return [near.scene for near in self.checker.nearest(images)]


class Pixels(PictureEncoder):
    """Means of the red, green and blue of quarters: features [B 12]."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def embed(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    def settings(self):
        return {}


class Reads(TextImageJudge):
    """Features of a picture are those of its scene, of a text those of what it says."""

    def __init__(self, world):
        super().__init__()
        self.world, self.checker = world, Checker(world)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def vector(self, scene):
        generator = torch.Generator().manual_seed(stable_seed(scene))
        return torch.randn(64, generator=generator)

    def embed(self, images):
        return torch.stack([self.vector(near.scene) for near in self.checker.nearest(images)])

    def embed_texts(self, texts):
        return torch.stack([self.vector(self.world.parse(text)) for text in texts])

    def settings(self):
        return {}
