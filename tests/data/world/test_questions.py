"""Questions, edits and compositions, each checked by its words and pixels alone."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare
from shapes_worlds import WORLDS

from unify.data.source import images, sources
from unify.data.world.checker import Checker
from unify.data.world.language import ORDINALS, RELATIONS, at, place
from unify.data.world.questions import EDITS
from unify.data.world.scene import COLORS, SHAPES, Pattern, Scene


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
    result = [
        t
        for t in scene.things
        if t.color in (colors[:1] or [t.color]) and t.shape in (shapes[:1] or [t.shape])
    ]
    if question.startswith("how many"):
        return ["zero", "one", "two", "three", "four"][len(result)]
    if question.startswith("is there"):
        return "yes" if result else "no"
    assert len(result) == 1, question
    if question.startswith("where"):
        return place(world.board, result[0].cell)
    if question.startswith("what"):
        return getattr(result[0], words[1])
    relation = next(r for r in RELATIONS if f" {r} " in question)
    others = scene.like(Pattern(shapes[1], colors[1]))
    return "yes" if RELATIONS[relation](result[0], others[0]) else "no"


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
        scenes = [some[row] for some, given in zip(shown, present, strict=True) if given[row]]
        assert all(len(scene) == 1 for scene in scenes)
        things = [scene.things[0] for scene in scenes]
        cells = places_named(world, records[row].fields["instruction"])
        assert Scene.of(replace(t, cell=c) for t, c in zip(things, cells, strict=True)) == target
        moved += [thing.cell != cell for thing, cell in zip(things, cells, strict=True)]
        in_order += [cells == sorted(cells)] if len(cells) == 2 else []
    assert {len(record.meta["sources"]) for record in records} == set(range(1, high + 1))
    assert np.mean(moved) == pytest.approx(1 - 1 / len(world.board.cells), abs=0.1)
    assert np.mean(in_order) == pytest.approx(0.5, abs=0.2)


def places_named(world, instruction):
    """The places of an instruction, in the order of the sources."""
    parts = re.split(r", | and ", instruction.removeprefix("put "))
    assert [part.split()[1] for part in parts] == list(ORDINALS[: len(parts)])
    places = {at(world.board, cell): cell for cell in world.board.cells}
    return [places[part.partition(" at ")[2]] for part in parts]
