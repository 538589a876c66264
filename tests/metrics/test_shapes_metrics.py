"""Scores of the embedded world: 1 for an oracle, near 0 for a broken model, baselines where due."""

import math
import re
from dataclasses import asdict, dataclass, replace
from functools import cache

import pytest
import torch

from unify.data.shapes import Shapes
from unify.data.source import images, to_tensor
from unify.data.world.checker import Checker
from unify.data.world.language import ORDINALS, at
from unify.data.world.scene import Scene
from unify.metrics.metric import Subject
from unify.metrics.shapes_compositions import Compositions
from unify.metrics.shapes_images import (
    Depths,
    Edits,
    SuperResolutions,
    TextToImage,
    records_of,
)
from unify.metrics.shapes_texts import Captions, VisualQuestions
from unify.paradigm import Paradigm

WORLD = Shapes(prompt_mix=0.5)
HARD = Shapes(size=64, grid=3, objects=(1, 4), sizes=["small", "large"], low_resolution=32)


@cache
def known(world):
    """Scenes by partial prompt, images by (instruction, source), answers by (question, scene)."""
    scenes, pictures, answers = {}, {}, {}
    for category in world.categories:
        for prompt in world.prompts(category, 64, 0):
            scenes.setdefault(prompt.text, []).append(prompt.scene)
    for task in ("edit", "depth", "super_resolution"):
        for record in records_of(world, task, "test", 40):
            source = to_tensor(record.fields["source"]).numpy().tobytes()
            pictures[record.fields.get("instruction"), source] = to_tensor(record.fields["image"])
    for split in ("test", "heldout"):
        for record in records_of(world, "vqa", split, 200):
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
        self.scenes, self.images, self.answers = known(world)

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
        told = self.world.parse(prompt)
        if told is None:
            self.given += 1
            return self.scenes[prompt][self.given % len(self.scenes[prompt])]
        return told

    def sample_text(self, request, sampler):
        read = self.checker.read(request.images)
        if request.prompts is None:
            return [self.world.caption(scene) + " " for scene in read]
        return [self.answers.get(key, "?") for key in zip(request.prompts, read, strict=True)]


class Composer(Oracle):
    """Reads the sources that a row has and puts what they show where the words say."""

    def sample_image(self, request, sampler):
        columns, present = (
            [self.checker.read(column) for column in request.sources],
            request.present,
        )
        places = {at(self.world.board, cell): cell for cell in self.world.board.cells}
        drawn = []
        for row, prompt in enumerate(request.prompts):
            shown = [c[row] for c, there in zip(columns, present, strict=True) if there[row]]
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


ALL = [
    TextToImage(prompts=40, heldout=10, geneval=12),
    VisualQuestions(questions=80, heldout=20),
    Captions(images=30, heldout=10),
    Edits(20),
    SuperResolutions(20),
]
PERFECT = ("exact", "accuracy", "changed", "kept", "geneval")


@pytest.mark.parametrize(
    "world", [pytest.param(WORLD, id="default"), pytest.param(HARD, id="hard")]
)
@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_an_oracle_scores_one(metric, world):
    scores, _ = measured(metric, Oracle(world), world)
    perfect = {n: s.value for n, s in scores.items() if any(part in n for part in PERFECT)}
    assert perfect
    assert set(perfect.values()) == {1.0}, perfect


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_a_broken_model_scores_nothing(metric):
    scores, _ = measured(metric, Broken(WORLD))
    for name, score in scores.items():
        if any(part in name for part in PERFECT):
            assert score.value == 0, name


def test_the_scores_of_text_to_image_by_name_number_and_interval():
    scores, grids = measured(ALL[0], Oracle(WORLD))
    n = {name: score.n for name, score in scores.items()}
    assert n["text_to_image/exact"] == 40
    assert n["text_to_image/exact/one_object"] == n["text_to_image/exact/two_objects"] == 20
    assert n["text_to_image/exact/heldout"] == 10
    names = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
    assert all(n[f"text_to_image/geneval/{name}"] == 12 for name in names)
    assert scores["text_to_image/unreadable"].value == 0
    headline = scores["text_to_image/exact/two_objects"]
    assert headline.low == pytest.approx(0.839, abs=1e-3)  # Wilson, 20 of 20
    assert headline.high == 1
    assert set(grids) >= {"text_to_image/two_objects", "text_to_image/heldout"}
    grid = grids["text_to_image/two_objects"]
    assert len(grid.images) == len(grid.titles) == len(grid.verdicts) == 16
    assert all(grid.verdicts)
    assert WORLD.parse(grid.titles[0]) is not None


def test_a_wrong_object_is_wrong_only_where_it_is_asked_about():
    class OneRed(Oracle):
        def sample_image(self, request, sampler):
            scenes = [self.scene(prompt) for prompt in request.prompts]
            red = [s.changing(s.things[0], color="red", shape="circle") for s in scenes]
            return torch.stack([to_tensor(self.world.render(scene)) for scene in red])

    scores, _ = measured(TextToImage(prompts=80, heldout=0, geneval=0), OneRed(WORLD))
    right = [
        p.scene.things[0].pair == ("red", "circle")
        for category in ("one_object", "two_objects")
        for p in WORLD.prompts(category, 40, 0)
    ]
    assert 0 < scores["text_to_image/exact"].value == sum(right) / 80 < 0.3


def test_variety_is_one_for_all_options_and_zero_for_one():
    class Stuck(Oracle):
        """For each text, always the same picture."""

        def scene(self, prompt):
            return self.world.parse(prompt) or self.scenes[prompt][0]

    metric = TextToImage(prompts=2, heldout=0, geneval=64)
    free, _ = measured(metric, Oracle(WORLD))
    stuck, _ = measured(metric, Stuck(WORLD))
    assert "text_to_image/variety/size" not in free
    for name in ("text_to_image/variety/color", "text_to_image/variety/place"):
        assert free[name].n == 64
        assert free[name].value > 0.9
        assert stuck[name].value == 0
    broken, _ = measured(metric, Broken(WORLD))
    assert broken["text_to_image/variety/color"].n == 0
    assert math.isnan(broken["text_to_image/variety/color"].value)


def test_images_are_drawn_in_chunks_with_distinct_seeds_and_the_sampler_of_the_run():
    oracle = Oracle(WORLD)
    measured(TextToImage(prompts=40, heldout=0, geneval=0), oracle)
    assert [n for n, _, _ in oracle.calls] == [16, 4, 16, 4]
    seeds = [seed for _, some, _ in oracle.calls for seed in some]
    assert len(set(seeds)) == 40
    assert all(sampling == {"steps": 4} for _, _, sampling in oracle.calls)


def test_passports_name_prompts_and_sampler_and_differ_with_them():
    first = measured(ALL[0], Oracle(WORLD))[0]["text_to_image/exact"].passport
    again = measured(ALL[0], Oracle(Shapes(caption_noise=0.3, scenes=9)))[0]["text_to_image/exact"]
    other = measured(ALL[0], Oracle(Shapes(seed=1)), Shapes(seed=1))[0]["text_to_image/exact"]
    assert first["sampler"] == {"steps": 4}
    assert first == again.passport  # training knobs change no test prompt
    assert first["prompt_set"] != other.passport["prompt_set"]


def test_question_baselines_are_those_of_the_answers():
    scores, grids = measured(VisualQuestions(questions=200, heldout=0), Oracle(WORLD))
    records = records_of(WORLD, "vqa", "test", 200)
    options = [len(record.meta["options"]) for record in records]
    assert scores["vqa/chance"].value == pytest.approx(sum(1 / n for n in options) / 200)
    assert scores["vqa/chance/exists"].value == 0.5
    assert scores["vqa/chance/count"].value == pytest.approx(1 / 3)
    for kind in WORLD.questions:
        assert scores[f"vqa/accuracy/{kind}"].n == sum(r.meta["kind"] == kind for r in records)
        gap = scores[f"vqa/majority/{kind}"].value - scores[f"vqa/chance/{kind}"].value
        assert abs(gap) < 0.25  # balanced answers: a constant is no better than a guess
    assert scores["vqa/blind"].value == 0  # the oracle answers from the image alone
    assert len(grids["vqa"].titles) == 16


def test_an_answer_must_be_exact_but_for_space_around_it():
    class Padded(Oracle):
        def sample_text(self, request, sampler):
            return [f" {text}\n" for text in super().sample_text(request, sampler)]

    class Wordy(Oracle):
        def sample_text(self, request, sampler):
            return [f"{text}." for text in super().sample_text(request, sampler)]

    metric = VisualQuestions(questions=20, heldout=0)
    assert measured(metric, Padded(WORLD))[0]["vqa/accuracy"].value == 1
    assert measured(metric, Wordy(WORLD))[0]["vqa/accuracy"].value == 0


def test_captions_may_name_objects_in_any_order():
    class Backwards(Oracle):
        def sample_text(self, request, sampler):
            texts = super().sample_text(request, sampler)
            return [" and ".join(text.strip().split(" and ")[::-1]) for text in texts]

    scores, _ = measured(Captions(images=20, heldout=0), Backwards(WORLD))
    assert scores["caption/exact"].value == 1


def test_an_edit_that_does_nothing_keeps_everything_and_changes_nothing():
    class Lazy(Oracle):
        def sample_image(self, request, sampler):
            return request.sources[0]

    scores, grids = measured(Edits(40), Lazy(WORLD))
    assert scores["edit/kept"].value == 1
    assert scores["edit/changed"].value == scores["edit/exact"].value == 0
    assert grids["edit"].titles[0] == "before"
    assert grids["edit"].verdicts[:2] == [None, False]


@pytest.mark.parametrize(
    "world", [pytest.param(WORLD, id="default"), pytest.param(HARD, id="hard")]
)
def test_who_puts_each_thing_where_the_words_say_composes_exactly(world):
    scores, grids = measured(Compositions(40, heldout=10), Composer(world), world)
    exact = scores.pop("compose/exact")
    assert exact.n == 40
    assert scores.pop("compose/exact/heldout").n == 10
    assert list(scores) == [f"compose/exact/{name}" for name in world.complete]
    assert sum(score.n for score in scores.values()) == 40
    assert {score.value for score in [exact, *scores.values()]} == {1.0}
    grid = grids["compose"]
    ends = [i for i, verdict in enumerate(grid.verdicts) if verdict is not None]
    assert all(grid.titles[i].startswith("put the first at") for i in ends)
    assert grid.titles[: ends[0]] == list(ORDINALS[: ends[0]])
    assert "compose/exact/heldout" not in measured(Compositions(4, 0), Composer(world), world)[0]


def test_a_composition_is_wrong_with_the_sources_swapped_or_one_left_out():
    class Swapped(Composer):
        def sample_image(self, request, sampler):
            both = request.present[0] & request.present[1]
            order = [
                torch.where(both[:, None, None, None], s, t)
                for s, t in zip(request.sources[::-1], request.sources, strict=True)
            ]
            return super().sample_image(replace(request, sources=order), sampler)

    class First(Composer):
        def sample_image(self, request, sampler):
            alone = [prompt.partition(" and ")[0] for prompt in request.prompts]
            everyone = [torch.ones(len(request), dtype=torch.bool)]
            first = replace(request, prompts=alone, sources=request.sources[:1], present=everyone)
            return super().sample_image(first, sampler)

    for model in (Swapped(WORLD), First(WORLD)):
        scores, _ = measured(Compositions(60, heldout=0), model)
        assert scores["compose/exact/one_object"].value == 1
        assert scores["compose/exact/two_objects"].value < 0.1
    assert measured(Compositions(20), Broken(WORLD))[0]["compose/exact"].value == 0


def test_depth_error_is_zero_for_the_truth_and_the_mean_nearness_for_black():
    class Black(Oracle):
        def sample_image(self, request, sampler):
            return torch.full((len(request), 3, *request.size), -1.0)

    assert measured(Depths(20), Oracle(WORLD))[0]["depth/abs_error"].value == 0
    truth = images(records_of(WORLD, "depth", "test", 20), "image")
    score = measured(Depths(20), Black(WORLD))[0]["depth/abs_error"]
    assert score.value == pytest.approx(float((truth + 1).mean() / 2), rel=1e-4)
    assert score.low < score.value < score.high


def test_super_resolution_psnr_is_that_of_the_error():
    class Off(Oracle):
        def sample_image(self, request, sampler):
            return super().sample_image(request, sampler) + 0.02

    scores, _ = measured(SuperResolutions(20), Off(WORLD))
    assert scores["super_resolution/psnr"].value == pytest.approx(40, abs=1e-3)  # 4 / 0.02^2
    assert scores["super_resolution/exact"].value == 1


def test_another_source_is_refused_by_name():
    class Other:
        pass

    with pytest.raises(ValueError, match="Other"):
        TextToImage().measure(subject(Oracle(WORLD), source=Other()))


def test_metrics_say_what_a_run_must_have_trained_on():
    assert [next(iter(metric.tasks)) for metric in (*ALL, Depths(), Compositions())] == [
        "text_to_image",
        "vqa",
        "caption",
        "edit",
        "super_resolution",
        "depth",
        "compose",
    ]
