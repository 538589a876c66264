"""Digests of worlds, of their records and of the checker's verdicts, one for each stream.

`recorded_worlds.json` holds those of worlds without looks and held-out keys, written by

    PYTHONPATH=tests/data:. python tests/data/world_digests.py

before either knob existed; verdicts once more since, to leave out which of two names is first.
Write it anew only where a record of such a world changes on purpose.
"""

import hashlib
import json
import random
from functools import cache
from pathlib import Path

import numpy as np
import torch

from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.checker import Checker

RECORDED = Path(__file__).with_name("recorded_worlds.json")
SPLITS = ("train", "validation", "test", "heldout")
SHAPES = ["circle", "square", "triangle", "cross", "diamond", "ring", "star"]
COLORS = ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "black"]
QUESTIONS = ["count", "color", "shape", "position", "exists", "relation", "size"]
NAMED = {
    "quickstart": {},
    "harder": {
        "size": 64,
        "grid": 3,
        "sizes": ["small", "large"],
        "objects": [1, 4],
        "questions": QUESTIONS,
        "records": 200_000,
        "low_resolution": 32,
    },
    "few scenes": {"scenes": 50, "completeness": 0.7, "caption_noise": 0.2, "seed": 3},
    "three objects": {"objects": [1, 3], "prompt_mix": 0.5},
}


def arguments():
    """Arguments of the recorded worlds by name: those of NAMED, and random ones."""
    rng, worlds = random.Random(0), dict(NAMED)
    for number in range(16):
        grid = rng.choice([1, 2, 3, 4])
        high = rng.randint(1, min(4, grid**2))
        sizes = rng.choice([["large"], ["small", "large"], ["small", "medium", "large"]])
        questions = [q for q in QUESTIONS if q != "size" or len(sizes) > 1]
        worlds[f"random {number}"] = {
            "size": 16 * grid,
            "grid": grid,
            "shapes": rng.sample(SHAPES, rng.randint(3, 7)),
            "colors": rng.sample(COLORS, rng.randint(3, 8)),
            "sizes": sizes,
            "objects": [rng.randint(1, high), high],
            "heldout": [],
            "questions": [q for q in questions if q != "relation" or high > 1],
            "completeness": rng.choice([1.0, 0.8]),
            "prompt_mix": rng.choice([0.0, 0.3]),
            "scenes": rng.choice([0, 9]),
            "seed": number,
        }
    return worlds


@cache
def world_of(name):
    return Shapes(**arguments()[name])


def streams(name):
    """The streams of a world: (task, split) of its records, prompts, verdicts, fingerprint."""
    world = world_of(name)
    splits = SPLITS if world.board.heldout else SPLITS[:-1]
    records = [f"{task}/{split}" for task in sorted(world.tasks) for split in splits]
    return [*records, "prompts", "verdicts"]


@cache
def digest(name, stream):
    """12 hex digits of a stream of a recorded world."""
    world, content = world_of(name), hashlib.sha256()
    if stream == "verdicts":
        add(content, verdicts(world))
    elif stream == "prompts":
        for category in world.categories:
            for prompt in world.prompts(category, 2, 7):
                add(content, [prompt.text, plain(prompt.scene), world.render(prompt.scene)])
    else:
        task, split = stream.split("/")
        for index in (0, 5, 1234):
            record = world.record(task, split, index)
            add(content, [record.key, record.fields, {k: plain(v) for k, v in record.meta.items()}])
    return content.hexdigest()[:12]


def plain(value):
    """A scene as the names of its things; any other value as it is."""
    if hasattr(value, "things"):
        return [(t.cell, t.shape, t.color, t.size) for t in value.things]
    return [plain(one) for one in value] if isinstance(value, list) else value


def add(content, value):
    if isinstance(value, np.ndarray):
        content.update(value.tobytes())
    elif isinstance(value, dict):
        add(content, [part for pair in sorted(value.items()) for part in pair])
    elif isinstance(value, list | tuple):
        for one in value:
            add(content, one)
    else:
        content.update(repr(value).encode() + b"\n")


def verdicts(world):
    """What the checker says of clean, noisy and mixed images."""
    scenes = [world.scene("test", i) for i in range(24)]
    clean = torch.stack([to_tensor(world.render(scene)) for scene in scenes])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    images = torch.cat([clean, clean + 0.3 * noise, clean + 0.45 * noise, (clean + clean[0]) / 2])
    read = Checker(world).read(images)
    return [plain(s) if hasattr(s, "things") else without_order(s.reason) for s in read]


def without_order(reason):
    """Why an image is refused: of an image half way between two, rounding says which is nearer."""
    words = reason.partition(" (")[0]
    where, _, pair = words.partition(": ")
    return f"{where}: {' or '.join(sorted(pair.split(' or ')))}"


def recorded():
    return json.loads(RECORDED.read_text())


if __name__ == "__main__":
    made = {
        name: {"fingerprint": world_of(name).fingerprint()}
        | {stream: digest(name, stream) for stream in streams(name)}
        for name in arguments()
    }
    RECORDED.write_text(json.dumps(made, indent=1) + "\n")
