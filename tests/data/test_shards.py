"""Records of tar shards: what was written is read, and later damage is named."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image
from tar_shards import edits, make_older, pairs, picture, tar

from unify.data.adapters.index import index_folder
from unify.data.adapters.stored import Damaged
from unify.data.module import Data
from unify.data.shards import Shards


def test_records_are_the_pictures_and_texts_that_were_written(folder):
    source = Shards(str(folder), size=16, validation=0, test=0)
    assert source.tasks == {"text_to_image", "caption", "text", "image"}
    for i in range(12):
        record = source.record("text_to_image", "train", i)
        assert record.key == f"shard-{i // 6:06d}/{i:05d}"
        assert record.fields["prompt"] == f"text {i}"
        expected = np.asarray(Image.open(io.BytesIO(picture(i))).crop((2, 0, 18, 16)))
        assert np.array_equal(record.fields["image"], expected)
    assert source.record("text", "train", 3).fields == {"text": "text 3"}
    assert list(source.record("image", "train", 3).fields) == ["image"]


def test_questions_are_records_of_their_own(tmp_path):
    turns = [{"question": "how many?", "answer": "two", "kind": "count"}]
    turns += [{"question": "what colour?", "answer": "red"}]
    members = [
        *pairs(1),
        ("a.jpg", picture(1)), ("a.json", json.dumps({"turns": turns}).encode()),
        ("b.jpg", picture(2)), ("b.txt", b"a cat"),
        ("b.json", b'{"question": "is it a cat?", "answer": "yes"}'),
    ]  # fmt: skip
    tar(tmp_path / "x.tar", members)
    index_folder(tmp_path)
    source = Shards(str(tmp_path), size=16, validation=0, test=0)
    assert {t: source.size(t, "train") for t in source.tasks} == {
        "image": 3, "text_to_image": 2, "caption": 2, "text": 2, "vqa": 3
    }  # fmt: skip
    records = [source.record("vqa", "train", i) for i in range(3)]
    assert [r.key for r in records] == ["x/a#0", "x/a#1", "x/b#0"]
    assert [r.fields["answer"] for r in records] == ["two", "red", "yes"]
    assert [r.meta["kind"] for r in records] == ["count", "open", "open"]


def test_edits_are_a_source_an_instruction_and_an_image(tmp_path):
    tar(tmp_path / "x.tar", [*edits(40), *pairs(2)])
    assert index_folder(tmp_path).records == 42
    source = Shards(str(tmp_path), size=16, validation=0, test=0)
    assert {t: source.size(t, "train") for t in source.tasks} == {
        "image": 42, "text_to_image": 2, "caption": 2, "text": 2, "edit": 40
    }  # fmt: skip  # an instruction is no caption
    for i in range(40):
        record = source.record("edit", "train", i)
        assert (record.key, record.fields["instruction"]) == (f"x/{i}", f"do {i}")
        for name, n in (("image", i), ("source", 100 + i // 2)):
            kind = "PNG" if name == "image" else "JPEG"
            expected = np.asarray(Image.open(io.BytesIO(picture(n, kind))).crop((2, 0, 18, 16)))
            assert np.array_equal(record.fields[name], expected)
    (batches,) = Data(source, {"edit": 4}, {"instruction": 7}).train_batches(0, 1, 0, 1)
    assert [s.kind for s in batches["edit"].segments] == ["image", "text", "image"]
    assert batches["edit"].segments[1].length == 7
    halves = Shards(str(tmp_path), size=16, validation=0.5, test=0)
    parts = [
        {halves.record("edit", split, i).fields["source"].tobytes() for i in range(size)}
        for split in ("train", "validation")
        if (size := halves.size("edit", split))
    ]
    assert len(parts) == 2
    assert not parts[0] & parts[1]  # edits of one picture are in one split


def test_an_index_from_before_edits_is_read(folder):
    fingerprint = Shards(str(folder)).fingerprint()
    make_older(folder, without=("crc", "edit"))
    assert Shards(str(folder)).fingerprint() == fingerprint
    source = Shards(str(folder), size=16, validation=0, test=0)
    assert source.tasks == {"text_to_image", "caption", "text", "image"}
    assert source.size("edit", "train") == 0


def test_splits_are_disjoint_by_picture_and_independent_of_the_shards(tmp_path):
    for name, order in (("one", range(60)), ("two", reversed(range(60)))):
        (tmp_path / name).mkdir()
        members = []
        for i in order:  # every picture twice, under another key
            for copy in "ab":
                members += [
                    (f"{name}{i}{copy}.jpg", picture(i)),
                    (f"{name}{i}{copy}.txt", b"%d" % i),
                ]
        tar(tmp_path / name / "x.tar", members)
        index_folder(tmp_path / name)
    parts = []
    for name in ("one", "two"):
        source = Shards(str(tmp_path / name), size=16, validation=0.2, test=0.2)
        splits = ("train", "validation", "test")
        texts = [
            {
                source.record("text", split, i).fields["text"]
                for i in range(source.size("text", split))
            }
            for split in splits
        ]
        assert all(texts)
        assert sum(map(len, texts)) == len(set.union(*texts)) == 60
        assert source.size("text", "heldout") == 0
        parts.append(texts)
    assert parts[0] == parts[1]


@pytest.mark.fault(17)
def test_a_damaged_record_stops_the_run_and_is_named(folder):
    source = Shards(str(folder), size=16, validation=0, test=0)
    path = folder / "shard-000001.tar"
    data = bytearray(path.read_bytes())
    data[source.row(8)["offset"] + 250] ^= 1
    path.write_bytes(data)
    for i in set(range(12)) - {8}:
        source.record("image", "train", i)
    message = r"00008 of .*shard-000001\.tar: .*unify data check .* --repair"
    with pytest.raises(Damaged, match=message):
        source.record("image", "train", 8)
    for workers in (0, 1):
        with pytest.raises(Damaged, match=message):
            list(Data(source, {"image": 12}).train_batches(0, 1, 0, 1, workers=workers))


def test_a_shard_that_went_missing_is_named(folder):
    source = Shards(str(folder), validation=0, test=0)
    (folder / "shard-000000.tar").unlink()
    with pytest.raises(Damaged, match=r"shard-000000\.tar: the shard is missing"):
        source.record("image", "train", 0)


def test_workers_and_pickles_read_the_same(folder):
    source = Shards(str(folder), size=16)
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint() == source.fingerprint()
    data = Data(source, {"caption": 4})
    plain, worked = (list(data.train_batches(1, 2, 0, 3, workers=w)) for w in (0, 2))
    for a, b in zip(plain, worked, strict=True):
        assert a["caption"].keys == b["caption"].keys
        assert (a["caption"].segments[0].images == b["caption"].segments[0].images).all()


def test_the_fingerprint_follows_every_setting_and_record(folder):
    def fingerprint(**options):
        return Shards(str(folder), **options).fingerprint()

    seen = {fingerprint(), fingerprint(size=16), fingerprint(test=0.1), fingerprint(validation=0)}
    assert len(seen) == 4
    tar(folder / "shard-000001.tar", pairs(5, start=6))
    index_folder(folder)
    assert fingerprint() not in seen


def test_mistakes_are_named(tmp_path, folder):
    with pytest.raises(ValueError, match=r"no index\.json.*unify data check .* --repair"):
        Shards(str(tmp_path))
    with pytest.raises(ValueError, match=r"holds no \.tar.*unify data import"):
        index_folder(tmp_path)
    with pytest.raises(ValueError, match="shares of the pictures"):
        Shards(str(folder), validation=0.6, test=0.4)
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ValueError, match=r"index of .* is damaged.*--repair"):
        Shards(str(folder))
