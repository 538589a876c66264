"""Records of any source are described by a sample of each task; a broken one ends nothing."""

import numpy as np

from unify.data.describe.describe import describe
from unify.data.describe.source_reader import SourceReader
from unify.data.shapes import Shapes
from unify.data.source import Column, Record, Source, Task

FLAT = np.full((12, 16, 3), 90, np.uint8)


class Broken(Source):
    """Ten records to train on, of which five are none; as many to test, copies of the first."""

    own_tasks = (Task("turn", (Column("image", "image"), Column("order", "text"))),)
    tasks = frozenset({"turn"})

    def size(self, task, split):
        return {"train": 10, "test": 10}.get(split, 0)

    def record(self, task, split, index):
        if split == "test":
            index = 0
        wrong = {
            1: {"image": FLAT}, 2: {"image": FLAT, "order": " "}, 3: {"image": FLAT, "order": 7},
            4: {"image": FLAT.astype(float), "order": "left"},
        }  # fmt: skip
        if index == 5:
            raise OSError("gone")
        fields = {"image": FLAT + np.uint8(index), "order": f"turn it by {index}"}
        return Record(f"{split}/{index}", wrong.get(index, fields))

    def fingerprint(self):
        return "0" * 12


def test_what_a_record_lacks_is_its_reason_and_the_others_are_counted():
    told = describe(SourceReader(Broken(), ["turn"], 100), 100).facts
    assert told["whole"]
    assert told["records"] == 15
    assert told["bad"]["reasons"] == {
        "missing_order": 1, "empty_order": 1, "bad_order": 1, "bad_image": 1, "error": 1
    }  # fmt: skip
    assert {b["key"]: b["detail"] for b in told["bad"]["first"]}["turn/train/5"] == "OSError: gone"
    assert told["pictures"]["in_train"] == {"test": {"in_train": 10, "records": 10}}
    assert told["texts"]["order"]["in_train"] == {"test": {"in_train": 10, "records": 10}}
    assert told["pictures"]["copies"] == {
        "values": 1,
        "copies": 10,
        "most": [{"times": 11, "first": ["train/0", "test/0"]}],
    }


def test_the_world_is_described_by_as_many_records_as_were_asked_for():
    reader = SourceReader(Shapes(), ["caption", "vqa"], 6)
    told = describe(reader, 6).facts
    assert not told["whole"]
    assert reader.total == told["records"] == 2 * 3 * 4
    assert told["counts"]["caption"]["train"] == 20_000
    assert {row["task"] for row in told["described"]} == {"caption", "vqa"}
    assert told["texts"].keys() == {"caption", "question", "answer"}
    assert told["bad"]["records"] == 0


def test_the_sample_has_records_of_the_whole_split_and_each_once():
    first = [e.key for e in SourceReader(Shapes(), ["text"], 8).entries(1)]
    assert first == [e.key for e in SourceReader(Shapes(), ["text"], 8).entries(1)]
    assert len({*first}) == len(first)
    assert max(int(key.split("/")[-1]) for key in first if "train" in key) > 1000
