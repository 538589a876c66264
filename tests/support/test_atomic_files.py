"""Files are written whole or not at all."""

import errno
import hashlib
import os

import pytest

from unify.support.atomic_files import is_full, sha256, write_atomically


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
