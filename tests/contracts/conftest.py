"""Every paradigm YAML of a folder, built tiny: the contract tests run on it without being told.

pytest tests/contracts --experiments DIR
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch
from parts import SHIPPED, experiments

from unify.assembly.assemble import assemble
from unify.batch import Batch
from unify.config import load_recipe
from unify.config.annotations import locate_class
from unify.nn.init import initialise
from unify.noise import Noise
from unify.paradigm import ImageRequest, Paradigm, Term
from unify.schema.experiment import Recipe

FAST = {
    *("ar_vq", "transfusion", "queries_dit", "crossflow", "dual_tower", "vlm", "masked", "mar"),
    *("dual_tower_llm", "crossflow_super_resolution", "editing/transfusion", "pretrained/openuni"),
}


def is_paradigm(path: Path) -> bool:
    """True for an experiment whose model is a paradigm."""
    return issubclass(locate_class(load_recipe(path, tiny=True)["model"]["class"], True), Paradigm)


def pytest_generate_tests(metafunc):
    if "subject" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("--experiments"))
        files = [path for path in experiments(folder) if is_paradigm(path)]
        names = [str(path.relative_to(folder).with_suffix("")) for path in files]
        shipped = folder == SHIPPED  # where one YAML of each class and each special part is fast
        cases = [
            pytest.param(path, marks=pytest.mark.slow) if shipped and name not in FAST else path
            for name, path in zip(names, files, strict=True)
        ]
        metafunc.parametrize("subject", cases, ids=names, indirect=True)


@dataclass
class Tiny:
    """A paradigm built from the tiny form of its YAML, and real batches for it."""

    config: dict
    recipe: Recipe

    @property
    def model(self) -> Paradigm:
        assert isinstance(self.recipe.model, Paradigm)
        return self.recipe.model

    @property
    def tasks(self) -> list[str]:
        return sorted(self.recipe.data.tasks)

    def batch(self, task: str, rows: int = 3, lengths: dict | None = None) -> Batch:
        source = self.recipe.data.source
        records = [source.record(task, "train", index) for index in range(rows)]
        return source.task(task).batch(records, lengths or self.recipe.data.lengths)

    def terms(self, batch: Batch, step: int = 0) -> dict[str, Term]:
        return self.model.loss(batch, Noise.for_batch(0, step, batch))

    def image_batch(self, rows: int = 3) -> Batch:
        return self.batch("text_to_image", rows)

    def draw(self, prompts, **settings) -> torch.Tensor:
        if "text_to_image" not in self.tasks:
            pytest.skip("the experiment does not train text-to-image")
        with torch.no_grad():
            named = {f.name for f in fields(ImageRequest)} & settings.keys()
            request = ImageRequest(prompts, **{name: settings.pop(name) for name in named})
            return self.model.generate_image(request, **{**self.recipe.image_sampling, **settings})


def awake(model: torch.nn.Module) -> None:
    """Move weights off their initial values, so that no layer is silent because it starts at 0."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@functools.lru_cache
def _config(path: Path) -> dict:
    return load_recipe(path, tiny=True)


def build(path: Path) -> Tiny:
    tiny = Tiny(_config(path), assemble(_config(path), {}))
    initialise(tiny.model, 0)
    awake(tiny.model)
    tiny.model.eval()
    return tiny


@pytest.fixture
def subject(request) -> Tiny:
    return build(request.param)


@pytest.fixture
def twin(request, subject) -> Tiny:
    """A second build of the same YAML."""
    return build(request.node.callspec.params["subject"])


@pytest.fixture
def shipped_only(request):
    """For what is said of all that is shipped: not run on a folder of a user's own."""
    if Path(request.config.getoption("--experiments")) != SHIPPED:
        pytest.skip("is of the shipped parts")
