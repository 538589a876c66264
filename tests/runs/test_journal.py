import json
import math
import random

import pytest
import torch

from unify.runs.journal import Consumed, Journal


def test_numbers_come_back_bit_equal(tmp_path):
    draw = random.Random(0)
    values = {f"v{i}": draw.uniform(-1, 1) * 10.0 ** draw.randint(-300, 300) for i in range(500)}
    tensors = {f"t{i}": torch.rand(()) for i in range(50)}
    journal = Journal(tmp_path / "run")
    journal.write(3, "train", {**values, **tensors, "data": "9f", "rows": 4})
    [record] = journal.records()
    assert {name: record[name] for name in values} == values
    assert all(torch.tensor(record[n]) == t for n, t in tensors.items())
    assert (record["step"], record["kind"], record["data"], record["rows"]) == (3, "train", "9f", 4)


def test_what_is_not_a_number_is_null_and_every_line_is_strict_json(tmp_path):
    journal = Journal(tmp_path)
    journal.write(1, "train", {"a": math.nan, "b": -math.inf, "c": torch.tensor(math.nan)})
    [record] = journal.records()
    assert [record[name] for name in "abc"] == [None] * 3
    json.loads(journal.path.read_text(), parse_constant=pytest.fail)


def test_records_are_told_apart_by_kind(tmp_path):
    journal = Journal(tmp_path)
    assert journal.records() == []
    journal.write(1, "note", {"text": "déjà vu\nsecond line"})
    journal.write(2, "train", {"loss": 1.0})
    assert journal.records("note")[0]["text"] == "déjà vu\nsecond line"
    assert [record["step"] for record in journal.records("train")] == [2]


def test_cut_keeps_exactly_the_bytes_up_to_the_step(tmp_path):
    journal, kept = Journal(tmp_path), b""
    for step in range(1, 11):
        journal.write(step, "train", {"loss": 1 / step, "text": "ü"})
        journal.write(step, "health", {"time": step})
        kept = journal.path.read_bytes() if step == 6 else kept
    journal.cut(6)
    assert journal.path.read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
    Journal(tmp_path / "never written").cut(3)


@pytest.mark.parametrize("missing", range(1, 20))
def test_a_torn_last_line_is_left_out_and_written_over(tmp_path, missing):
    journal = Journal(tmp_path)
    journal.write(1, "train", {"loss": 1.0})
    journal.write(2, "train", {"loss": 2.0})
    journal.path.write_bytes(journal.path.read_bytes()[:-missing])
    assert [record["loss"] for record in journal.records()] == [1.0]
    journal.write(2, "train", {"loss": 3.0})
    assert [record["loss"] for record in journal.records()] == [1.0, 3.0]


def test_damage_in_the_middle_is_named_by_line(tmp_path):
    journal = Journal(tmp_path)
    for step in range(3):
        journal.write(step, "train", {"loss": 1.0})
    lines = journal.path.read_bytes().split(b"\n")
    journal.path.write_bytes(b"\n".join([lines[0], lines[1][:-4], *lines[2:]]))
    with pytest.raises(ValueError, match="line 2 is damaged"):
        journal.records()
    assert [record["step"] for record in journal.records(lenient=True)] == [0]


def consumed(*steps):
    read = Consumed()
    for keys in steps:
        read.add("vqa", keys)
    return read.state()


def test_what_was_consumed_is_which_samples_and_how_often_not_how_they_were_cut():
    all_at_once = consumed(["x", "y", "z"])
    assert all_at_once == consumed(["y", "x"], ["z"]) == consumed(["z"], ["x"], ["y"])
    assert all_at_once["vqa"]["samples"] == 3
    assert all_at_once != consumed(["x", "y", "w"])
    assert consumed(["x", "x", "y"]) != consumed(["x", "y", "y"])
    assert consumed(["x", "x"]) != consumed(["x"])
    assert consumed(["xy", "z"]) != consumed(["x", "yz"])


def test_what_was_consumed_goes_on_from_its_state():
    first, second = Consumed(), Consumed()
    first.add("vqa", ["x", "y"])
    second.join(json.loads(json.dumps(first.state())))
    for one in (first, second):
        one.add("vqa", ["z"])
        one.add("caption", ["z"])
    assert first.state() == second.state()
    assert first.state()["caption"]["samples"] == 1


def test_what_ranks_consumed_is_put_together():
    first, second = Consumed(), Consumed()
    first.add("vqa", ["x", "y"])
    second.add("vqa", ["z"])
    first.join(second.state())
    assert first.state() == consumed(["x", "y", "z"])
