"""Streams of the embedded world: no held-out pair is learnt, and every knob does what it says."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from shapes_worlds import HARD, LEARNT, WORLD, WORLDS, texts_of

from unify.data.shapes import Shapes
from unify.data.source import images, sources
from unify.data.world.checker import Checker
from unify.data.world.scene import COLORS, SHAPES, SIZES, Scene


def names_heldout(world, text):
    words = re.findall(r"\w+", text)
    return any(pair in world.board.heldout for pair in pairwise(words))


def test_a_knob_of_the_captions_changes_no_scene():
    other = Shapes(completeness=0.5, caption_noise=0.5, prompt_mix=0.0, scenes=0, records=100)
    assert all(WORLD.scene("train", i) == other.scene("train", i) for i in range(50))
    assert all(WORLD.scene("train", i) != Shapes(seed=1).scene("train", i) for i in range(3))


def test_the_fingerprint_changes_with_every_argument():
    changes = [
        {"size": 64},
        {"grid": 3, "size": 48},
        {"shapes": ["circle", "square", "triangle", "star"]},
        {"colors": ["red", "green", "yellow"]},
        {"sizes": ["small", "large"]},
        {"objects": (1, 3)},
        {"heldout": ["yellow triangle"]},
        {"questions": ["count"]},
        {"completeness": 0.9},
        {"caption_noise": 0.1},
        {"prompt_mix": 0.5},
        {"scenes": 10},
        {"records": 10},
        {"low_resolution": 8},
        {"seed": 1},
    ]
    prints = {Shapes(**change).fingerprint() for change in changes}
    assert len(prints | {WORLD.fingerprint()}) == len(changes) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": ["circle", "blob"]}, "shapes"),
        ({"objects": (0, 2)}, "objects"),
        ({"objects": (1, 5)}, "objects"),
        ({"heldout": ["pink triangle"]}, "pink triangle"),
        ({"heldout": ["yellow"]}, "yellow triangle"),
        ({"heldout": ["red circle", "red square", "red triangle"]}, "'red'"),
        ({"questions": ["size"]}, "two sizes"),
        ({"completeness": 1.5}, "completeness"),
        ({"low_resolution": 7}, "low_resolution"),
        ({"scenes": 10**6}, "scenes"),
        ({"size": 8}, "pixels"),
    ],
)
def test_an_impossible_world_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**change)


def scan(world, n):
    """Held-out pairs in no text, scene or image of `n` records spread over tasks and splits."""
    checker, per = Checker(world), n // (len(world.tasks) * len(LEARNT))
    for task in sorted(world.tasks):
        for split in LEARNT:
            records = [world.record(task, split, i) for i in range(per)]
            for record in records:
                assert not any(names_heldout(world, text) for text in texts_of(record)), record
                for scene in record.meta.values():
                    assert not (isinstance(scene, Scene) and world.board.has_heldout(scene))
            for name in ("source", "image"):
                if name in records[0].fields and (task, name) not in BLIND:
                    read = checker.read(images(records, name))
                    assert not any(world.board.has_heldout(scene) for scene in read)
            if task == "compose":
                columns, _ = sources(records)
                read = checker.read(torch.cat(columns))
                assert not any(isinstance(s, Scene) and world.board.has_heldout(s) for s in read)
                assert sum(isinstance(s, Scene) for s in read) == sum(
                    len(record.meta["sources"]) for record in records
                )


BLIND = {("depth", "image"), ("super_resolution", "source")}  # not readable; from scanned scenes


def test_no_training_validation_or_test_record_has_a_heldout_pair():
    scan(WORLD, 4000)
    scan(Shapes(scenes=300, completeness=0.6, caption_noise=0.3, prompt_mix=0.5), 1000)


@pytest.mark.slow
def test_no_record_of_many_has_a_heldout_pair(often):
    scan(WORLD, often(20_000, 100_000))
    scan(HARD, often(5_000, 20_000))


def test_no_prompt_of_the_test_split_names_a_heldout_pair():
    for category in WORLD.categories:
        for prompt in WORLD.prompts(category, 200, 0):
            assert not names_heldout(WORLD, prompt.text)
            assert not WORLD.board.has_heldout(prompt.scene)


@pytest.mark.parametrize("world", WORLDS)
def test_every_heldout_scene_has_a_heldout_pair(world):
    for task in world.tasks - {"text"}:
        for i in range(60):
            meta = world.record(task, "heldout", i).meta
            scenes = [value for value in meta.values() if isinstance(value, Scene)]
            assert scenes
            assert all(world.board.has_heldout(scene) for scene in scenes)
    seen = {t.pair for i in range(100) for t in world.scene("heldout", i).things}
    assert set(world.board.heldout) <= seen


def test_full_categories_hold_their_number_of_objects():
    for n, category in enumerate(["one_object", "two_objects", "three_objects"], 1):
        assert {len(p.scene) for p in HARD.prompts(category, 20, 0)} == {n}
    with pytest.raises(ValueError, match="three_objects"):
        WORLD.prompts("three_objects", 1, 0)


def test_prompt_streams_differ_by_seed_and_split_and_extend_one_another():
    few, many = WORLD.prompts("colors", 5, 0), WORLD.prompts("colors", 20, 0)
    assert few == many[:5]
    assert many != WORLD.prompts("colors", 20, 1)
    assert many != WORLD.prompts("colors", 20, 0, "validation")


def captioned(world, n=600):
    return [world.record("caption", "train", i) for i in range(n)]


def test_completeness_is_the_share_of_attributes_that_captions_mention():
    world = Shapes(completeness=0.7, sizes=["small", "large"])
    mentioned, total = Counter(), 0
    for record in captioned(world):
        text, scene = record.fields["caption"], record.meta["scene"]
        total += len(scene)
        mentioned["cell"] += text.count(" at the ")
        mentioned["color"] += sum(w in COLORS for w in re.findall(r"\w+", text))
        mentioned["shape"] += sum(w in SHAPES for w in re.findall(r"\w+", text))
        mentioned["size"] += sum(w in SIZES for w in re.findall(r"\w+", text))
    for name in ("cell", "color", "shape", "size"):
        assert mentioned[name] / total == pytest.approx(0.7, abs=0.06), name
    assert all(WORLD.parse(r.fields["caption"]) == r.meta["scene"] for r in captioned(WORLD, 100))
    exam = [world.record("caption", "test", i) for i in range(100)]
    assert all(world.parse(r.fields["caption"]) == r.meta["scene"] for r in exam)


def test_caption_noise_is_the_share_of_captions_of_another_scene():
    world = Shapes(caption_noise=0.25, prompt_mix=0.0)
    for task, name in (("caption", "caption"), ("text_to_image", "prompt")):
        records = [world.record(task, "train", i) for i in range(600)]
        wrong = [world.parse(r.fields[name]) != r.meta["scene"] for r in records]
        assert np.mean(wrong) == pytest.approx(0.25, abs=0.06)
        exam = [world.record(task, "validation", i) for i in range(100)]
        assert all(world.parse(r.fields[name]) == r.meta["scene"] for r in exam)


def test_scenes_is_the_number_of_distinct_training_scenes():
    world = Shapes(scenes=25)
    for task in ("text_to_image", "caption", "vqa", "depth"):
        seen = {world.record(task, "train", i).meta["scene"] for i in range(400)}
        assert len(seen) <= 25
        assert task == "vqa" or len(seen) == 25
    assert {world.edited("train", i).source for i in range(200)} <= set(world.pool)
    assert {world.composed("train", i).target for i in range(400)} == set(world.pool)
    assert Shapes(scenes=50).pool[:25] == world.pool
    assert len({world.scene("test", i) for i in range(400)}) > 100
    everything = Shapes(scenes=WORLD.distinct())
    assert len(set(everything.pool)) == WORLD.distinct()
    assert Shapes(scenes=1).record("vqa", "train", 3).fields["answer"]


def test_prompt_mix_is_the_share_of_prompts_that_leave_something_open():
    world = Shapes(prompt_mix=0.4)
    records = [world.record("text_to_image", "train", i) for i in range(600)]
    full_captions = [world.parse(r.fields["prompt"]) is not None for r in records]
    assert np.mean(full_captions) == pytest.approx(0.6, abs=0.06)
    exam = [world.record("text_to_image", "test", i) for i in range(100)]
    assert all(world.parse(r.fields["prompt"]) for r in exam)
