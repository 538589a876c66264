"""An index is what was written, or is refused: never another record."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_shards import edits, fit_index, make_older, pairs, tar

from unify.data.adapters.damage import check
from unify.data.adapters.index import index_folder
from unify.data.adapters.stored import Damaged, DamagedIndex, Index
from unify.data.shards import Shards

FILES = ("index.json", "columns.npz", "records.jsonl", "a.tar", "b.tar")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two shards of pairs, questions and edits; in index.json `b.tar` comes last."""
    folder = tmp_path_factory.mktemp("stored") / "data"
    folder.mkdir()
    question = json.dumps({"question": "who?", "answer": "it"}).encode()
    tar(folder / "a.tar", [*pairs(3), ("00001.json", question)])
    tar(folder / "b.tar", edits(2))
    index_folder(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "data")


def everything(folder):
    """All records of the tasks that between them have every field."""
    source = Shards(str(folder), size=16, validation=0.3, test=0.3)
    return [
        [
            (
                record.key,
                {k: v if isinstance(v, str) else v.tobytes() for k, v in record.fields.items()},
            )
            for split in ("train", "validation", "test")
            for index in range(source.size(task, split))
            for record in [source.record(task, split, index)]
        ]
        for task in ("caption", "edit", "vqa")
    ]


@pytest.fixture(scope="module")
def records(whole):
    return everything(whole)


def damage(path, place, value, cut):
    """Change a byte, or cut the file there; False if nothing changed."""
    data = bytearray(path.read_bytes())
    place = int(place * len(data))
    if cut:
        path.write_bytes(data[:place])
        return True
    changed = data[place] != value
    data[place] = value
    path.write_bytes(data)
    return changed


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    cut=st.booleans(),
    older=st.booleans(),
)
def test_a_changed_byte_is_noticed_or_changes_no_record(
    whole, records, tmp_path_factory, name, place, value, cut, older
):
    folder = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(whole, folder)
    if older:
        make_older(folder)
    damage(folder / name, place, value, cut)
    with suppress(Damaged):
        assert everything(folder) == records
    shutil.rmtree(folder)


def swapped_hashes(columns):
    columns["hash"] = (2**32 - 1 - columns["hash"].astype(np.int64)).astype(np.uint32)


def fewer_rows(columns):
    for name in columns:
        columns[name] = columns[name][:-1]


def shifted_lines(columns):
    columns["start"] = np.roll(columns["start"], 1)


def without_turns(columns):
    del columns["turns"]


def as_texts(columns):
    columns["hash"] = columns["hash"].astype(str)


CHANGES = [swapped_hashes, fewer_rows, shifted_lines, without_turns, as_texts]


@pytest.mark.fault(17)
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_columns_of_another_index_are_refused_and_mended(folder, records, change, older):
    fingerprint = Shards(str(folder)).fingerprint()
    columns = make_older(folder) if older else dict(np.load(folder / "columns.npz"))
    change(columns)
    np.savez(folder / "columns.npz", **columns)
    with pytest.raises(Damaged, match=r"index of .* is damaged.*--repair"):
        everything(folder)
    with pytest.raises(DamagedIndex, match=r"columns\.npz changed"):
        check(folder)
    check(folder, repair=True)
    assert everything(folder) == records
    assert Shards(str(folder)).fingerprint() == fingerprint


PLACES = {
    "negative offset": {"offset": -512},
    "offset beyond the shard": {"offset": 1 << 40},
    "negative length": {"bytes": -5},
    "length of exabytes": {"bytes": 1 << 62},
    "length as a text": {"bytes": "5"},
    "no length": {"bytes": None},
    "another checksum": {"crc32": 1},
    "a shard that is not listed": {"shard": "../a.tar"},
    "a shard that is a list": {"shard": []},
}


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_none_is_damage_and_is_left_out_by_repair(folder, name):
    """The index is consistent with itself, as one that somebody else has written."""
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    row = json.loads(lines[0]) | PLACES[name]
    lines[0] = json.dumps(row).encode() + b"\n"
    (folder / "records.jsonl").write_bytes(b"".join(lines))
    fit_index(folder)
    source = Shards(str(folder), size=16, validation=0, test=0)
    with pytest.raises(Damaged):
        source.record("image", "train", 0)
    source.record("image", "train", 1)


@pytest.mark.parametrize("change", ["missing", "cut"])
def test_a_shard_that_is_missing_or_cut_is_named_on_opening(folder, change):
    data = (folder / "b.tar").read_bytes()
    (folder / "b.tar").unlink()
    if change == "cut":
        (folder / "b.tar").write_bytes(data[:-512])
    with pytest.raises(DamagedIndex, match=r"b\.tar: .*--repair"):
        Shards(str(folder))
    assert check(folder, repair=True).records >= 3


def test_an_older_index_is_read_and_repair_makes_it_a_newer_one(folder, records):
    make_older(folder)
    fingerprint = Shards(str(folder)).fingerprint()
    assert everything(folder) == records
    assert check(folder).ok
    assert json.loads((folder / "index.json").read_bytes())["format"] == "unify-shards-1"
    assert check(folder, repair=True).records == 5
    assert json.loads((folder / "index.json").read_bytes())["format"] == "unify-shards-2"
    assert everything(folder) == records
    assert Shards(str(folder)).fingerprint() == fingerprint


def test_an_index_of_nothing_has_no_tasks(tmp_path):
    tar(tmp_path / "x.tar", [("a.jpg", b"")])
    assert index_folder(tmp_path).records == 0
    source = Shards(str(tmp_path))
    assert (len(Index(tmp_path)), source.tasks) == (0, frozenset())


def test_records_are_found_in_every_block_of_an_index(tmp_path, monkeypatch):
    """Against lists of rows, which the index does not keep."""
    turns = json.dumps({"turns": [{"question": f"{i}", "answer": "a"} for i in range(3)]}).encode()
    members = pairs(40, size=(8, 8))
    members += [(f"{i:05d}.json", turns) for i in range(0, 40, 3)]
    tar(tmp_path / "x.tar", members)
    index_folder(tmp_path)
    monkeypatch.setattr("unify.data.shards.BLOCK", 8)
    source = Shards(str(tmp_path), size=8, validation=0.2, test=0.3)
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").open()]
    edges = {"validation": (0, 0.2), "test": (0.2, 0.5), "train": (0.5, 1)}
    for split, (low, high) in edges.items():
        inside = [row for row in rows if low <= row["hash"] / 2**32 < high]
        expected = [f"x/{row['key']}" for row in inside]
        count = source.size("caption", split)
        assert [source.record("caption", split, i).key for i in range(count)] == expected
        asked = [f"x/{row['key']}#{i}" for row in inside for i in range(len(row.get("turns", [])))]
        count = source.size("vqa", split)
        assert [source.record("vqa", split, i).key for i in range(count)] == asked
