"""The index of tar shards: one verdict a sample, nothing lost silently, nothing executed."""

import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tar_shards import captions, edits, pairs, picture, tar, verdicts

from unify.data.adapters.damage import check
from unify.data.adapters.grouping import Sample
from unify.data.adapters.index import index_folder
from unify.data.adapters.tar import samples, walk
from unify.data.shards import Shards
from unify.support.stop_protocol import PlainError


def split(items):
    """Samples and verdicts apart."""
    items = list(items)
    kept = [item for item in items if isinstance(item, Sample)]
    return kept, [item for item in items if not isinstance(item, Sample)]


@pytest.mark.fault(16, examples=120)
def test_a_cut_tar_is_detected_wherever_it_is_cut(tmp_path):
    whole = tar(tmp_path / "whole.tar", pairs(20)).read_bytes()
    end = max(member.end for member in walk(tmp_path / "whole.tar")) + 1024
    cut = tmp_path / "cut.tar"
    texts = {f"{i:05d}": f"text {i}".encode() for i in range(20)}
    for length in np.linspace(0, end - 1, 120).astype(int):
        cut.write_bytes(whole[:length])
        kept, refused = split(samples(cut))
        assert any(v.reason == "truncated_tar" for v in refused)
        lost = {v.key for v in refused}
        for sample in kept:  # what is left is whole
            member = sample.parts["txt"]
            assert whole[member.offset :][: member.size] == texts[sample.key]
            assert sample.key not in lost


@pytest.mark.fault(17, examples=40)
def test_a_damaged_header_is_detected_and_the_rest_is_read(tmp_path):
    path = tar(tmp_path / "x.tar", pairs(20))
    whole, members = path.read_bytes(), list(walk(path))
    rng = np.random.default_rng(0)
    for member in members:
        data = bytearray(whole)
        data[member.offset - 512 + int(rng.integers(500))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        kept, refused = split(samples(path))
        assert {v.reason for v in refused} <= {"broken_header", "truncated_tar"}
        assert refused
        assert len(kept) >= 17
        assert all(set(sample.parts) == {"image", "txt"} for sample in kept)


NO_TARS = [
    pytest.param(content, marks=pytest.mark.fault(17))
    for content in (b"", b"<html>404</html>", b"\x1f\x8b" * 4000)
]


@pytest.mark.parametrize("content", [*NO_TARS, bytes(10240)])
def test_what_is_no_tar_lists_nothing_and_says_so(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    kept, refused = split(samples(tmp_path / "x.tar"))
    assert kept == []
    assert refused or content == bytes(10240)  # an empty archive is one


def link(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.fault(29, times=22)
def test_hostile_members_get_a_verdict_and_nothing_runs(tmp_path):
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    out = tmp_path / "data"
    out.mkdir()
    hostile = [
        ("../up.jpg", picture()),
        ("/abs.jpg", picture()),
        ("a/../../b.jpg", picture()),
        ("back\\slash.jpg", picture()),
        ("line\nbreak.jpg", picture()),
        (".jpg", picture()),
        link("link.jpg", tarfile.SYMTYPE),
        link("hard.jpg", tarfile.LNKTYPE),
        link("fifo.jpg", tarfile.FIFOTYPE),
        link("device.jpg", tarfile.CHRTYPE),
        *[(f"bomb.{e}", bomb) for e in ("pyd", "pickle", "pkl", "pth", "npy", "tar", "py")],
        ("script.JPG.exe", b"MZ"),
        ("no_extension", b"?"),
    ]
    # An extension that lies: bombs in the place of texts and images.
    lies = [("lie.jpg", bomb), ("lie.txt", b"text"), ("meta.jpg", picture()), ("meta.json", bomb)]
    pipe = [("pipe:touch canary.jpg", picture(50)), ("pipe:touch canary.txt", b"a name")]
    tar(out / "x.tar", pairs(2) + hostile + lies + pipe)
    report = index_folder(out)
    assert report.records == 3
    reasons = dict(verdicts(out))
    assert len(reasons) == len(hostile) + 2
    assert (
        reasons["../up.jpg"] == reasons["/abs.jpg"] == reasons["line\nbreak.jpg"] == "unsafe_name"
    )
    assert reasons["link.jpg"] == reasons["fifo.jpg"] == "not_a_file"
    assert reasons["bomb.pickle"] == "unsupported_member"
    assert (reasons["lie"], reasons["meta"]) == ("unsupported_format", "bad_json")
    source = Shards(str(out), size=16, validation=0, test=0)
    assert [source.record("caption", "train", i).fields["caption"] for i in range(3)]
    assert not canary.exists()
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "columns.npz", "index.json", "records.jsonl", "verdicts.jsonl", "x.tar"
    ]  # fmt: skip


@pytest.mark.fault(19, times=6)
def test_an_odd_shard_gets_one_verdict_per_record(tmp_path):
    members = [
        *pairs(2),
        ("dup.jpg", picture(1)), ("dup.jpg", picture(2)), ("dup.txt", b"first"),
        ("both.jpg", picture(3)), ("both.png", picture(3, "PNG")), ("both.txt", b"two pictures"),
        ("UPPER.JPG", picture(4)), ("UPPER.TXT", b"upper"),
        ("far.jpg", picture(5)), ("b.c.d.jpg", picture(6)), ("b.c.d.txt", b"dots"),
        ("far.txt", b"not adjacent"),
        ("noimage.txt", b"text"), ("nocaption.jpg", picture(7)),
        ("gif.gif", picture(8, "GIF")), ("gif.txt", b"text"),
        ("cut.jpg", picture(9)[:300]), ("cut.txt", b"text"),
    ]  # fmt: skip
    tar(tmp_path / "x.tar", members)
    report = index_folder(tmp_path)
    assert sorted(captions(tmp_path)) == sorted(
        ["text 0", "text 1", "first", "two pictures", "upper", "not adjacent", "dots"]
    )
    assert sorted(verdicts(tmp_path)) == [
        ("both.png", "duplicate_key"),
        ("cut", "corrupt_image"),
        ("dup.jpg", "duplicate_key"),
        ("gif", "unsupported_format"),
        ("nocaption", "missing_caption"),
        ("noimage", "missing_image"),
    ]
    assert report.verdicts == json.loads((tmp_path / "index.json").read_bytes())["left_out"]


@pytest.mark.fault(19, times=7)
def test_an_edit_that_lacks_a_part_has_one_verdict(tmp_path):
    instruction = b'{"instruction": "do it"}'
    members = [
        *edits(1),
        ("json.jpg", picture(1)), ("json.source.webp", picture(2, "WEBP")),
        ("json.json", instruction),
        ("no_target.source.jpg", picture(3)), ("no_target.txt", b"do"),
        ("no_text.jpg", picture(4)), ("no_text.source.jpg", picture(5)),
        ("no_source.jpg", picture(6)), ("no_source.json", instruction),
        ("cut.jpg", picture(7)), ("cut.source.jpg", picture(8)[:300]), ("cut.txt", b"do"),
        ("blank.jpg", picture(7)), ("blank.source.jpg", picture(8)), ("blank.txt", b" "),
        ("number.jpg", picture(7)), ("number.source.jpg", picture(8)),
        ("number.json", b'{"instruction": 3}'),
        ("two.jpg", picture(9)), ("two.source.jpg", picture(10)),
        ("two.source.png", picture(11, "PNG")), ("two.txt", b"do"),
        ("more.jpg", picture(12)), ("more.txt", b"a cat"), ("more.json", instruction),
    ]  # fmt: skip
    tar(tmp_path / "x.tar", members)
    assert index_folder(tmp_path).records == 4
    assert sorted(verdicts(tmp_path)) == [
        ("blank", "empty_instruction"),
        ("cut", "corrupt_image"),
        ("no_source", "missing_source"),
        ("no_target", "missing_image"),
        ("no_text", "missing_instruction"),
        ("number", "bad_instruction"),
        ("two.source.png", "duplicate_key"),
    ]
    source = Shards(str(tmp_path), size=16, validation=0, test=0)
    records = [source.record("edit", "train", i) for i in range(source.size("edit", "train"))]
    assert [record.key for record in records] == ["x/0", "x/json", "x/two"]
    assert source.record("caption", "train", 0).key == "x/more"


class Killed(BaseException):
    """Stands for SIGKILL."""


def damaged_shards(folder):
    """Two indexed shards; a picture of the first was changed since, and still decodes."""
    folder.mkdir()
    tar(folder / "a.tar", pairs(3))
    tar(folder / "b.tar", pairs(3, start=3))
    index_folder(folder)
    data = bytearray((folder / "a.tar").read_bytes())
    row = json.loads((folder / "records.jsonl").read_text().splitlines()[0])
    at = row["offset"] + row["bytes"] - 30
    data[at] ^= 1
    (folder / "a.tar").write_bytes(data)


@pytest.mark.parametrize("at", range(5))
def test_a_repair_that_is_killed_takes_no_damaged_record_back(tmp_path, monkeypatch, at):
    folder = tmp_path / "shards"
    damaged_shards(folder)
    real, calls = Path.replace, []

    def replace(path, target):
        if len(calls) == at:
            raise Killed
        calls.append(path)
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        if at < 4:
            with pytest.raises(Killed):
                check(folder, repair=True)
        else:
            check(folder, repair=True)
    assert (folder / "index.json").is_file()
    assert check(folder, repair=True).records == 5
    assert verdicts(folder) == [("00000", "damaged_record")]
    assert check(folder).ok
    assert not list(folder.glob(".*"))


def test_two_repairs_of_one_folder_are_one_too_many(tmp_path, monkeypatch):
    from unify.data.adapters import damage

    folder = tmp_path / "shards"
    damaged_shards(folder)
    real = damage.read_image

    def read_image(*arguments):
        with pytest.raises(PlainError, match="another process is repairing"):
            check(folder, repair=True)
        return real(*arguments)

    monkeypatch.setattr(damage, "read_image", read_image)
    assert check(folder, repair=True).records == 5
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"digest": 1}', b"[" * 9999])
def test_what_is_left_of_an_index_that_is_not_whole_is_removed(tmp_path, content):
    folder = tmp_path / "shards"
    damaged_shards(folder)
    (folder / ".index.json.partial").write_bytes(content)
    assert check(folder, repair=True).records == 5
    assert not list(folder.glob(".*"))
