"""A task is its columns; a source brings tasks of its own, learned by name or by layout."""

import numpy as np
import pytest
import torch

from unify.config import check_file
from unify.data.module import Data
from unify.data.shapes import Shapes
from unify.data.source import TASKS, Column, Record, Source, Task

INPAINT = Task("inpaint", (Column("source", "image"), Column("image", "image")))
COUNT = Task("count", (Column("hint", "text"), Column("image", "image"), Column("number", "text")))


class Own(Source):
    """Constant images, with the two tasks above and a shipped one."""

    own_tasks = (INPAINT, COUNT)
    tasks = frozenset({"inpaint", "count", "image"})

    def size(self, task, split):
        return 10

    def record(self, task, split, index):
        image = np.full((4, 4, 3), index, np.uint8)
        return Record(
            f"{split}/{index}", {"source": 0 * image, "image": image, "number": "two", "hint": "!"}
        )

    def fingerprint(self):
        return "0" * 12


def test_columns_become_segments_in_their_order_and_the_last_is_the_target():
    source = Own()
    records = [source.record("count", "train", index) for index in range(3)]
    batch = source.task("count").batch(records, {"number": 5})
    assert (batch.task, batch.keys) == ("count", ["train/0", "train/1", "train/2"])
    assert [s.kind for s in batch.segments] == ["text", "image", "text"]
    assert [s.role for s in batch.segments] == ["condition", "condition", "target"]
    assert [batch.segments[0].length, batch.segments[2].length] == [32, 5]
    assert torch.equal(batch.segments[1].images[:, 0, 0, 0], torch.arange(3) / 127.5 - 1)


def test_a_field_may_be_condition_and_target():
    column = Column("image", "image")
    record = Own().record("image", "train", 1)
    batch = Task("autoencode", (column, column)).batch([record])
    assert [s.role for s in batch.segments] == ["condition", "target"]


@pytest.mark.parametrize("columns", [(), (Column("a", "text"), Column("b", "images"))])
def test_a_task_needs_one_target(columns):
    with pytest.raises(ValueError, match="task odd: the last column is its target"):
        Task("odd", columns)


def test_a_task_of_one_s_own_is_learned_by_name_or_by_layout():
    assert INPAINT.learned_by({"inpaint"})
    assert INPAINT.learned_by({"depth"})
    assert not INPAINT.learned_by({"caption", "text_to_image", "another"})
    assert not COUNT.learned_by(TASKS)  # no shipped task has text, image, text


def test_a_shipped_task_is_learned_by_name_alone():
    assert TASKS["depth"].layout == TASKS["super_resolution"].layout
    assert not TASKS["depth"].learned_by({"super_resolution"})


def test_a_source_cannot_give_a_shipped_name_another_meaning():
    class Wrong(Own):
        own_tasks = (Task("vqa", INPAINT.columns),)

    with pytest.raises(ValueError, match=r"Wrong.own_tasks: 'vqa' is a shipped task"):
        Data(Wrong(), {"image": 2})


def test_data_serves_tasks_and_lengths_of_its_source_and_of_no_other():
    data = Data(Own(), {"count": 2, "inpaint": 2}, {"number": 5})
    (batches,) = data.train_batches(0, 1, 0, 1)
    columns = {task: len(batch.segments) for task, batch in batches.items()}
    assert columns == {"count": 3, "inpaint": 2}
    with pytest.raises(ValueError, match="no text field 'number'"):
        Data(Shapes(), {"caption": 2}, {"number": 5})
    with pytest.raises(ValueError, match="Shapes has no task 'count'"):
        Data(Shapes(), {"count": 2})


def test_the_fingerprint_of_data_follows_the_columns_of_its_own_tasks_alone(monkeypatch):
    def names():
        return {
            task: Data(Own(), {task: 2}).fingerprint() for task in ("count", "inpaint", "image")
        }

    before = names()
    monkeypatch.setattr(Own, "own_tasks", (INPAINT, Task("count", COUNT.columns[1:])))
    after = names()
    assert before["count"] != after["count"]
    assert before["inpaint"] == after["inpaint"]
    assert before["image"] == after["image"]
    assert Data(Shapes(), {"image": 2}).fingerprint() == "45af3981dcb3"  # as before users' own


SOURCE = """
from unify.data.shapes import Shapes
from unify.data.source import Column, Task

class Own(Shapes):
    own_tasks = (Task("inpaint", (Column("source", "image"), Column("image", "image"))),)

class Wrong(Shapes):
    own_tasks = (Task("depth", (Column("image", "image"),)),)
"""
FLOW = """
  class: unify.paradigms.crossflow_from_image.CrossFlowImages
  trunk: {class: unify.nn.trunk.Trunk, dim: 32, depth: 1, heads: 2}
  image: {class: unify.tokenizers.pixels.Pixels}
  patches: {class: unify.nn.patches.LinearPatches, channels: 3, dim: 32, patch: 4}
  time: {class: unify.flow.UniformTime}
loss_weights: {image_flow: 1.0}
"""
READER = """
  class: unify.paradigms.vlm.VLM
  trunk: {class: unify.nn.trunk.Trunk, dim: 32, depth: 1, heads: 2}
  text: {class: unify.tokenizers.text.Bytes}
loss_weights: {text_ce: 1.0}
"""


def problems(folder, source, task, model):
    """What the check finds in an experiment that learns a task from `own.py`."""
    (folder / "own.py").write_text(SOURCE)
    data = f'data: {{source: {{class: "./own.py:{source}"}}, tasks: {{{task}: 4}}}}'
    (folder / "own.yaml").write_text(f"{data}\nmodel:{model}")
    return "\n".join(str(problem) for problem in check_file(folder / "own.yaml"))


def test_the_check_takes_a_task_of_the_source_s_own(tmp_path):
    assert problems(tmp_path, "Own", "inpaint", FLOW) == ""


@pytest.mark.parametrize(
    ("source", "task", "model", "message"),
    [
        ("Own", "inpaint", READER, "data.tasks.inpaint: VLM does not learn it; it learns caption"),
        ("Own", "inpiant", FLOW, "data.tasks.inpiant: unknown task; did you mean 'inpaint'?"),
        ("Nothing", "inpaint", FLOW, "own.py has no class 'Nothing'"),
        ("Wrong", "depth", FLOW, "data.source: Wrong.own_tasks: 'depth' is a shipped task"),
    ],
)
def test_the_check_says_what_is_wrong_with_a_task(tmp_path, source, task, model, message):
    assert message in problems(tmp_path, source, task, model)
