"""What every metric must do, by its contract in unify/metrics/metric.py.

Shipped ones measure scripted models of the embedded world, and what needs a trained form a tiny
paradigm; those of a folder measure the model of their own YAML in its tiny form.
"""

import copy
import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from parts import SHIPPED, concrete, experiments, recipe_of
from picture_readers import Knowing, Reads, tiny_reader

from unify.config.study_checks import gives, names_of_scores
from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.data.world.checker import Checker
from unify.evaluation.score_run import subject_of
from unify.metrics.caption_retrieval import CaptionRetrieval
from unify.metrics.copies import Copies
from unify.metrics.frechet_distance import FrechetDistance
from unify.metrics.metric import Metric, Subject
from unify.metrics.perplexity import Perplexity
from unify.metrics.pictures import Pictures
from unify.metrics.reader_accuracy import ReaderAccuracy
from unify.metrics.reconstruction import Reconstruction
from unify.metrics.shapes_compositions import Compositions
from unify.metrics.shapes_images import Depths, Edits, SuperResolutions, TextToImage
from unify.metrics.shapes_open_prompts import OpenPrompts
from unify.metrics.shapes_second_reader import SecondReader
from unify.metrics.shapes_texts import Captions, VisualQuestions
from unify.metrics.speed import Speed
from unify.noise import Noise, stable_seed
from unify.paradigm import ImageRequest, Paradigm

WORLD = Shapes()
ROWS = 7  # no multiple of the chunks that they are cut into
SCRIPTED = {
    "text_to_image": TextToImage(prompts=ROWS, heldout=4, geneval=0),
    "pictures": Pictures(count=ROWS),
    "edit": Edits(n=ROWS),
    "compose": Compositions(n=ROWS, heldout=3),
    "depth": Depths(n=ROWS),
    "super_resolution": SuperResolutions(n=ROWS),
    "copies": Copies(n=ROWS),
    "vqa": VisualQuestions(questions=ROWS, heldout=4),
    "caption": Captions(images=ROWS, heldout=4),
    "second_reader": SecondReader(Knowing(WORLD, Checker(WORLD)), prompts=ROWS, heldout=4),
    "frechet": FrechetDistance(tiny_reader(WORLD), n=ROWS),
    "open_prompts": OpenPrompts(prompts=ROWS, data=60),
    "retrieval": CaptionRetrieval(Reads(WORLD), n=ROWS, among=4),
}
OF_A_MODEL = {
    "perplexity": Perplexity(rows=ROWS),
    "reconstruction": Reconstruction(images=ROWS),
    "speed": Speed(rows=2, repeats=2),
}
OF_A_READER = {"reader": ReaderAccuracy(images=ROWS)}


class Chance(Paradigm):
    """Noise for an image, one of three words for a text, by seed and prompt."""

    tasks = WORLD.tasks
    copies = True
    image_sampler = text_sampler = dict  # whatever a run sets

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, batch, noise):
        raise NotImplementedError

    def sample_image(self, request, sampler):
        return request.noise("cpu").normal("x0", (3, *request.size)).clamp(-1, 1)

    def sample_text(self, request, sampler):
        u = Noise.for_prompts(request.seed, [None] * len(request)).uniform("text")
        return [("yes", "red", "two")[int(3 * x)] for x in u.tolist()]


class Knows(Chance):
    """Gives back the answers of the world's records, by what is shown and asked."""

    def __init__(self):
        super().__init__()
        self.answers = answers()

    def sample_image(self, request, sampler):
        drawn = []
        for row in range(len(request)):
            prompt = request.prompts[row] if request.prompts is not None else None
            if not request.sources:
                some = open_scenes().get(prompt) or [WORLD.parse(prompt)]
                scene = some[request.seed[row] % len(some)]
                drawn.append(to_tensor(WORLD.render(scene)))
                continue
            shown = [
                column[row]
                for place, column in enumerate(request.sources)
                if request.present is None or request.present[place][row]
            ]
            drawn.append(self.answers[key(prompt, shown, request.size)])
        return torch.stack(drawn)

    def sample_text(self, request, sampler):
        pairs = zip(request.prompts or [None] * len(request), request.images, strict=True)
        return [self.answers.get(key(question, [image], ()), "?") for question, image in pairs]


def key(text, shown, size):
    return text, tuple(image.numpy().tobytes() for image in shown), tuple(size)


@lru_cache
def answers():
    """The target of every record that the metrics read, by its conditions and kind."""
    result = {}
    for task in ("depth", "super_resolution", "edit", "compose", "caption", "vqa", "image"):
        for split in ("test", "heldout"):
            for index in range(ROWS):
                fields = WORLD.record(task, split, index).fields
                if task == "image":
                    continue
                if task in ("caption", "vqa"):
                    shown, size = [to_tensor(fields["image"])], ()
                    target = fields["caption" if task == "caption" else "answer"]
                else:
                    given = fields.get("sources") or [fields["source"]]
                    shown = [to_tensor(image) for image in given if image is not None]
                    size, target = (32, 32), to_tensor(fields["image"])
                text = fields.get("instruction") or fields.get("question")
                result[key(text, shown, size)] = target
    return result


@lru_cache
def open_scenes():
    """The scenes of prompts that leave something open, by their texts."""
    result = {}
    for category in (c for c in WORLD.categories if c not in WORLD.complete):
        for prompt in WORLD.prompts(category, ROWS, 0):
            result.setdefault(prompt.text, []).append(prompt.scene)
    return result


@dataclass
class Case:
    name: str
    metric: Metric
    subject: Subject


def scripted(model):
    return Subject(model.eval(), WORLD, WORLD.tasks, {}, {}, {}, seed=5, batch=3)


@lru_cache
def of_a_model():
    return replace(subject_of(recipe_of(SHIPPED / "transfusion.yaml"), 0), batch=3)


def cases(folder):
    if folder == SHIPPED:
        for name, metric in SCRIPTED.items():
            yield name, lambda name=name, metric=metric: Case(name, metric, scripted(Chance()))
        for name, metric in OF_A_MODEL.items():
            yield name, lambda name=name, metric=metric: Case(name, metric, of_a_model())
        for name, metric in OF_A_READER.items():
            yield name, lambda n=name, m=metric: Case(n, m, scripted(tiny_reader(WORLD)))
        return
    for path in experiments(folder):
        for place, metric in enumerate(recipe_of(path).evaluation):
            name = f"{path.stem}-{type(metric).__name__}"
            yield name, lambda path=path, name=name, place=place: of_file(path, name, place)


def of_file(path, name, place):
    recipe = recipe_of(path)
    return Case(name, recipe.evaluation[place], replace(subject_of(recipe, 0), batch=3))


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        named = dict(cases(Path(metafunc.config.getoption("--experiments"))))
        metafunc.parametrize("case", named.values(), ids=named.keys(), indirect=True)


@pytest.fixture
def case(request):
    made = request.param()
    if not made.metric.tasks & made.subject.tasks:
        pytest.skip("the run trained on none of its tasks")
    return made


@torch.no_grad()
def measured(case, **changes):
    """Scores by name, and grids."""
    scores, grids = case.metric.measure(replace(case.subject, **changes))
    return {score.metric: score for score in scores}, grids


def rows(scores):
    return {name: score.row() for name, score in scores.items()}


def same(one, other):
    """Equal, or both undefined, up to the rounding of another batch size."""
    if one is None or other is None:
        return one == other
    return one == pytest.approx(other, rel=1e-3, abs=1e-4, nan_ok=True)


def test_every_shipped_metric_is_tried(shipped_only):
    tried = {
        type(metric) for metric in (*SCRIPTED.values(), *OF_A_MODEL.values(), *OF_A_READER.values())
    }
    assert tried == concrete(Metric, "unify.metrics")


def test_scores_are_named_counted_and_inside_their_intervals(case):
    scores, grids = case.metric.measure(case.subject)
    assert scores or grids
    assert len({score.metric for score in scores}) == len(scores)
    for score in scores:
        assert len(score.metric.split("/")) >= 2, "task/measure"
        assert isinstance(score.n, int)
        assert (score.value is not None and math.isfinite(score.value)) == (score.n > 0)
        assert len(score.prompts) in (0, len(score.outcomes))
        if score.low is not None or score.high is not None:
            assert score.low <= score.value + 1e-12
            assert score.value <= score.high + 1e-12
        assert json.loads(json.dumps(score.passport)) is not None


def test_scores_are_named_as_the_metric_says(case):
    """A study with a primary outcome that no metric names is refused before it runs."""
    patterns = [*names_of_scores(type(case.metric), set(case.subject.tasks))]
    for name in measured(case)[0]:
        assert any(gives(pattern, name) for pattern in patterns), (name, patterns)


NEITHER = (
    *("tokenizer/usage", "tokenizer/perplexity", "vqa/chance", "vqa/majority", "vqa/blind"),
    "text_to_image/errors",  # each hides others
    *("text_to_image/readers_agree", "reader/agrees", "reader/checker", "judge/retrieval"),
)
DRAWN = ("text_to_image", "edit", "compose", "depth", "super_resolution", "copy")  # tasks of images


def test_every_score_states_its_direction_and_what_n_counts(case, shipped_only):
    for name, score in measured(case)[0].items():
        neither = "/".join(name.split("/")[:2]) in NEITHER or name.endswith("/floor")
        assert (score.better in ("higher", "lower")) != neither, name
        assert score.unit in ("prompts", "questions", "images", "texts", "tokens", "codes"), name
        assert {"better", "unit"} <= score.row().keys()


def test_a_ceiling_stands_beside_every_score_of_drawn_images(case, shipped_only):
    scores = measured(case)[0]
    own = {name for name in scores if not name.endswith("/ceiling")}
    drawn = {n for n in own if n.split("/")[0] in DRAWN and not n.endswith("/floor")}
    assert set(scores) - own == {f"{name}/ceiling" for name in drawn}
    for name in drawn:
        best = scores[f"{name}/ceiling"]
        assert (best.better, best.unit) == (scores[name].better, scores[name].unit)
        assert "tokenizer" in best.passport


def test_an_empty_split_is_refused_in_words(case):
    source = copy.copy(case.subject.source)
    source.size = lambda task, split: 0
    with pytest.raises(
        ValueError, match=r"the \w+ split of \w+ has no record of \w+ .*: give it some"
    ):
        measured(case, source=source)
    if hasattr(case.metric, "split") or isinstance(case.metric, Speed):  # before training, too
        with pytest.raises(ValueError, match=r"the \w+ split of \w+ has no record of \w+"):
            case.metric.check(replace(case.subject, source=source))
    case.metric.check(case.subject)


def test_outcomes_are_one_per_trial_and_average_to_the_value(case):
    for name, score in measured(case)[0].items():
        if len(score.outcomes):
            assert len(score.outcomes) == score.n, name
            assert math.fsum(score.outcomes) / score.n == pytest.approx(score.value), name


def test_grids_are_images_with_a_title_and_a_verdict_each(case):
    for grid in measured(case)[1]:
        assert (grid.images.ndim, grid.images.shape[1]) == (4, 3)
        assert grid.images.abs().max() <= 1
        assert len(grid.images) == len(grid.titles) == len(grid.verdicts)
        assert set(grid.verdicts) <= {True, False, None}


def test_the_same_seed_gives_the_same_scores_whatever_the_global_generator(case):
    if case.metric.timed:
        pytest.skip("measures time")
    torch.manual_seed(1)
    first = rows(measured(case)[0])
    torch.manual_seed(2)
    assert json.dumps(rows(measured(case)[0])) == json.dumps(first)  # a NaN equals a NaN as text


def test_the_size_of_a_chunk_changes_nothing(case):
    if case.metric.timed:
        pytest.skip("measures time")
    (some, _), (whole, _) = measured(case), measured(case, batch=64)
    assert some.keys() == whole.keys()
    for name, score in some.items():
        assert score.n == whole[name].n
        assert same(score.value, whole[name].value), name
        assert score.passport == whole[name].passport


def test_measuring_leaves_the_model_as_it_was(case):
    model = case.subject.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured(case)
    assert not model.training
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def is_better(one, other):
    """Whether a score is better than another; None where it says nothing about the model."""
    if one.better is None or one.value is None or other.value is None:
        return None
    return one.value < other.value if one.better == "lower" else one.value > other.value


@pytest.mark.parametrize("name", [name for name in SCRIPTED if name not in ("pictures", "copies")])
def test_who_knows_beats_chance_in_the_direction_that_the_report_takes(name, shipped_only):
    metric = SCRIPTED[name]
    best, _ = measured(Case(name, metric, scripted(Knows())))
    chance, _ = measured(Case(name, metric, scripted(Chance())))
    verdicts = {n: is_better(s, chance[n]) for n, s in best.items()}
    judged = {n: v for n, v in verdicts.items() if v is not None and not n.endswith("/ceiling")}
    assert judged
    assert all(judged.values()), judged


def test_the_seeds_of_the_scripted_models_are_used(shipped_only):
    """Else the tests above would compare constants."""
    requests = [ImageRequest(["a"], size=(4, 4), seed=stable_seed(n)) for n in range(2)]
    assert not torch.equal(*map(Chance().generate_image, requests))
