"""Tar headers: damage is found wherever it is, and everything behind it is read."""

import tarfile

import pytest
from tar_shards import pairs, tar

from unify.data.adapters.tar import Fault, walk


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
