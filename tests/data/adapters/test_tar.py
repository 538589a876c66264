"""Tar headers: damage is found wherever it is, and everything behind it is read."""

import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_shards import captions, pairs, picture, tar, verdicts

from unify.data.adapters.grouping import Sample
from unify.data.adapters.importer import import_images
from unify.data.adapters.index import index_folder
from unify.data.adapters.tar import Fault, samples, walk


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


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(tmp_path, format):
    names = ["a/" + "x" * 150 + ".jpg", "ünï/ç.jpg", "plain.jpg"]
    path = tar(tmp_path / "x.tar", [(name, b"1") for name in names], format)
    assert [item.name for item in walk(path)] == names


def huge(name, size, format):
    """A header and its place for a member of so many bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(format)


@pytest.mark.fault(18)
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [2 << 30, 60 << 30])
def test_a_member_of_many_gigabytes_costs_itself_alone(tmp_path, format, size):
    """Most of it is a hole, as in the file that the member was made of."""
    good = tar(tmp_path / "good", pairs(2)).read_bytes()
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(good[: next(iter(walk(tmp_path / "good"))).end])
        file.write(huge("big.png", size, format))
        file.seek(size, os.SEEK_CUR)
        file.write(good)
    assert import_images(tmp_path / "x.tar", tmp_path / "out").records >= 1
    assert ("big", "too_large") in verdicts(tmp_path / "out")
    assert "text 1" in captions(tmp_path / "out")


@pytest.mark.fault(17)
def test_a_header_is_found_behind_gigabytes_of_nothing(tmp_path):
    good = tar(tmp_path / "good", pairs(2)).read_bytes()
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(b"\x01" * 512)
        file.seek(20 << 30, os.SEEK_CUR)
        file.write(good)
    assert [s for s in samples(tmp_path / "x.tar") if not isinstance(s, Sample)]
    # The one beside the damage may lack a part.
    assert import_images(tmp_path / "x.tar", tmp_path / "out").records == 1


@pytest.mark.fault(18, times=2)
def test_a_member_with_holes_is_not_taken_for_the_file_that_it_was(tmp_path):
    info = tarfile.TarInfo("old.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    named = tarfile.TarInfo("GNUSparseFile.0/new.jpg")
    named.size, named.pax_headers = 3, {"GNU.sparse.major": "1", "GNU.sparse.name": "new.jpg"}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
        archive.addfile(named, io.BytesIO(b"abc"))
    assert {v.reason for v in samples(tmp_path / "x.tar")} == {"sparse_member"}


@pytest.mark.parametrize(
    "kind", [tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE]
)
def test_what_has_no_data_hides_none_of_the_next_member(tmp_path, kind):
    """Old archives state a size for folders and links, and nothing of it follows."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as file:
        for name, content in pairs(2):
            odd = tarfile.TarInfo("some")
            odd.type = kind
            file.addfile(odd)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 512):
        if data[at : at + 5] == b"some\0":
            data[at + 124 : at + 136] = b"00000004000\0"
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path.write_bytes(data)
    found = [item for item in samples(path) if isinstance(item, Sample)]
    assert len(found) == 2
    assert all({*item.parts} == {"image", "txt"} for item in found)


def test_a_compressed_archive_is_named_as_one(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"\x1f\x8b" + bytes(5000))
    (fault,) = walk(tmp_path / "x.tar")
    assert "gzip" in fault.detail


NAME = st.sampled_from(["a", "b", "c/a", ".a", "../a", "é", "a.b", "", "\u202ea", "__MACOSX/a"])
MEMBER = st.tuples(
    NAME,
    st.sampled_from([".jpg", ".png", ".source.jpg", ".txt", ".json", ".TXT", "", ".exe", ".tar"]),
    st.sampled_from([b"", b"text", b"{}", b"\xff", picture(0), picture(1, "PNG")]),
    st.sampled_from([b"0", b"0", b"0", b"1", b"2", b"3", b"6", b"7", b"S"]),
)


@settings(max_examples=200, deadline=None)
@given(members=st.lists(MEMBER, max_size=8), flips=st.lists(st.floats(0, 0.99), max_size=1))
def test_every_member_is_part_of_one_record_or_has_a_verdict(tmp_path_factory, members, flips):
    folder = tmp_path_factory.mktemp("members")
    with tarfile.open(folder / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, extension, data, kind in members:
            info = tarfile.TarInfo(name + extension or "none")
            info.type, info.size = kind, len(data) if kind in b"07" else 0
            archive.addfile(info, io.BytesIO(data))
    data = bytearray((folder / "x.tar").read_bytes())
    for place in flips:
        data[int(place * len(data))] ^= 0x55
    (folder / "x.tar").write_bytes(data)
    found = list(samples(folder / "x.tar"))
    parts = [p.name for s in found if isinstance(s, Sample) for p in s.parts.values()]
    walked = [item.name for item in walk(folder / "x.tar") if not isinstance(item, Fault)]
    named = [v.key for v in found if not isinstance(v, Sample)]
    doubtful = any(isinstance(item, Fault) for item in walk(folder / "x.tar"))
    assert doubtful or sorted(parts + named) == sorted(walked)
    report = index_folder(folder, pixels=False)
    left_out = len(verdicts(folder)) - len(named)
    assert report.records + left_out == sum(isinstance(item, Sample) for item in found)


@pytest.mark.fault(16, times=12)
def test_an_archive_that_ends_in_more_zeros_than_padding_has_a_verdict_and_loses_nothing(tmp_path):
    """As of a download into a file that had its size before; or of `tar -b` with large records."""
    whole = tar(tmp_path / "whole.tar", pairs(12)).read_bytes()
    end = [member.end for member in walk(tmp_path / "whole.tar")]
    for members in range(2, 25, 2):
        (tmp_path / "x.tar").write_bytes(whole[: end[members - 1]] + bytes(11_264))
        kept = [item for item in samples(tmp_path / "x.tar") if isinstance(item, Sample)]
        (verdict,) = (item for item in samples(tmp_path / "x.tar") if not isinstance(item, Sample))
        assert len(kept) == members // 2
        assert verdict.reason == "zeros_at_end"
        assert "was it fetched whole?" in verdict.detail


@pytest.mark.parametrize("last", range(0, 10_240, 512))
def test_what_tar_pads_is_no_fault(tmp_path, last):
    path = tar(tmp_path / "x.tar", [("a.bin", bytes(last or 1))])
    assert [item.name for item in walk(path)] == ["a.bin"]
