"""The description of records: every number is counted by hand, on shards in the real format."""

import json

import pytest
from odd_shards import CAPTIONS, RIGHT_TO_LEFT, write_odd_shards
from tar_shards import fit_index, pairs, tar

from unify.data.adapters.index import index_folder
from unify.data.adapters.verdicts import Verdict
from unify.data.describe.describe import Sample, describe
from unify.data.describe.entries import Entry
from unify.data.describe.shard_reader import ShardReader
from unify.data.describe.tokens import token_counts
from unify.data.shards import Shards


def described(folder, sample=100, jobs=1, tokenizer="", **shares):
    reader = ShardReader(Shards(str(folder), size=16, **shares))
    return describe(reader, sample, jobs, token_counts(tokenizer)[0])


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return write_odd_shards(tmp_path_factory.mktemp("odd") / "data")


@pytest.fixture(scope="module")
def told(odd):
    return described(odd, validation=0, test=0, tokenizer="bytes").facts


def test_every_record_is_counted_by_task_and_split(told):
    assert told["records"] == len(CAPTIONS)
    assert told["whole"]
    assert told["counts"]["text_to_image"] == {
        "train": 10, "validation": 0, "test": 0, "heldout": 0
    }  # fmt: skip
    assert told["described"] == [{"task": "", "split": "train", "records": 10}]


def test_sizes_are_of_the_picture_as_it_is_seen(told):
    sizes = {(s["width"], s["height"]): s["records"] for s in told["pictures"]["sizes"]}
    assert sizes[20, 16] == 3
    assert sizes[24, 48] == 1  # EXIF turns it
    assert sum(sizes.values()) == 10
    assert told["pictures"]["shapes"]["square"] == 2
    assert told["pictures"]["shapes"]["3:1 or more"] == 1
    assert told["pictures"]["longer_side"]["most"] == 64


def test_lengths_and_scripts_are_of_every_caption(told):
    found = told["texts"]["caption"]
    assert found["characters"]["records"] == 10
    assert found["characters"]["most"] == max(map(len, CAPTIONS.values()))
    assert found["tokens"]["most"] == max(len(text.encode()) for text in CAPTIONS.values())
    assert found["scripts"] == {"Latin": 7, "Arabic": 1, "Cyrillic": 1, "Han and kana": 1}


def test_copies_are_found_by_content_and_texts_but_for_case_and_signs(told):
    copies = told["pictures"]["copies"]
    assert (copies["values"], copies["copies"]) == (1, 2)
    assert copies["most"][0]["times"] == 3
    assert [name.split()[1] for name in copies["most"][0]["first"]] == ["copy-a", "copy-b"]
    found = told["texts"]["caption"]
    assert found["copies"]["copies"] == 0
    assert (found["alike"]["values"], found["alike"]["copies"]) == (1, 1)
    assert found["alike"]["most"][0]["text"] == "the same twice"


def test_a_picture_that_was_scaled_and_compressed_again_is_nearly_the_same(told):
    near = told["pictures"]["near"]
    pairs = [{pair["first"].split()[1], pair["second"].split()[1]} for pair in near["closest"]]
    assert {"near", "smaller"} in pairs
    assert not any("copy-a" in pair for pair in pairs)  # copies are counted as copies
    (pair,) = told["texts"]["caption"]["near"]["closest"]
    assert {*pair["texts"]} == {CAPTIONS["smaller"], CAPTIONS["plain"]}


def test_bad_records_are_all_counted_and_the_first_named(told):
    bad = told["bad"]
    assert bad["records"] == 4
    assert bad["reasons"] == {
        "animated_image": 1, "corrupt_image": 1, "empty_caption": 1, "missing_caption": 1
    }  # fmt: skip
    assert {(b["key"], b["reason"]) for b in bad["first"]} == {
        ("animated", "animated_image"), ("cut", "corrupt_image"),
        ("silent", "empty_caption"), ("alone", "missing_caption"),
    }  # fmt: skip
    assert told["notable"][0] == "4 bad records are left out."


def test_the_examples_are_pictures_with_their_texts(odd):
    made = described(odd)
    shown = {one.entry.key: one for one in made.examples}
    assert shown.keys() == CAPTIONS.keys()
    assert all(one.image is not None for one in shown.values())
    assert shown["turned"].entry.texts == {"caption": RIGHT_TO_LEFT}
    assert shown["turned"].image.size == (24, 48)


def test_it_is_the_same_again_and_in_several_processes(odd, told):
    again = described(odd, validation=0, test=0, tokenizer="bytes", jobs=2).facts
    assert json.dumps(again) == json.dumps(told)


def test_damage_after_the_index_is_counted_and_ends_nothing(odd, tmp_path):
    folder = write_odd_shards(tmp_path / "data")
    tar_file = folder / "shard-000000.tar"
    data = tar_file.read_bytes()
    rows = [json.loads(line) for line in (folder / "records.jsonl").open()]
    row = next(row for row in rows if row["key"] == "cmyk")
    at = row["offset"] + row["bytes"] // 2
    tar_file.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
    records = (folder / "records.jsonl").read_bytes()
    (folder / "records.jsonl").write_bytes(records.replace(b'"ink on paper"', b'"ink in paper"'))
    told = described(folder).facts
    assert told["records"] == 9  # a row that changed is none
    assert told["bad"]["reasons"]["damaged_row"] == 1
    (folder / "records.jsonl").write_bytes(records)
    told = described(folder).facts
    assert told["records"] == 10
    assert told["bad"]["reasons"]["damaged_record"] == 1
    assert told["bad"]["first"][0]["key"] == "cmyk"
    assert "its bytes changed" in told["bad"]["first"][0]["detail"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"text": ""}, "empty_caption"),
        ({"text": None}, "bad_row"),
        ({"height": None}, "bad_row"),
    ],
)
def test_a_row_of_another_program_is_counted_as_bad(folder, line, reason):
    rows = [json.loads(text) for text in (folder / "records.jsonl").open()]
    lines = [rows[0], {**rows[1], **line}, *rows[2:]]
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    fit_index(folder)
    found = ShardReader(Shards(str(folder))).entry(1)
    assert isinstance(found, Verdict)
    assert found.reason == reason
    assert described(folder).facts["records"] == 11


def test_what_training_has_too_is_counted_by_split(tmp_path):
    """Pictures are split by content, so that copies are together; their captions are not."""
    folder = tmp_path / "data"
    folder.mkdir()
    members = pairs(40)
    same = [(name, b"one caption" if name.endswith("txt") else data) for name, data in members]
    tar(folder / "x.tar", same)
    index_folder(folder)
    told = described(folder, validation=0.3, test=0.2).facts
    counts = {row["split"]: row["records"] for row in told["described"]}
    assert min(counts.values()) > 0
    assert told["pictures"]["in_train"] == {
        split: {"in_train": 0, "records": counts[split]} for split in ("test", "validation")
    }
    assert told["texts"]["caption"]["in_train"] == {
        split: {"in_train": counts[split], "records": counts[split]}
        for split in ("test", "validation")
    }
    assert any("validation records have a caption" in said for said in told["notable"])


def test_the_sample_depends_on_keys_alone():
    entries = [Entry(n, "", "train", "shard", f"key {n}") for n in range(50)]
    forward, backward = Sample(8), Sample(8)
    for one, other in zip(entries, reversed(entries), strict=True):
        forward.add(one)
        backward.add(other)
    assert forward.entries() == backward.entries()
    assert len(forward.entries()) == 8
    assert [entry.place for entry in forward.entries()] != list(range(8))


def test_a_folder_of_bad_records_alone_is_described(tmp_path):
    tar(tmp_path / "x.tar", [("a.jpg", b"none"), ("a.txt", b"a picture")])
    index_folder(tmp_path)
    told = described(tmp_path).facts
    assert told["records"] == 0
    assert told["pictures"] is None
    assert told["texts"] == {}
    assert told["notable"] == ["1 bad record is left out."]
