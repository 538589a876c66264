"""Shards: every bad input has one verdict, no sample is lost silently, later damage is named."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from unify.data.adapters.importer import check, import_images
from unify.data.adapters.index import Damaged, index_folder, samples
from unify.data.adapters.tar import Fault, walk
from unify.data.adapters.verdicts import MAX_TEXT, Bad, clean_text, judge
from unify.data.module import Data
from unify.data.shards import Shards


def picture(n=0, kind="JPEG", size=(20, 16), **options):
    pixels = np.random.default_rng(n).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(file, kind, **options)
    return file.getvalue()


def tar(path, members, format=tarfile.USTAR_FORMAT):
    """`members`: (name, bytes), or a TarInfo for what is not a plain file."""
    with tarfile.open(path, "w", format=format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def pairs(n, start=0, **options):
    out = []
    for i in range(start, start + n):
        out += [(f"{i:05d}.jpg", picture(i, **options)), (f"{i:05d}.txt", f"text {i}".encode())]
    return out


def verdicts(folder):
    lines = (folder / "verdicts.jsonl").read_text().splitlines()
    return [(v["key"], v["reason"]) for v in map(json.loads, lines)]


def captions(folder):
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture
def folder(tmp_path):
    """Two shards of 6 records."""
    out = tmp_path / "data"
    out.mkdir()
    tar(out / "shard-000000.tar", pairs(6))
    tar(out / "shard-000001.tar", pairs(6, start=6))
    index_folder(out)
    return out


# What a record is

CAPTIONS = {
    "missing": (None, "missing_caption"),
    "empty": (b"", "empty_caption"),
    "blank": (b" \n\t ", "empty_caption"),
    "only zero-width": ("\u200b\u200d".encode(), "empty_caption"),
    "latin-1": ("caf\xe9".encode("latin-1"), "non_utf8_caption"),
    "utf-16": ("cat".encode("utf-16"), "non_utf8_caption"),
    "surrogate": (b"\xed\xa0\xbd", "non_utf8_caption"),
    "cut in a character": ("é".encode()[:1], "non_utf8_caption"),
    "nul": (b"a\0b", "control_caption"),
    "a megabyte": (b"x" * 1_000_000, "long_caption"),
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", CAPTIONS)
def test_a_bad_caption_is_left_out_under_its_reason(name):
    data, reason = CAPTIONS[name]
    with pytest.raises(Bad) as caught:
        judge({"image": picture()} | ({} if data is None else {"txt": data}))
    assert caught.value.reason == reason


GOOD_CAPTIONS = {
    "emoji": "a 🐻‍❄️ and a 🏳️‍🌈",
    "right to left": "قطة على سجادة",
    "markup": "<script>alert(1)</script>",
    "a list": '["not", "parsed"]',
    "a number": "42",
    "as long as may be": "x" * MAX_TEXT,
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", GOOD_CAPTIONS)
def test_an_odd_caption_is_kept_as_it_is(name):
    text = GOOD_CAPTIONS[name]
    assert judge({"image": picture(), "txt": text.encode()})["text"] == text


@pytest.mark.fault(19)
def test_captions_are_normalised():
    assert clean_text("\ufeff cafe\u0301 \r\n".encode()) == "café"


METADATA = {
    "not json": (b"{", "bad_json"),
    "a list": (b"[1]", "bad_json"),
    "deep": (b"[" * 60_000, "bad_json"),
    "not utf-8": (b'{"a": "\xff"}', "bad_json"),
    "a megabyte": (b'"' + b"x" * 1_000_000 + b'"', "long_json"),
    "caption of a number": (b'{"caption": 3}', "bad_caption"),
    "caption of nothing": (b'{"caption": null}', "missing_caption"),
    "caption is a lone surrogate": (b'{"caption": "\\ud83d"}', "non_utf8_caption"),
    "question without answer": (b'{"question": "how many?"}', "bad_turns"),
    "empty answer": (b'{"question": "how many?", "answer": " "}', "empty_answer"),
    "turns of another shape": (b'{"turns": {"question": "a", "answer": "b"}}', "bad_turns"),
    "a turn that is a text": (b'{"turns": ["a"]}', "bad_turns"),
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", METADATA)
def test_bad_metadata_is_left_out_under_its_reason(name):
    data, reason = METADATA[name]
    with pytest.raises(Bad) as caught:
        judge({"image": picture(), "json": data})
    assert caught.value.reason == reason


# Archives


@pytest.mark.fault(16, times=120)
def test_a_cut_tar_is_detected_wherever_it_is_cut(tmp_path):
    whole = tar(tmp_path / "whole.tar", pairs(20)).read_bytes()
    end = max(member.end for member in walk(tmp_path / "whole.tar")) + 1024
    cut = tmp_path / "cut.tar"
    texts = {f"{i:05d}": f"text {i}".encode() for i in range(20)}
    for length in np.linspace(0, end - 1, 120).astype(int):
        cut.write_bytes(whole[:length])
        found, told = samples(cut)
        assert any(v.reason == "truncated_tar" for v in told)
        lost = {v.key for v in told}
        for sample in found:  # what is left is whole
            member = sample.parts["txt"]
            assert whole[member.offset :][: member.size] == texts[sample.key]
            assert sample.key not in lost


@pytest.mark.fault(17, times=40)
def test_a_damaged_header_is_detected_and_the_rest_is_read(tmp_path):
    path = tar(tmp_path / "x.tar", pairs(20))
    whole, members = path.read_bytes(), list(walk(path))
    rng = np.random.default_rng(0)
    for member in members:
        data = bytearray(whole)
        data[member.offset - 512 + int(rng.integers(500))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        found, told = samples(path)
        assert {v.reason for v in told} <= {"broken_header", "truncated_tar"}
        assert told
        assert len(found) >= 17
        assert all(set(sample.parts) == {"image", "txt"} for sample in found)


@pytest.mark.fault(17)
def test_a_wiped_header_is_not_the_end(tmp_path):
    path = tar(tmp_path / "x.tar", pairs(20))
    member = list(walk(path))[10]
    data = bytearray(path.read_bytes())
    data[member.offset - 512 : member.offset] = bytes(512)
    path.write_bytes(data)
    items = list(walk(path))
    assert sum(isinstance(item, Fault) for item in items) == 1
    assert len(items) == 40


NO_TARS = [
    pytest.param(content, marks=pytest.mark.fault(17))
    for content in (b"", b"<html>404</html>", b"\x1f\x8b" * 4000)
]


@pytest.mark.parametrize("content", [*NO_TARS, bytes(10240)])
def test_what_is_no_tar_lists_nothing_and_says_so(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    found, told = samples(tmp_path / "x.tar")
    assert found == []
    assert told or content == bytes(10240)  # an empty archive is one


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(tmp_path, format):
    names = ["a/" + "x" * 150 + ".jpg", "ünï/ç.jpg", "plain.jpg"]
    path = tar(tmp_path / "x.tar", [(name, b"1") for name in names], format)
    assert [item.name for item in walk(path)] == names


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
    told = dict(verdicts(out))
    assert len(told) == len(hostile) + 2
    assert told["../up.jpg"] == told["/abs.jpg"] == told["line\nbreak.jpg"] == "unsafe_name"
    assert told["link.jpg"] == told["fifo.jpg"] == "not_a_file"
    assert told["bomb.pickle"] == "unsupported_member"
    assert (told["lie"], told["meta"]) == ("unsupported_format", "bad_json")
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


# Reading


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


def edits(n):
    """Triples of a source, an instruction and what it made."""
    out = []
    for i in range(n):
        out += [(f"{i}.png", picture(i, "PNG")), (f"{i}.source.jpg", picture(100 + i // 2))]
        out += [(f"{i}.txt", f"do {i}".encode())]
    return out


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


@pytest.mark.fault(17)
def test_damage_to_a_source_is_found_named_and_left_out(tmp_path):
    path = tar(tmp_path / "x.tar", edits(3))
    index_folder(tmp_path)
    source = Shards(str(tmp_path), size=16, validation=0, test=0)
    data = bytearray(path.read_bytes())
    data[source.row(1)["source"]["offset"] + 250] ^= 1
    path.write_bytes(data)
    assert source.record("image", "train", 1).key == "x/1"
    with pytest.raises(Damaged, match=r"record 1 of .*x\.tar: its bytes changed"):
        source.record("edit", "train", 1)
    assert [v.key for v in check(tmp_path).damage] == ["", "1"]
    assert check(tmp_path, repair=True).records == 2
    assert Shards(str(tmp_path), validation=0, test=0).size("edit", "train") == 2


def test_an_index_from_before_edits_is_read(folder):
    with np.load(folder / "columns.npz") as columns:
        older = {name: columns[name] for name in columns if name != "edit"}
    np.savez(folder / "columns.npz", **older)
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
    told = r"00008 of .*shard-000001\.tar: .*unify data check .* --repair"
    with pytest.raises(Damaged, match=told):
        source.record("image", "train", 8)
    for workers in (0, 1):
        with pytest.raises(Damaged, match=told):
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


# Check and repair


def test_check_finds_nothing_where_nothing_changed(folder):
    report = check(folder)
    assert report.ok
    assert (report.records, report.shards) == (12, 2)
    assert report.lines() == [f"{folder}: 12 records in 2 shard(s)"]


@pytest.mark.fault(17)
def test_repair_leaves_damaged_records_out_for_good(folder):
    before = captions(folder)
    row = Shards(str(folder)).row(2)
    path = folder / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[row["offset"] + 250] ^= 1  # decodes still, to another picture
    path.write_bytes(data)
    report = check(folder)
    assert [(v.reason, v.key) for v in report.damage] == [
        ("changed_shard", ""),
        ("damaged_record", "00002"),
    ]
    assert any("damaged_record shard-000000.tar 00002" in line for line in report.lines())
    repaired = check(folder, repair=True)
    assert repaired.records == 11
    assert repaired.verdicts == {"damaged_record": 1}
    assert captions(folder) == before[:2] + before[3:]
    assert check(folder).ok
    assert check(folder, repair=True).records == 11


@pytest.mark.fault(16)
def test_repair_handles_shards_cut_lost_and_new(folder):
    path = folder / "shard-000000.tar"
    row = Shards(str(folder)).row(3)
    path.write_bytes(path.read_bytes()[: row["offset"] + 5])
    (folder / "shard-000001.tar").unlink()
    tar(folder / "shard-000002.tar", [*pairs(2, start=90), ("x.jpg", picture(9))])
    reasons = [v.reason for v in check(folder).damage]
    assert reasons.count("changed_shard") == 2
    assert reasons.count("unlisted_shard") == 1
    assert reasons.count("damaged_record") == 9
    check(folder, repair=True)
    assert captions(folder) == ["text 0", "text 1", "text 2", "text 90", "text 91"]
    assert ("x", "missing_caption") in verdicts(folder)
    assert check(folder).ok


def test_repair_builds_an_index_where_there_is_none(folder):
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match="has no index"):
        check(folder)
    assert check(folder, repair=True).records == 12


# Import

ROWS = [("a.jpg", "a cat"), ("sub/b.png", "a dog"), ("c.webp", "a cow")]


@pytest.fixture
def pictures(tmp_path):
    """Three good pictures of three formats, captions beside them."""
    base = tmp_path / "pictures"
    (base / "sub").mkdir(parents=True)
    for n, (name, text) in enumerate(ROWS):
        kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]
        (base / name).write_bytes(picture(n, kind))
        (base / name).with_suffix(".txt").write_text(text)
    return base


def write_source(kind, base):
    """The pictures as a source of each kind."""
    if kind == "folder":
        return base
    if kind == "csv":
        lines = "\n".join(f'{name},"{text}"' for name, text in ROWS)
        (base / "x.csv").write_text(f"file,caption\n{lines}\n")
    if kind == "tsv":  # as open_clip has it
        lines = "\n".join(f"{base / name}\t{text}" for name, text in ROWS)
        (base / "x.csv").write_text(f"filepath\ttitle\n{lines}\n")
        kind = "csv"
    if kind == "jsonl":
        rows = [json.dumps({"image": name, "text": text}) for name, text in ROWS]
        (base / "x.jsonl").write_text("\n".join(rows))
    if kind in ("tar", "tars"):
        members = []
        for name, text in ROWS:
            members += [(name, (base / name).read_bytes())]
            members += [(name.rpartition(".")[0] + ".txt", text.encode())]
        (base / "tars").mkdir()
        tar(base / "tars" / "0.tar", members[:4] if kind == "tars" else members)
        if kind == "tars":
            tar(base / "tars" / "1.tar", members[4:])
        return base / "tars" if kind == "tars" else base / "tars" / "0.tar"
    return base / f"x.{kind}"


@pytest.mark.parametrize("kind", ["folder", "csv", "tsv", "jsonl", "tar", "tars"])
def test_every_kind_of_source_gives_the_same_records(tmp_path, pictures, kind):
    report = import_images(write_source(kind, pictures), tmp_path / "out")
    assert report.ok
    assert (report.records, dict(report.verdicts)) == (3, {})
    source = Shards(str(tmp_path / "out"), size=16, validation=0, test=0)
    read = {source.row(n)["text"]: source.row(n) for n in range(3)}
    for n, (name, text) in enumerate(ROWS):
        assert (
            read[text]["hash"]
            == judge({"image": (pictures / name).read_bytes(), "txt": b"x"})["hash"]
        )
        assert (read[text]["height"], read[text]["width"]) == (16, 20), n
    assert check(tmp_path / "out").ok
    assert not list(tmp_path.glob(".*"))


def test_shards_are_ordinary_webdataset_tars(tmp_path, pictures):
    import webdataset

    import_images(pictures, tmp_path / "out")
    dataset = webdataset.WebDataset(str(tmp_path / "out" / "shard-000000.tar"), shardshuffle=False)
    found = {sample["__key__"]: sample for sample in dataset}
    assert set(found) == {"a", "sub_b", "c"}
    assert found["sub_b"]["txt"] == b"a dog"
    assert found["sub_b"]["png"] == (pictures / "sub/b.png").read_bytes()


def test_shards_are_cut_by_count_and_by_size_and_are_reproducible(tmp_path):
    source = tar(tmp_path / "x.tar", pairs(10))
    one = import_images(source, tmp_path / "one", per_shard=4)
    assert one.shards == 3
    import_images(source, tmp_path / "same", per_shard=4)
    assert (tmp_path / "one/index.json").read_bytes() == (tmp_path / "same/index.json").read_bytes()
    assert import_images(source, tmp_path / "small", shard_bytes=len(picture()) * 2).shards >= 5


def test_img2dataset_shards_are_read_unchanged(tmp_path):
    """Its layout: KEY.jpg, KEY.json with everything known, KEY.txt; a parquet and stats beside."""
    members = []
    for i in range(3):
        known = {
            "caption": f"text {i}",
            "url": "http://x",
            "key": f"00000000{i}",
            "status": "success",
        }
        known |= {"error_message": None, "width": 20, "height": 16, "exif": "{}", "sha256": "0"}
        members += [(f"00000000{i}.jpg", picture(i))]
        members += [(f"00000000{i}.json", json.dumps(known).encode())]
        members += [(f"00000000{i}.txt", known["caption"].encode())] if i else []
    before = tar(tmp_path / "00000.tar", members).read_bytes()
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    (tmp_path / "00000_stats.json").write_text("{}")
    assert check(tmp_path, repair=True).records == 3
    assert captions(tmp_path) == ["text 0", "text 1", "text 2"]
    assert (tmp_path / "00000.tar").read_bytes() == before


def test_questions_come_from_jsonl_and_folders(tmp_path, pictures):
    rows = [
        {"image": "a.jpg", "question": "what?", "answer": "a cat"},
        {"image": "a.jpg", "turns": [{"question": "who?", "answer": "it"}], "caption": "a cat"},
    ]
    (pictures / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import_images(pictures / "x.jsonl", tmp_path / "out")
    source = Shards(str(tmp_path / "out"), size=16, validation=0, test=0)
    assert (source.size("vqa", "train"), source.size("caption", "train")) == (2, 1)
    (pictures / "a.json").write_text(json.dumps(rows[0]))
    import_images(pictures, tmp_path / "more")
    assert Shards(str(tmp_path / "more"), validation=0, test=0).size("vqa", "train") == 1


@pytest.mark.parametrize("kind", ["folder", "csv", "jsonl", "tar"])
def test_edits_are_imported_from_every_kind_of_source(tmp_path, kind):
    import webdataset

    base = tmp_path / "edits"
    base.mkdir()
    for name, data in edits(3):
        (base / name).write_bytes(data)
    rows = [{"image": f"{i}.png", "source_image": f"{i}.source.jpg"} for i in range(3)]
    rows = [row | {"instruction": f"do {i}"} for i, row in enumerate(rows)]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (base / "x.csv").write_text("\n".join(lines))
    (base / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tar(base / "x.tar", edits(3))
    if kind == "folder":
        (base / "x.tar").unlink()
    report = import_images(base if kind == "folder" else base / f"x.{kind}", tmp_path / "out")
    assert (report.records, dict(report.verdicts)) == (3, {})
    source = Shards(str(tmp_path / "out"), size=16, validation=0, test=0)
    told = [source.record("edit", "train", i).fields["instruction"] for i in range(3)]
    assert told == ["do 0", "do 1", "do 2"]
    assert check(tmp_path / "out").ok
    shard = tmp_path / "out" / "shard-000000.tar"
    first = next(iter(webdataset.WebDataset(str(shard), shardshuffle=False)))
    assert first["__key__"] == "0"
    assert first["png"] == picture(0, "PNG")
    assert first["source.jpg"] == picture(100)
    assert first["txt"] == b"do 0"


@pytest.mark.fault(19, times=5)
def test_incomplete_edits_of_folders_and_tables_get_a_verdict_each(tmp_path):
    base = tmp_path / "edits"
    base.mkdir()
    for name, data in [*edits(2), ("lone.source.jpg", picture(5)), ("0.source.png", picture(6))]:
        (base / name).write_bytes(data)
    report = import_images(base, tmp_path / "one")
    assert (report.records, report.verdicts) == (2, {"missing_image": 1, "duplicate_key": 1})
    rows = [
        "image,source_image,instruction",
        "0.png,0.source.jpg,do",
        "0.png,,do",
        "0.png,gone.jpg,do",
        "0.png,0.source.jpg,",
    ]
    (base / "x.csv").write_text("\n".join(rows))
    report = import_images(base / "x.csv", tmp_path / "two")
    assert (report.records, report.verdicts) == (1, {"missing_source": 2, "empty_instruction": 1})


@pytest.mark.fault(20, times=12)
def test_bad_rows_get_a_verdict_each(tmp_path, pictures):
    rows = [
        '{"image": "a.jpg", "caption": "good"}',
        '{"image": "gone.jpg", "caption": "text"}',
        '{"image": "http://host/a.jpg", "caption": "text"}',
        '{"image": "nul\\u0000.jpg", "caption": "text"}',
        '{"image": 7, "caption": "text"}',
        '{"image": "a.jpg", "caption": null}',
        '{"image": "a.jpg", "caption": 3}',
        '{"image": "a.jpg", "caption": "\\ud800"}',
        '{"image": "a.jpg", "caption": " "}',
        '{"image": "a.txt", "caption": "a text as a picture"}',
        '{"image": "sub", "caption": "a folder as a picture"}',
        "not json",
        "[]",
    ]
    (pictures / "x.jsonl").write_text("\n".join(rows))
    report = import_images(pictures / "x.jsonl", tmp_path / "out")
    assert report.records == 1
    told = [json.loads(line) for line in (tmp_path / "out/verdicts.jsonl").read_text().splitlines()]
    assert [(v["shard"].removeprefix("x.jsonl:"), v["reason"]) for v in told] == [
        ("2", "missing_image"),
        ("3", "missing_image"),
        ("4", "missing_image"),
        ("5", "missing_image"),
        ("6", "missing_caption"),
        ("7", "bad_caption"),
        ("8", "non_utf8_caption"),
        ("9", "empty_caption"),
        ("10", "unsupported_format"),
        ("11", "missing_image"),
        ("12", "bad_json"),
        ("13", "bad_json"),
    ]
    assert "  left out, missing_image: 5" in report.lines()


@pytest.mark.fault(19, times=2)
def test_a_csv_that_is_not_utf8_loses_only_those_rows(tmp_path, pictures):
    (pictures / "x.csv").write_bytes(b"image,caption\na.jpg,caf\xe9\nc.webp,good\na.jpg\n")
    report = import_images(pictures / "x.csv", tmp_path / "out")
    assert captions(tmp_path / "out") == ["good"]
    assert report.verdicts == {"non_utf8_caption": 1, "missing_caption": 1}


def test_columns_can_be_named(tmp_path, pictures):
    (pictures / "x.csv").write_text("where,what\na.jpg,a cat\n")
    with pytest.raises(ValueError, match=r"no column image or .*; it has where, what.*--image"):
        import_images(pictures / "x.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report = import_images(pictures / "x.csv", tmp_path / "out", image="where", text="what")
    assert report.records == 1


def test_import_overwrites_nothing_and_leaves_nothing_half_done(tmp_path, pictures):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(ValueError, match="out is not empty"):
        import_images(pictures, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
    with pytest.raises(ValueError, match="does not exist"):
        import_images(tmp_path / "nowhere", tmp_path / "new")
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="is none of"):
        import_images(tmp_path / "x.zip", tmp_path / "new")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no usable image"):
        import_images(tmp_path / "empty", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))
