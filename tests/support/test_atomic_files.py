"""Files are written whole or not at all."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path

import pytest

from unify.support.atomic_files import (
    DiskFull,
    is_full,
    replaced,
    sha256,
    write_atomically,
    write_together,
)


def test_a_file_is_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "file"
    for content, data in (("é", "é".encode()), (b"\x00\xff", b"\x00\xff")):
        write_atomically(path, content)
        assert path.read_bytes() == data
        assert sha256(path) == hashlib.sha256(data).hexdigest()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_after_a_failure_the_old_content_stays_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError) as caught:
        write_atomically(path, "new")
    assert is_full(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_from_other_errors_by_its_message():
    assert is_full(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64"))
    assert is_full(RuntimeError(f"cannot write: {os.strerror(errno.EDQUOT)}"))
    assert not is_full(OSError(errno.EACCES, os.strerror(errno.EACCES)))


@pytest.mark.fault(41)
@pytest.mark.parametrize("many", [1, 2])
def test_without_room_none_is_replaced_and_the_path_and_the_remedy_are_named(
    tmp_path, monkeypatch, many
):
    files = {tmp_path / str(n): "new" for n in range(many)}
    write_together(dict.fromkeys(files, "old"))
    wrote = Path.write_bytes

    def fill_up(self, data):
        if self.name.endswith(f"-{many - 1}"):  # the last
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return wrote(self, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(DiskFull, match="make room, and give the same command again") as full:
        write_together(files)
    assert str(tmp_path / str(many - 1)) in str(full.value)
    assert is_full(full.value)
    assert {path.read_text() for path in files} == {"old"}
    assert len(list(tmp_path.iterdir())) == many


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_of_the_umask_whatever_a_library_chose(tmp_path, mask):
    before = os.umask(mask)
    try:
        with replaced(tmp_path / "weights") as staging:
            staging.unlink()
            os.close(os.open(staging, os.O_CREAT | os.O_WRONLY, 0o600))
        write_atomically(tmp_path / "text", "x")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_a_library_that_fails_leaves_the_old_file_alone(tmp_path):
    write_atomically(tmp_path / "x", "old")
    with suppress(KeyError), replaced(tmp_path / "x") as staging:
        staging.write_text("half")
        raise KeyError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]
