"""A newcomer's classes and YAML for the tests of the configuration; `BUILT` logs constructions."""

import sys
import time
from pathlib import Path

import pytest

from unify.config import ConfigError, check_file, load_recipe, locate_class

PARTS = """
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unify.data.source import Source
from unify.metrics.metric import Metric
from unify.paradigm import Paradigm, Trainable

BUILT = []


class Built:
    def __new__(cls, *args, **kwargs):
        BUILT.append(cls.__name__)
        return super().__new__(cls)


class Backbone(Built, ABC):
    @abstractmethod
    def width(self): ...


class Plain(Backbone):
    def __init__(self, dim: int = 8, mode: Literal["fast", "exact"] = "fast", act=max):
        self.dim, self.mode, self.act = dim, mode, act

    def width(self):
        return self.dim


class Wide(Plain):
    def __init__(self, factor: float = 2, folder: Path | None = None, **rest):
        super().__init__(**rest)
        self.factor, self.folder = factor, folder


class Codec(Built, Trainable):
    tasks, terms = frozenset({"image"}), frozenset({"error"})

    def __init__(self, channels: int = 4, widths: tuple[int, ...] = (8, 16)):
        super().__init__()
        self.channels, self.widths = channels, widths

    def loss(self, batch, noise):
        return {}


class Stranger(Built):
    pass


@dataclass
class Head:
    size: int = 3
    pair: tuple[int, float] = (1, 0.5)


@dataclass
class Sampler:
    steps: int = 20
    guidance: float = 1.0


class Model(Built, Paradigm):
    tasks, terms = frozenset({"text_to_image", "caption"}), frozenset({"text_ce", "image_flow"})

    def __init__(
        self,
        trunk: Backbone,
        codec: Codec,
        extra: list[Backbone] = (),
        head: Head = Head(),
        rate: float | None = None,
        free=None,
    ):
        super().__init__()
        self.trunk, self.codec, self.extra, self.head = trunk, codec, extra, head
        self.rate, self.free = rate, free

    def loss(self, batch, noise):
        return {}

    image_sampler = Sampler

    def sample_image(self, request, sampler):
        return None


class World(Built, Source):
    def __init__(self, size: int = 32, folder: str = ""):
        self.side, self.folder = size, folder

    tasks = frozenset({"text_to_image", "caption", "vqa"})

    def size(self, task, split):
        return 10

    def record(self, task, split, index):
        raise NotImplementedError

    def fingerprint(self):
        return "0" * 12


class Speed(Built, Metric):
    tasks = frozenset({"text_to_image"})

    def __init__(self, prompts: int = 64):
        self.prompts = prompts

    def measure(self, subject):
        return [], []
"""

GOOD = """\
model:
  class: ./parts.py:Model
  trunk: {class: ./parts.py:Plain, dim: 16}
  codec: {class: ./parts.py:Codec}
  head: {size: 5}
data:
  source: {class: ./parts.py:World}
  tasks: {text_to_image: 4, caption: 2}
steps: 50
loss_weights: {text_ce: 1.0, image_flow: 2}
optimizer: {lr: 1e-3}
machine: {precision: 32-true}
image_sampling: {guidance: 3}
evaluation: [{class: ./parts.py:Speed}]
tiny: {steps: 2, model: {trunk: {dim: 4}}}
"""


def fill(folder: Path) -> Path:
    (folder / "parts.py").write_text(PARTS)
    (folder / "good.yaml").write_text(GOOD)
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def built(folder: Path) -> list[str]:
    module = sys.modules[locate_class(f"{folder}/parts.py:Model", trusted=True).__module__]
    return module.BUILT


def message(path: Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


CODEC = """\
model: {class: ./parts.py:Codec, channels: "${data.source.size}"}
data: {source: {class: ./parts.py:World, size: 6}, tasks: {image: 4}}
loss_weights: {error: 1}
tiny: {model: {channels: 2}}
"""


def needing(folder: Path, weights: str) -> Path:
    write(folder, "codec.yaml", CODEC)
    text = GOOD.replace("codec: {class: ./parts.py:Codec}", f"codec: {{weights: {weights}}}")
    return write(folder, "needs.yaml", text)


def refused(path, good, case, reader, record_property):
    old, new, key, remedy = case
    path.write_text(good)
    reader(path)
    assert check_file(path) == []
    path.write_text(good.replace(old, new, 1))
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        reader(path)
    record_property("seconds", time.monotonic() - start)
    assert [str(problem) for problem in check_file(path)] == str(caught.value).splitlines()
    lines = [line for line in str(caught.value).splitlines() if f": {key}" in line]
    assert any(remedy in line and line.startswith(str(path)) for line in lines), caught.value
    assert built(path.parent) == []
