"""Import, check and repair of data sets."""

import json

import pytest
from tar_shards import captions, edits, pairs, picture, tar, verdicts

from unify.data.adapters.importer import check, import_images
from unify.data.adapters.index import index_folder
from unify.data.adapters.stored import Damaged
from unify.data.adapters.verdicts import judge
from unify.data.shards import Shards


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
    samples = {sample["__key__"]: sample for sample in dataset}
    assert set(samples) == {"a", "sub_b", "c"}
    assert samples["sub_b"]["txt"] == b"a dog"
    assert samples["sub_b"]["png"] == (pictures / "sub/b.png").read_bytes()


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
        facts = {
            "caption": f"text {i}",
            "url": "http://x",
            "key": f"00000000{i}",
            "status": "success",
        }
        facts |= {"error_message": None, "width": 20, "height": 16, "exif": "{}", "sha256": "0"}
        members += [(f"00000000{i}.jpg", picture(i))]
        members += [(f"00000000{i}.json", json.dumps(facts).encode())]
        members += [(f"00000000{i}.txt", facts["caption"].encode())] if i else []
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
    instructions = [source.record("edit", "train", i).fields["instruction"] for i in range(3)]
    assert instructions == ["do 0", "do 1", "do 2"]
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
    refused = [
        json.loads(line) for line in (tmp_path / "out/verdicts.jsonl").read_text().splitlines()
    ]
    assert [(v["shard"].removeprefix("x.jsonl:"), v["reason"]) for v in refused] == [
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
