"""Records of the embedded world: one batch for each task, the same in every process."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from shapes_worlds import LEARNT, WORLD, WORLDS, images_of, texts_of

from unify.data.shapes import Shapes
from unify.data.source import TASKS, collate
from unify.data.world.scene import BACKGROUND


@pytest.mark.parametrize("world", WORLDS)
def test_every_task_of_every_split_collates_to_its_batch(world):
    assert world.tasks == frozenset(TASKS)
    for task in world.tasks:
        for split in (*LEARNT, "heldout"):
            records = [world.record(task, split, i) for i in range(4)]
            batch = collate(task, records)
            assert batch.keys == [f"{task}/{split}/{i}" for i in range(4)]
            for record in records:
                sides = [world.board.pixels] * len(images_of(record))
                if task == "super_resolution":
                    sides[0] = world.low_resolution
                assert sides or task == "text"
                for image, side in zip(images_of(record), sides, strict=True):
                    assert image.shape == (side, side, 3)
                    assert image.dtype == np.uint8


DIGEST = """
import hashlib
from unify.data.shapes import Shapes
digest = hashlib.sha256()
for world in (Shapes(), Shapes(scenes=50, completeness=0.7, caption_noise=0.2, seed=3)):
    digest.update(world.fingerprint().encode())
    for task in sorted(world.tasks):
        for split in ("train", "validation", "test", "heldout"):
            for index in (7, 3, 11):
                record = world.record(task, split, index)
                for value in record.fields.values():
                    for one in value if isinstance(value, list) else [value]:
                        if one is not None:
                            digest.update(one.encode() if isinstance(one, str) else one.tobytes())
    digest.update(world.prompts("color_attr", 3, 0)[2].text.encode())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_records_are_the_same_in_processes_with_other_hash_seeds():
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_record_depends_neither_on_what_was_read_before_nor_on_pickling():
    first, second = Shapes(scenes=40), pickle.loads(pickle.dumps(Shapes(scenes=40)))
    forward = [first.record("vqa", "train", i) for i in range(30)]
    backward = [second.record("vqa", "train", i) for i in reversed(range(30))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert texts_of(a) == texts_of(b)
        assert (a.fields["image"] == b.fields["image"]).all()


def test_splits_are_different_streams():
    for task in WORLD.tasks:
        streams = []
        for split in (*LEARNT, "heldout"):
            records = [WORLD.record(task, split, i) for i in range(40)]
            streams.append(tuple(repr((r.meta, texts_of(r))) for r in records))
        assert len(set(streams)) == 4


def test_captions_images_depth_super_resolution_and_compositions_share_their_scenes():
    for i in range(20):
        scene = WORLD.scene("train", i)
        assert WORLD.record("compose", "train", i).meta["target"] == scene
        for task in ("caption", "depth", "super_resolution", "image"):
            assert WORLD.record(task, "train", i).meta["scene"] == scene


def test_a_record_has_a_place_for_as_many_sources_as_a_scene_may_have_things():
    for high in (1, 2, 4):
        batch = collate("compose", [Shapes(objects=(1, high)).record("compose", "test", 0)])
        kinds = [segment.kind for segment in batch.segments]
        assert kinds == ["image"] * high + ["text", "image"]


def test_low_resolution_is_the_mean_of_blocks():
    record = WORLD.record("super_resolution", "test", 0)
    small, image = record.fields["source"].astype(float), record.fields["image"].astype(float)
    assert abs(small[3, 5] - image[6:8, 10:12].mean((0, 1))).max() <= 0.5
    assert (small[0, 0] == BACKGROUND).all()
