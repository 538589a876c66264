"""Models that know what the metrics of the embedded world ask, and one that knows nothing."""

import re
from dataclasses import asdict, dataclass, replace
from functools import cache

import torch

from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.checker import Checker
from unify.data.world.language import at
from unify.data.world.scene import Scene
from unify.metrics.metric import Subject, first_records
from unify.paradigm import Paradigm

WORLD = Shapes(prompt_mix=0.5)
HARD = Shapes(size=64, grid=3, objects=(1, 4), sizes=["small", "large"], low_resolution=32)


@cache
def answer_key(world):
    """Scenes by partial prompt, images by (instruction, source), answers by (question, scene)."""
    scenes, pictures, answers = {}, {}, {}
    for category in world.categories:
        most = world.distinct_prompts(category) or 64
        for prompt in world.prompts(category, min(64, most), 0):
            scenes.setdefault(prompt.text, []).append(prompt.scene)
    for task in ("edit", "depth", "super_resolution"):
        for record in first_records(world, task, "test", 40):
            source = to_tensor(record.fields["source"]).numpy().tobytes()
            pictures[record.fields.get("instruction"), source] = to_tensor(record.fields["image"])
    for split in ("test", "heldout"):
        for record in first_records(world, "vqa", split, 200):
            key = (record.fields["question"], record.meta["scene"])
            answers[key] = record.fields["answer"]
    return scenes, pictures, answers


@dataclass
class Steps:
    steps: int = 1


class Oracle(Paradigm):
    """Knows the answers of what the metrics ask, by text and by the pixels it is shown."""

    image_sampler = Steps
    tasks = frozenset(WORLD.tasks)

    def __init__(self, world):
        super().__init__()
        self.world, self.checker, self.calls, self.given = world, Checker(world), [], 0
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.scenes, self.images, self.answers = answer_key(world)

    def loss(self, batch, noise):
        raise NotImplementedError

    def sample_image(self, request, sampler):
        self.calls.append((len(request), tuple(request.seed), asdict(sampler)))
        assert request.size == (self.world.board.pixels,) * 2
        if request.sources:
            pairs = zip(request.prompts, request.sources[0], strict=True)
            return torch.stack([self.images[p, s.numpy().tobytes()] for p, s in pairs])
        return torch.stack([to_tensor(self.world.render(self.scene(p))) for p in request.prompts])

    def scene(self, prompt):
        scene = self.world.parse(prompt)
        if scene is None:
            self.given += 1
            return self.scenes[prompt][self.given % len(self.scenes[prompt])]
        return scene

    def sample_text(self, request, sampler):
        read = self.checker.read(request.images)
        if request.prompts is None:
            return [self.world.caption(scene) + " " for scene in read]
        return [self.answers.get(key, "?") for key in zip(request.prompts, read, strict=True)]


class Composer(Oracle):
    """Reads the sources that a row has and puts what they show where the words say."""

    def sample_image(self, request, sampler):
        columns, present = [self.checker.read(c) for c in request.sources], request.present
        places = {at(self.world.board, cell): cell for cell in self.world.board.cells}
        drawn = []
        for row, prompt in enumerate(request.prompts):
            shown = [c[row] for c, given in zip(columns, present, strict=True) if given[row]]
            asked = re.split(", | and ", prompt.removeprefix("put "))
            goals = [places[words.partition(" at ")[2]] for words in asked]
            pairs = zip(shown, goals, strict=True)
            scene = Scene.of(replace(scene.things[0], cell=cell) for scene, cell in pairs)
            drawn.append(to_tensor(self.world.render(scene)))
        return torch.stack(drawn)


class Broken(Oracle):
    """Gray images, one caption, one answer."""

    def sample_image(self, request, sampler):
        return torch.zeros(len(request), 3, *request.size)

    def sample_text(self, request, sampler):
        return ["a red circle"] * len(request)


def subject(model, world=WORLD, **changes):
    made = Subject(model, world, frozenset(world.tasks), {}, {"steps": 4}, {}, seed=5, batch=16)
    return replace(made, **changes)


def measured(metric, model, world=WORLD):
    scores, grids = metric.measure(subject(model, world))
    return {score.metric: score for score in scores}, {grid.name: grid for grid in grids}
