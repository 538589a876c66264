"""The second reader: what it learns from, what it reads, and who is told which one judged."""

import pytest
import torch
from picture_readers import tiny_reader
from shapes_oracle import HARD, WORLD

from unify.batch import Batch
from unify.data.module import Data
from unify.data.shapes import Shapes
from unify.data.source import images
from unify.data.world.scene import Scene
from unify.metrics.metric import Subject, first_records
from unify.metrics.reader_accuracy import ReaderAccuracy
from unify.metrics.scene_reader import SceneReader, blurred
from unify.noise import Noise
from unify.tokenizers.pixels import Pixels

STUDY = Shapes(
    objects=(1, 3), offset=0.1375, radius=0.17, shade=22, background=40, heldout_keys=0.2,
    tokenizer_images="all",
)  # fmt: skip


def batch_of(world, n=12, split="train"):
    return Data(world, {"image": n}).batch("image", split, range(n))


def noise_of(batch, step=0):
    return Noise.for_batch(0, step, batch)


@pytest.mark.parametrize("world", [WORLD, HARD, STUDY], ids=["plain", "sizes", "study"])
def test_its_labels_are_what_stands_in_the_pictures(world):
    """Logits that say the labels have no loss, and are read as the scenes of the records."""
    reader, batch = tiny_reader(world), batch_of(world)
    scenes = [world.record("image", "train", index).meta["scene"] for index in range(12)]
    board = world.board
    names = {"shape": [None, *board.shapes], "color": board.colors, "size": board.sizes}
    wanted = {
        name: torch.tensor(
            [
                [max(0, where(names[name], scene.at(cell), name)) for cell in board.cells]
                for scene in scenes
            ]
        )
        for name in reader.heads
    }
    said = {
        name: 50.0 * torch.nn.functional.one_hot(w, len(names[name])).movedim(2, 1).float()
        for name, w in wanted.items()
    }

    class Says(torch.nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = logits

        def forward(self, places):
            return self.logits

    for name, logits in said.items():
        reader.heads[name] = Says(logits)
    assert reader.loss(batch, noise_of(batch))["attributes"].value.max() < 1e-6
    assert reader.scenes(batch.segments[0].images) == scenes


def where(names, thing, attribute):
    return 0 if thing is None else list(names).index(getattr(thing, attribute))


def test_it_learns_from_pictures_that_only_image_tokenizers_see_and_needs_no_text():
    pairs = {t.pair for i in range(400) for t in STUDY.pictured("train", i).things}
    assert set(STUDY.board.heldout) <= pairs
    batch = batch_of(STUDY)
    assert [segment.kind for segment in batch.segments] == ["image"]
    scene = STUDY.pictured("train", 7)
    assert scene == STUDY.record("image", "train", 7).meta["scene"]


def test_pictures_of_another_world_and_of_another_task_are_refused():
    batch = batch_of(WORLD)
    with pytest.raises(ValueError, match=r"image/train/0 is no picture of the reader's world: say"):
        tiny_reader(STUDY).loss(batch, noise_of(batch))
    other = Batch(batch.task, batch.segments, [f"caption/train/{i}" for i in range(12)])
    with pytest.raises(ValueError, match="learns from the world's task `image`, not from caption/"):
        tiny_reader(WORLD).loss(other, noise_of(batch))
    with pytest.raises(ValueError, match="trained on a world of pixels 32, and this one has 64"):
        tiny_reader(WORLD).check_world(HARD)
    with pytest.raises(ValueError, match="a multiple of 4 pixels, not 30"):
        tiny_reader(Shapes(size=30, low_resolution=15))


def test_a_row_depends_on_itself_alone_and_every_kind_of_damage_comes():
    reader, batch = tiny_reader(STUDY, through=[Pixels()]), batch_of(STUDY, 32)
    whole = reader.loss(batch, noise_of(batch))["attributes"].value
    assert whole.shape == (32,)
    part = batch.rows(slice(3, 9))
    alone = reader.loss(part, noise_of(part))["attributes"].value
    torch.testing.assert_close(alone, whole[3:9], rtol=1e-4, atol=1e-5)
    whole.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in reader.parameters())
    assert not [name for name in reader.state_dict() if "through" in name]


def test_blur_is_that_of_torchvision_for_each_row():
    from unify.data.world.templates import blur

    shown = batch_of(WORLD, 3).segments[0].images
    ours = blurred(shown, torch.tensor([0.7, 1.2, 2.0]), 2.0)
    for row, sigma in enumerate((0.7, 1.2, 2.0)):
        one = blur(shown[row : row + 1], sigma)
        torch.testing.assert_close(ours[row : row + 1], one, rtol=0, atol=5e-3)
    assert torch.equal(blurred(shown, torch.zeros(3), 2.0), shown)


def test_its_hash_is_that_of_weights_and_vocabulary_and_not_of_its_tokenizers():
    own = tiny_reader(WORLD)
    assert own.content_hash() == tiny_reader(WORLD, through=[Pixels()]).content_hash()
    assert (
        own.content_hash()
        != tiny_reader(Shapes(colors=("red", "blue", "green"), heldout=())).content_hash()
    )
    with torch.no_grad():
        next(own.parameters()).add_(0.01)
    assert own.content_hash() != tiny_reader(WORLD).content_hash()


def test_accuracy_is_of_the_reader_beside_the_checker_by_damage():
    class Right(SceneReader):
        def scenes(self, shown):
            return [r.meta["scene"] for r in first_records(WORLD, "image", "test", len(shown))]

    reader = Right(WORLD, through=[Pixels()], width=4, features=4)
    made = Subject(reader, WORLD, frozenset({"image"}), {}, {}, {}, seed=0)
    scores, grids = ReaderAccuracy(images=20).measure(made)
    value = {score.metric.removeprefix("reader/"): score.value for score in scores}
    assert {v for k, v in value.items() if k.startswith("exact/")} == {1.0}
    assert value["checker/clean"] == value["checker/round_trip_1"] == value["agrees/clean"] == 1
    assert value["checker/noise_0.4"] == value["agrees/noise_0.4"] == 0, "the checker refuses all"
    assert len(grids) * 3 == len(scores)
    assert ReaderAccuracy().measure(
        Subject(torch.nn.Linear(1, 1), WORLD, frozenset({"image"}), {}, {}, {}, 0)
    ) == ([], [])


def test_an_untrained_reader_reads_scenes_of_its_board():
    read = tiny_reader(HARD).scenes(images(first_records(HARD, "image", "test", 5), "image"))
    assert len(read) == 5
    assert all(isinstance(scene, Scene) and len(scene) <= 9 for scene in read)
