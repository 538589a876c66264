"""Folders as they are found: what is no picture costs itself alone, and nothing is waited for."""

import json
import os
import socket

import pytest
from tar_shards import captions, origins, pairs, picture, tar

from unify.data.adapters.folder import Listing
from unify.data.adapters.images import MAX_BYTES
from unify.data.adapters.importer import import_images
from unify.data.adapters.index import index_folder


@pytest.fixture
def base(tmp_path):
    """One good picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(picture())
    (folder / "good.txt").write_text("good")
    return folder


def imported(base):
    """((where, reason) of each verdict in order, the report)."""
    out = base.parent / "out"
    report = import_images(base, out)
    assert "good" in captions(out)
    lines = (out / "verdicts.jsonl").read_text().splitlines()
    return [(v["shard"], v["reason"]) for v in map(json.loads, lines)], report


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def pipe(path):
    os.mkfifo(path)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


ODD_FILES = {
    "a pipe": (pipe, "not_a_file"),
    "a socket": (unix_socket, "not_a_file"),
    "a device without end": (lambda p: p.symlink_to("/dev/zero"), "not_a_file"),
    "a link to itself": (lambda p: p.symlink_to(p), "unreadable"),
    "a link to nothing": (lambda p: p.symlink_to("nothing"), "unreadable"),
    "60 GiB of nothing": (lambda p: sparse(p, 60 << 30), "too_large"),
    "100 MiB of nothing": (lambda p: sparse(p, 100 << 20), "unsupported_format"),
    "an empty file": (lambda p: p.write_bytes(b""), "empty_image"),
    "a link to a folder": (lambda p: p.symlink_to(".."), "linked_folder"),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("name", ODD_FILES)
def test_what_is_named_like_a_picture_and_is_none_has_one_verdict(base, monkeypatch, name):
    make, reason = ODD_FILES[name]
    monkeypatch.chdir(base)  # names of sockets are short
    make(base.joinpath("odd.jpg").relative_to(base) if name == "a socket" else base / "odd.jpg")
    (base / "odd.txt").write_text("odd")
    bad, report = imported(base)
    assert ("odd.jpg", reason) in bad
    assert report.records == 1
    assert {where for where, _ in bad} <= {"odd.jpg", "odd.txt"}  # its caption has no picture now


def test_a_link_to_a_file_is_read_and_a_text_of_gigabytes_is_not(base):
    (base / "store").mkdir()
    (base / "store" / "blob").write_bytes(picture(1))
    (base / "link.jpg").symlink_to("store/blob")
    (base / "link.txt").write_text("linked")
    (base / "long.jpg").write_bytes(picture(2))
    sparse(base / "long.txt", 10 << 30)
    bad, report = imported(base)
    assert bad == [("long.jpg", "long_caption")]
    assert report.records == 2


HIDDEN = [".ipynb_checkpoints", "__MACOSX", ".git", ".cache/deep", "@eaDir"]


@pytest.mark.fault(18, times=len(HIDDEN) + 3)
def test_what_programs_leave_is_no_data_and_has_one_verdict(base):
    for name in HIDDEN:
        (base / name).mkdir(parents=True)
        (base / name / "a.jpg").write_bytes(picture(1))
        (base / name / "a.txt").write_text("stale")
    for name in ("._good.jpg", "Thumbs.db", ".hidden.jpg"):
        (base / name).write_bytes(picture(2))
    (base / "notes.md").write_text("")
    (base / "LICENSE").write_text("")
    bad, report = imported(base)
    tops = {name.partition("/")[0] for name in HIDDEN} | {"._good.jpg", "Thumbs.db", ".hidden.jpg"}
    assert sorted(bad) == sorted((name, "hidden") for name in tops)
    assert "skipped, no part of a sample: .md 1, without extension 1" in report.notes
    members = [(f"{name}/a.jpg", picture(1)) for name in HIDDEN] + [("._00000.jpg", picture(1))]
    tar(base.parent / "x.tar", [*pairs(1), *members])
    report = import_images(base.parent / "x.tar", base.parent / "from_tar")
    assert (report.records, report.verdicts) == (1, {"hidden": len(members)})


def test_pictures_that_share_a_caption_are_one_sample_as_in_a_tar(base):
    (base / "good.png").write_bytes(picture(1, "PNG"))
    (base / "Upper.JPG").write_bytes(picture(2))
    (base / "Upper.TXT").write_text("upper")
    (base / "alone.txt").write_text("no picture")
    bad, report = imported(base)
    assert sorted(bad) == [("alone.txt", "missing_image"), ("good.png", "duplicate_key")]
    assert report.records == 2
    assert origins(base.parent) == {"good": "good.jpg", "Upper": "Upper.JPG"}


@pytest.mark.parametrize("size", [70_000, 3_000_000])
def test_metadata_that_is_long_costs_no_record_that_has_a_text(base, size):
    (base / "good.json").write_text(json.dumps({"exif": "x" * size}))
    bad, report = imported(base)
    assert bad == ([("good.jpg", "long_json")] if size > 1_000_000 else [])
    assert report.records == 1
    members = [*pairs(1), ("00000.json", (base / "good.json").read_bytes())]
    (base.parent / "tars").mkdir()
    tar(base.parent / "tars" / "x.tar", members)
    assert index_folder(base.parent / "tars").records == 1


def test_tars_in_folders_below_are_found_unless_there_are_pictures(base):
    (base / "part" / "deep").mkdir(parents=True)
    tar(base / "part" / "deep" / "0.tar", pairs(2))
    (base / "part" / "._0.tar").write_bytes(b"left by a program")
    bad, report = imported(base)
    assert bad == [("part/._0.tar", "hidden")]
    assert "skipped, no part of a sample: .tar 1" in report.notes
    (base / "good.jpg").unlink()
    report = import_images(base, base.parent / "tars")
    assert report.records == 2
    assert "skipped, no part of a sample: txt beside .tar 1" in report.notes
    assert set(origins(base.parent / "tars").values()) == {"part/deep/0.tar"}


def test_a_tar_that_is_a_pipe_or_cut_costs_itself_alone(base):
    for path in base.iterdir():
        path.unlink()
    tar(base / "0.tar", [("good.jpg", picture()), ("good.txt", b"good"), *pairs(2)])
    os.mkfifo(base / "1.tar")
    whole = tar(base / "2.tar", pairs(4, start=10)).read_bytes()
    (base / "2.tar").write_bytes(whole[: len(whole) // 2])
    bad, report = imported(base)
    assert ("1.tar", "not_a_file") in bad
    assert ("2.tar", "truncated_tar") in bad
    assert report.records >= 4


def test_files_come_in_the_order_in_which_paths_sort(base):
    names = ["a.jpg", "a/x.jpg", "a.b.jpg", "a-b/y.jpg", "Z.jpg", "é.jpg", "z.jpg"]
    for name in names:
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_bytes(picture())
    expected = sorted(path.relative_to(base) for path in base.rglob("*.jpg"))
    assert list(Listing(base).names("image")) == [str(path) for path in expected]


def test_a_name_that_is_no_text_is_read(base):
    name = os.fsencode(base) + b"/caf\xe9.jpg"
    with open(name, "wb") as file:
        file.write(picture(3))
    with open(name[:-3] + b"txt", "w") as file:
        file.write("odd name")
    assert imported(base)[1].records == 2


def test_the_limit_of_a_picture_is_above_every_picture_that_is_read():
    assert MAX_BYTES > 64_000_000 * 4 * 2
