"""Batches that a run reads: the same for any workers, accumulation, ranks, and after a resume."""

import pytest
import torch
from lightning import LightningModule, Trainer
from tiny_source import TASKS, Tiny

from unify.data.module import Data
from unify.training.trainer import TrainingData


def journal(batches):
    """Ordered (task, slot, key) of one micro-step."""
    return [
        (task, slot, key)
        for task, batch in batches.items()
        for slot, key in zip(batch.slots, batch.keys, strict=True)
    ]


class Toy(LightningModule):
    def __init__(self, save_at=(), folder=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.save_at, self.folder = [], save_at, folder

    def training_step(self, batches, _):
        self.seen.append((self.trainer.global_step, journal(batches)))
        value = batches["caption"].segments[0].images.mean()
        return (self.weight * value).sum()

    def on_train_batch_end(self, *_):
        if self.trainer.global_step in self.save_at:
            self.trainer.save_checkpoint(self.folder / f"{self.trainer.global_step}.ckpt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


# Lightning does not know that a loader which starts at `global_step` resumes.
pytestmark = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")


def fit(module, steps, workers, accumulation, checkpoint=None):
    data = Data(Tiny(), TASKS)
    data.prepare(seed=3, workers=workers)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=accumulation,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, TrainingData(data), ckpt_path=checkpoint, weights_only=True)
    return module


@pytest.mark.fault(3, times=3)
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_consumes_exactly_what_was_left(tmp_path, workers, accumulation):
    whole = fit(Toy((1, 4, 6), tmp_path), 6, workers, accumulation)
    assert len(whole.seen) == 6 * accumulation
    for step in (1, 4):
        rest = fit(Toy(), 6, workers, accumulation, tmp_path / f"{step}.ckpt")
        assert rest.seen == whole.seen[step * accumulation :]
        assert torch.equal(rest.weight, whole.weight)
    longer = fit(Toy(), 8, workers, accumulation, tmp_path / "6.ckpt")
    assert longer.seen == fit(Toy(), 8, 0, accumulation).seen[6 * accumulation :]


@pytest.mark.fault(5)
@pytest.mark.parametrize(("before", "after"), [(0, 1), (0, 2), (1, 2), (2, 0), (2, 1)])
def test_a_run_may_resume_with_other_workers(tmp_path, before, after):
    whole = fit(Toy((3,), tmp_path), 6, before, 2)
    rest = fit(Toy(), 6, after, 2, tmp_path / "3.ckpt")
    assert rest.seen == whole.seen[3 * 2 :]
    assert torch.equal(rest.weight, whole.weight)


@pytest.mark.fault(2, times=4)
def test_a_run_may_resume_with_another_accumulation(tmp_path):
    def by_step(module):
        return [
            sorted(row for step, rows in module.seen if step == s for row in rows) for s in range(6)
        ]

    for before, after in [(1, 2), (2, 1), (4, 2), (1, 4)]:
        whole = fit(Toy((3,), tmp_path), 6, 0, before)
        rest = fit(Toy(), 6, 0, after, tmp_path / "3.ckpt")
        assert by_step(rest)[3:] == by_step(whole)[3:]
        assert len(rest.seen) == 3 * after


def ids(workers=0, accumulation=1, world=1, steps=3):
    data = Data(Tiny(), TASKS)
    ranks = [
        list(data.train_batches(5, accumulation, 0, steps, world, rank, workers))
        for rank in range(world)
    ]
    return [[journal(ranks[r][m]) for r in range(world)] for m in range(steps * accumulation)]


def test_workers_change_nothing():
    assert ids(workers=2, accumulation=2) == ids(accumulation=2)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_ranks_and_micro_steps_concatenate_to_the_global_batch(world, accumulation):
    if world * accumulation > 4:
        return  # 4 rows of caption
    whole = ids()
    parts = ids(accumulation=accumulation, world=world)
    for step, one in enumerate(whole):
        micros = parts[step * accumulation : (step + 1) * accumulation]
        for task in TASKS:
            flat = [row for micro in micros for rank in micro for row in rank if row[0] == task]
            assert flat == [row for row in one[0] if row[0] == task]


def test_ten_micro_batches_of_8_are_one_batch_of_80():
    data = Data(Tiny(), {"text_to_image": 80})
    (whole,) = data.train_batches(0, 1, 2, 3)
    parts = list(data.train_batches(0, 10, 2, 3))
    assert [len(p["text_to_image"]) for p in parts] == [8] * 10
    images = torch.cat([p["text_to_image"].segments[1].images for p in parts])
    assert torch.equal(images, whole["text_to_image"].segments[1].images)
    assert [s for p in parts for s in p["text_to_image"].slots] == list(range(80))


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_global_generators_alone(workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(Data(Tiny(), TASKS).train_batches(0, 1, 0, 2, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_lengths_reach_the_segments():
    (batches,) = Data(Tiny(), TASKS, {"prompt": 7}).train_batches(0, 1, 0, 1)
    assert batches["text_to_image"].segments[0].length == 7
    assert batches["caption"].segments[1].length == 32


@pytest.mark.parametrize(
    ("tasks", "lengths", "message"),
    [
        ({"vqa": 4}, None, "Tiny has no task 'vqa'; it has caption, text, text_to_image"),
        ({}, None, "data.tasks is empty"),
        ({"caption": 0}, None, "data.tasks.caption must be at least 1"),
        ({"caption": 4}, {"promt": 9}, r"no text field 'promt'; there are \['answer', 'caption', "),
    ],
)
def test_mistakes_are_named(tasks, lengths, message):
    with pytest.raises(ValueError, match=message):
        Data(Tiny(), tasks, lengths)


def test_texts_are_the_training_split_of_every_text_field():
    data = Data(Tiny(), {"caption": 2, "text": 2})
    assert sorted(data.texts(100)) == sorted(
        [f"text {i}" for i in range(10)] + [f"text {i}" for i in range(5)]
    )
    assert len(data.texts(4)) == 4


def test_fingerprint_follows_tasks_and_lengths():
    prints = {
        Data(Tiny(), tasks, lengths).fingerprint()
        for tasks, lengths in [
            ({"caption": 2}, None),
            ({"caption": 4}, None),
            ({"caption": 2}, {"caption": 9}),
        ]
    }
    assert len(prints) == 3
    assert all(len(p) == 12 for p in prints)
