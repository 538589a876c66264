"""The embedded world: deterministic, balanced, free of held-out pairs, and read back exactly."""

import os
import pickle
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from unify.data.shapes import Shapes
from unify.data.source import TASKS, collate, images, sources, to_tensor
from unify.data.world.checker import Checker, Unreadable, blur, robustness
from unify.data.world.language import ORDINALS, RELATIONS, Spec, at, full, place
from unify.data.world.questions import EDITS
from unify.data.world.scene import BACKGROUND, COLORS, SHAPES, SIZES, Pattern, Scene, Thing

WORLD = Shapes()
HARD = Shapes(
    size=64,
    grid=3,
    shapes=list(SHAPES),
    colors=list(COLORS),
    sizes=["small", "large"],
    objects=(1, 4),
    heldout=["yellow triangle", "black star"],
    questions=["count", "color", "shape", "position", "exists", "relation", "size"],
)
WORLDS = [pytest.param(WORLD, id="default"), pytest.param(HARD, id="hard")]
LEARNT = ("train", "validation", "test")


def drawn(world, scenes):
    return torch.stack([to_tensor(world.render(scene)) for scene in scenes])


def texts_of(record):
    return [value for value in record.fields.values() if isinstance(value, str)]


def images_of(record):
    """Every image of a record, those of a list too."""
    values = [v if isinstance(v, list) else [v] for v in record.fields.values()]
    return [image for some in values for image in some if isinstance(image, np.ndarray)]


def names_heldout(world, text):
    words = re.findall(r"\w+", text)
    return any(pair in world.board.heldout for pair in pairwise(words))


# Records


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


# Held-out pairs


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
def test_no_record_of_a_hundred_thousand_has_a_heldout_pair():
    scan(WORLD, 100_000)
    scan(HARD, 20_000)


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


# Captions and prompts


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_a_full_caption_parses_back_into_its_scene(grid):
    for sizes in (["large"], ["small", "large"]):
        world = Shapes(grid=grid, sizes=sizes, objects=(1, min(4, grid**2)))
        assert len({place(world.board, cell) for cell in world.board.cells}) == grid**2
        for i in range(100):
            scene = world.scene("test", i)
            caption = world.caption(scene)
            assert world.parse(caption) == scene
            parts = re.split(", | and ", caption)
            random.Random(i).shuffle(parts)
            assert world.parse(" and ".join(parts)) == scene


def test_the_canonical_caption():
    things = [Thing((1, 1), "square", "blue", "large"), Thing((0, 0), "circle", "red", "large")]
    caption = "a red circle at the top left and a blue square at the bottom right"
    assert WORLD.caption(Scene.of(things)) == caption


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "a circle at the top left",
        "a red circle at the top left and",
        "a red circle at the top left and a blue circle at the top left",
        "a pink circle at the top left",
        "a red circle at the center",
        "red circle at the top left",
        "a red circle at the top left a blue square at the bottom left",
    ],
)
def test_what_is_not_a_full_caption_does_not_parse(text):
    assert WORLD.parse(text) is None


@pytest.mark.parametrize("world", WORLDS)
def test_a_prompt_is_satisfied_by_its_scene_and_by_no_altered_one(world):
    low, high = world.board.objects
    assert len(world.categories) == high - low + 1 + 6
    checker = Checker(world)
    for category in world.categories:
        prompts = world.prompts(category, 12, 0)
        read = checker.read(drawn(world, [prompt.scene for prompt in prompts]))
        for prompt, scene in zip(prompts, read, strict=True):
            assert prompt.satisfied(scene)
            assert not prompt.satisfied(scene.without(scene.things[0]))
            assert prompt.satisfied(recolored(prompt, world)) == ("color" in prompt.left_open())
            if category in world.complete:
                assert prompt.left_open() == []
                assert not any(prompt.satisfied(other) for other in altered(scene, world))
            else:
                assert ("size" in prompt.left_open()) == (len(world.board.sizes) > 1)


def altered(scene, world):
    """Every scene with the shape, colour or place of one thing changed."""
    board = world.board
    for thing in scene.things:
        for shape in set(board.shapes) - {thing.shape}:
            yield scene.changing(thing, shape=shape)
        for color in set(board.colors) - {thing.color}:
            yield scene.changing(thing, color=color)
        for cell in [c for c in board.cells if scene.at(c) is None]:
            yield scene.changing(thing, cell=cell)


def recolored(prompt, world):
    thing = prompt.scene.things[0]
    named = {t.color for t in prompt.scene.things}
    return prompt.scene.changing(thing, color=next(c for c in world.board.colors if c not in named))


def test_a_wrong_count_binding_or_side_does_not_satisfy():
    def scene(*things):
        return Scene.of(Thing(c, s, k, "large") for c, s, k in things)

    red_circle_blue_square = Spec((Pattern("circle", "red"), Pattern("square", "blue")))
    assert red_circle_blue_square.satisfied(
        scene(((0, 0), "square", "blue"), ((1, 1), "circle", "red"))
    )
    assert not red_circle_blue_square.satisfied(
        scene(((0, 0), "square", "red"), ((1, 1), "circle", "blue"))
    )
    left = Spec((Pattern("circle"), Pattern("square")), "left of")
    assert left.satisfied(scene(((1, 0), "circle", "red"), ((0, 1), "square", "red")))
    assert not left.satisfied(scene(((1, 1), "circle", "red"), ((0, 0), "square", "red")))
    assert not left.satisfied(scene(((0, 0), "circle", "red"), ((1, 0), "square", "red")))
    two = Spec((Pattern("circle"),) * 2)
    assert not two.satisfied(scene(((0, 0), "circle", "red")))
    assert two.left_open() == ["color", "size", "place"]
    assert left.left_open() == ["color", "size"]


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


# Knobs


def said(world, n=600):
    return [world.record("caption", "train", i) for i in range(n)]


def test_completeness_is_the_share_of_attributes_that_captions_mention():
    world = Shapes(completeness=0.7, sizes=["small", "large"])
    mentioned, total = Counter(), 0
    for record in said(world):
        text, scene = record.fields["caption"], record.meta["scene"]
        total += len(scene)
        mentioned["cell"] += text.count(" at the ")
        mentioned["color"] += sum(w in COLORS for w in re.findall(r"\w+", text))
        mentioned["shape"] += sum(w in SHAPES for w in re.findall(r"\w+", text))
        mentioned["size"] += sum(w in SIZES for w in re.findall(r"\w+", text))
    for name in ("cell", "color", "shape", "size"):
        assert mentioned[name] / total == pytest.approx(0.7, abs=0.06), name
    assert all(WORLD.parse(r.fields["caption"]) == r.meta["scene"] for r in said(WORLD, 100))
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
    assert {world.edited("train", i).source for i in range(200)} <= set(world._pool)
    assert {world.composed("train", i).target for i in range(400)} == set(world._pool)
    assert Shapes(scenes=50)._pool[:25] == world._pool
    assert len({world.scene("test", i) for i in range(400)}) > 100
    everything = Shapes(scenes=WORLD.distinct())
    assert len(set(everything._pool)) == WORLD.distinct()
    assert Shapes(scenes=1).record("vqa", "train", 3).fields["answer"]


def test_prompt_mix_is_the_share_of_prompts_that_leave_something_open():
    world = Shapes(prompt_mix=0.4)
    records = [world.record("text_to_image", "train", i) for i in range(600)]
    full_captions = [world.parse(r.fields["prompt"]) is not None for r in records]
    assert np.mean(full_captions) == pytest.approx(0.6, abs=0.06)
    exam = [world.record("text_to_image", "test", i) for i in range(100)]
    assert all(world.parse(r.fields["prompt"]) for r in exam)


# Questions


@pytest.mark.parametrize("world", WORLDS)
def test_answers_are_balanced_within_each_kind_of_question(world):
    answers = {}
    records = [world.record("vqa", "train", i) for i in range(3000)]
    for record in records:
        answers.setdefault(record.meta["kind"], []).append(record)
    assert set(answers) == set(world.questions)
    assert chisquare([len(some) for some in answers.values()]).pvalue > 1e-4
    for kind, some in answers.items():
        counts = Counter(record.fields["answer"] for record in some)
        options = some[0].meta["options"]
        assert set(counts) <= set(options)
        assert chisquare([counts[option] for option in options]).pvalue > 1e-4, (kind, counts)


@pytest.mark.parametrize("world", WORLDS)
def test_answers_are_true_of_the_image(world):
    records = [world.record("vqa", "test", i) for i in range(400)]
    scenes = Checker(world).read(images(records, "image"))
    for record, scene in zip(records, scenes, strict=True):
        assert record.fields["answer"] == answer(world, record.fields["question"], scene)


def answer(world, question, scene):
    """Answers by the words of the question, independently of how it was made."""
    words = question.rstrip("?").split()
    colors = [w for w in words if w in COLORS]
    shapes = [w for w in words if w in SHAPES or w[:-1] in SHAPES or w[:-2] in SHAPES]
    shapes = [next(s for s in SHAPES if w.startswith(s)) for w in shapes]
    found = [
        t
        for t in scene.things
        if t.color in (colors[:1] or [t.color]) and t.shape in (shapes[:1] or [t.shape])
    ]
    if question.startswith("how many"):
        return ["zero", "one", "two", "three", "four"][len(found)]
    if question.startswith("is there"):
        return "yes" if found else "no"
    assert len(found) == 1, question
    if question.startswith("where"):
        return place(world.board, found[0].cell)
    if question.startswith("what"):
        return getattr(found[0], words[1])
    relation = next(r for r in RELATIONS if f" {r} " in question)
    others = scene.like(Pattern(shapes[1], colors[1]))
    return "yes" if RELATIONS[relation](found[0], others[0]) else "no"


# Edits, depth, low resolution


@pytest.mark.parametrize("world", WORLDS)
def test_an_edit_does_what_it_says_and_preserves_everything_else(world):
    low, high = world.board.objects
    kinds = Counter()
    for i in range(300):
        record = world.record("edit", "train", i)
        source, target, cells = (record.meta[name] for name in ("source", "target", "cells"))
        kinds[record.meta["kind"]] += 1
        differ = {c for c in world.board.cells if source.at(c) != target.at(c)}
        assert differ == set(cells)
        assert low <= len(target) <= high
        same = (record.fields["source"] == record.fields["image"]).all(-1)
        for cell in world.board.cells:
            assert same[world.renderer.box(cell)].all() == (cell not in differ)
        assert followed(world, record.fields["instruction"], source) == target
    assert set(kinds) == set(EDITS) - ({"size"} if len(world.board.sizes) == 1 else set())
    assert chisquare(list(kinds.values())).pvalue > 1e-4


def followed(world, instruction, scene):
    """Carries out an instruction by its words alone."""
    verb, *words = instruction.split()
    if verb == "add":
        return scene.adding(world.parse(instruction.removeprefix("add ")).things[0])
    (thing,) = scene.like(Pattern(color=words[1], shape=words[2]))
    if verb == "remove":
        return scene.without(thing)
    if verb == "move":
        name = instruction.split(" to ")[1].removeprefix("the ")
        return scene.changing(
            thing, cell=next(c for c in world.board.cells if place(world.board, c) == name)
        )
    attribute = {"change": "color", "replace": "shape", "make": "size"}[verb]
    return scene.changing(thing, **{attribute: words[-1]})


@pytest.mark.parametrize("world", WORLDS)
def test_a_composition_puts_what_each_source_shows_where_it_says(world):
    """Read from pixels and words alone; neither a source's place nor its order is a hint."""
    checker, (_, high) = Checker(world), world.board.objects
    records = [world.record("compose", "train", i) for i in range(200)]
    columns, present = sources(records)
    shown = [checker.read(column) for column in columns]
    moved, in_order = [], []
    for row, target in enumerate(checker.read(images(records, "image"))):
        scenes = [some[row] for some, there in zip(shown, present, strict=True) if there[row]]
        assert all(len(scene) == 1 for scene in scenes)
        things = [scene.things[0] for scene in scenes]
        cells = told(world, records[row].fields["instruction"])
        assert Scene.of(replace(t, cell=c) for t, c in zip(things, cells, strict=True)) == target
        moved += [thing.cell != cell for thing, cell in zip(things, cells, strict=True)]
        in_order += [cells == sorted(cells)] if len(cells) == 2 else []
    assert {len(record.meta["sources"]) for record in records} == set(range(1, high + 1))
    assert np.mean(moved) == pytest.approx(1 - 1 / len(world.board.cells), abs=0.1)
    assert np.mean(in_order) == pytest.approx(0.5, abs=0.2)


def told(world, instruction):
    """The places of an instruction, in the order of the sources."""
    parts = re.split(r", | and ", instruction.removeprefix("put "))
    assert [part.split()[1] for part in parts] == list(ORDINALS[: len(parts)])
    places = {at(world.board, cell): cell for cell in world.board.cells}
    return [places[part.partition(" at ")[2]] for part in parts]


def test_a_record_has_a_place_for_as_many_sources_as_a_scene_may_have_things():
    for high in (1, 2, 4):
        batch = collate("compose", [Shapes(objects=(1, high)).record("compose", "test", 0)])
        kinds = [segment.kind for segment in batch.segments]
        assert kinds == ["image"] * high + ["text", "image"]


def test_depth_is_black_behind_and_brighter_towards_the_bottom():
    scene = Scene.of([Thing((r, 0), "square", "red", "large") for r in range(2)])
    depth = WORLD.renderer.depth(scene)
    assert (depth[:, 16:] == 0).all()
    assert depth[8, 8].tolist() == [128] * 3
    assert depth[24, 8].tolist() == [255] * 3


def test_low_resolution_is_the_mean_of_blocks():
    record = WORLD.record("super_resolution", "test", 0)
    small, image = record.fields["source"].astype(float), record.fields["image"].astype(float)
    assert abs(small[3, 5] - image[6:8, 10:12].mean((0, 1))).max() <= 0.5
    assert (small[0, 0] == BACKGROUND).all()


# Checker


def test_the_checker_agrees_with_the_generator_on_ten_thousand_scenes():
    checker, scenes = Checker(WORLD), [WORLD.scene("test", i) for i in range(8000)]
    scenes += [WORLD.scene("heldout", i) for i in range(2000)]
    assert checker.read(drawn(WORLD, scenes)) == scenes


def test_the_checker_agrees_with_the_generator_in_a_harder_world():
    scenes = [HARD.scene("test", i) for i in range(1000)]
    assert Checker(HARD).read(drawn(HARD, scenes)) == scenes


@pytest.mark.slow
def test_the_checker_agrees_on_ten_thousand_scenes_of_a_harder_world():
    checker = Checker(HARD)
    for start in range(0, 10_000, 1000):
        scenes = [HARD.scene("test", i) for i in range(start, start + 1000)]
        assert checker.read(drawn(HARD, scenes)) == scenes


@pytest.mark.parametrize("world", WORLDS)
def test_damage_makes_the_checker_refuse_rather_than_misread(world):
    noises, blurs = (0.1, 0.2, 0.3, 0.4, 0.6, 1.0), (0.5, 1.0, 1.25, 1.5)
    for row in robustness(world, noises, blurs, n=200):
        assert row["wrong"] < 0.01, row
        assert row["right"] + row["wrong"] + row["unreadable"] == pytest.approx(1)
        if row["level"] <= 0.2 or (row["damage"] == "blur" and row["level"] <= 1.25):
            assert row["right"] == 1, row


def test_mixed_blur_and_noise_at_25_decibels_reads_right():
    scenes = [WORLD.scene("test", i) for i in range(200)]
    clean = drawn(WORLD, scenes)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    damaged = (blur(clean, 1.0) + 0.06 * noise).clamp(-1, 1)
    psnr = 10 * torch.log10(4 / (damaged - clean).square().mean())
    assert psnr < 25.8
    assert Checker(WORLD).read(damaged) == scenes


def test_garbage_is_unreadable_and_says_why():
    checker = Checker(WORLD)
    things = [Thing((0, 0), shape, "red", "large") for shape in ("circle", "square", "triangle")]
    a, b, _ = drawn(WORLD, [Scene((thing,)) for thing in things])
    empty = drawn(WORLD, [Scene(())])[0]
    gone, bitten, specked = b.clone(), b.clone(), empty.clone()
    gone[:, :8, :16] = empty[:, :8, :16]  # half a square
    bitten[:, :6, :6] = empty[:, :6, :6]  # a corner missing
    specked[:, 20:23, 20:23] = -1.0
    noise = torch.rand(a.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cases = [noise, torch.zeros_like(a), (a + empty) / 2, (a + b) / 2, gone, bitten, specked]
    cases += [-a, a * torch.nan, torch.roll(a, 4, -1)]
    for case, verdict in zip(cases, checker.read(torch.stack(cases)), strict=True):
        assert isinstance(verdict, Unreadable), case
        assert any(word in verdict.reason for word in ("far", " or ", "flaw"))


def test_places_are_read_one_by_one():
    checker, scene = Checker(WORLD), Scene((Thing((0, 0), "circle", "red", "large"),))
    image = drawn(WORLD, [scene])
    image[:, :, 16:, 16:] = 0.0
    (places,) = checker.places(image)
    assert places[0, 0] == scene.things[0]
    assert places[0, 1] is None
    assert isinstance(places[1, 1], Unreadable)
    with pytest.raises(ValueError, match="3 32 32"):
        checker.read(torch.zeros(1, 3, 64, 64))


def test_every_full_pattern_fits_its_thing_alone():
    thing, other = HARD.prompts("two_objects", 1, 0)[0].scene.things
    assert full(thing).fits(thing)
    assert not full(thing).fits(other)
