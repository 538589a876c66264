"""An import that was killed goes on, and ends with the bytes of one that was not."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_shards import pairs, picture, tar

from unify.data.adapters.importer import import_images, write_shards
from unify.data.adapters.inputs import Input, Note
from unify.data.adapters.sources import opened
from unify.data.adapters.tables import TableOptions
from unify.data.adapters.verdicts import Verdict
from unify.support.stop_protocol import PlainError


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs but the closing of files."""


PICTURES = [picture(n) for n in range(3)]


def items(count=14):
    """Good samples, two of which want one key, bad ones, and verdicts."""
    yield Note("of nothing but numbers")
    for n in range(count):
        if n % 7 == 3:
            yield Verdict("there", f"{n}", "hidden")
        text = b"" if n % 5 == 2 else f"text {n}".encode()
        yield Input(f"from {n}", f"key {n // 2}", {"image": PICTURES[n % 3], "txt": text})


def killed_after(count):
    for n, item in enumerate(items()):
        if n == count:
            raise Killed
        yield item


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def memory():
    """A folder where waiting for the disk costs nothing, if there is one."""
    with tempfile.TemporaryDirectory(dir=SHARED if os.access(SHARED, os.W_OK) else None) as name:
        yield Path(name)


SHARED = "/dev/shm"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    write_shards(items(), out, per_shard=3)
    return files(out)


@settings(max_examples=60, deadline=None)
@given(kills=st.lists(st.integers(0, 16), min_size=1, max_size=2))
def test_an_import_that_is_killed_anywhere_ends_with_equal_bytes(memory, whole, kills):
    out = memory / "out"
    for count in kills:
        try:
            write_shards(killed_after(count), out, per_shard=3)
        except Killed:
            assert not out.exists()
    report = write_shards(items(), out, per_shard=3)
    assert files(out) == whole
    assert report.records == 11
    assert not list(out.parent.glob(".*"))
    shutil.rmtree(out)


@pytest.mark.fault(7)
def test_after_a_real_sigkill_the_rest_is_read_and_no_more(tmp_path, whole):
    read = tmp_path / "read"
    read.mkdir()

    def counted(kill_at):
        for n, item in enumerate(items()):
            if n == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    child = os.fork()
    if child == 0:
        try:
            write_shards(counted(kill_at=15), tmp_path / "out", per_shard=3)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    before = (tmp_path / ".out.partial/data/shard-000001.tar").stat()
    write_shards(items(), tmp_path / "out", per_shard=3)
    assert files(tmp_path / "out") == whole
    after = (tmp_path / "out/shard-000001.tar").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("moment", ["index.json", "out"])
def test_an_import_killed_while_it_takes_its_name_is_whole(tmp_path, whole, monkeypatch, moment):
    def dies(kind):
        real = getattr(Path, kind)

        def call(path, target):
            if Path(target).name == moment:
                raise Killed
            return real(path, target)

        return call

    with monkeypatch.context() as patch:
        for kind in ("replace", "rename"):
            patch.setattr(Path, kind, dies(kind))
        with pytest.raises(Killed):
            write_shards(items(), tmp_path / "out", per_shard=3)
    assert not (tmp_path / "out").exists()
    assert write_shards(items(), tmp_path / "out", per_shard=3).records == 11
    assert files(tmp_path / "out") == whole
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("how", ["gone", "cut"])
@pytest.mark.parametrize("name", ["shard-000001.tar", "origins.jsonl", ".records.jsonl.partial"])
def test_what_an_import_wrote_and_is_not_there_is_named(tmp_path, whole, name, how):
    with pytest.raises(Killed):
        write_shards(killed_after(15), tmp_path / "out", per_shard=3)
    path = tmp_path / ".out.partial/data" / name
    path.unlink() if how == "gone" else os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(PlainError, match=r"is gone or not what was written: remove .*partial"):
        write_shards(items(), tmp_path / "out", per_shard=3)
    shutil.rmtree(tmp_path / ".out.partial")
    write_shards(items(), tmp_path / "out", per_shard=3)
    assert files(tmp_path / "out") == whole


def test_pictures_that_were_changed_in_between_begin_an_import_anew(tmp_path):
    def digest():
        return opened(tmp_path / "source", TableOptions())[1]

    (tmp_path / "source").mkdir()
    for name, content in (("a.png", picture(1)), ("a.txt", b"one")):
        (tmp_path / "source" / name).write_bytes(content)
    before = digest()
    assert digest() == before
    (tmp_path / "source" / "a.txt").write_bytes(b"two")  # of as many bytes
    os.utime(tmp_path / "source" / "a.txt", ns=(1, 1))
    assert digest() != before


def test_an_import_of_other_settings_or_of_a_changed_source_begins_anew(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    tar(source / "x.tar", pairs(9))
    for change in ("settings", "source"):
        with pytest.raises(Killed):
            write_shards(killed_after(13), tmp_path / "out", per_shard=3, settings=change)
        if change == "source":
            tar(source / "x.tar", pairs(12))
        report = import_images(source, tmp_path / "out", per_shard=5)
        assert report.records == (9 if change == "settings" else 12)
        for path in (tmp_path / "out").iterdir():
            path.unlink()


def test_two_imports_into_one_folder_are_one_too_many(tmp_path):
    def second():
        yield from items(3)
        write_shards(items(), tmp_path / "out")

    with pytest.raises(PlainError, match="another process is importing into"):
        write_shards(second(), tmp_path / "out")
    assert write_shards(items(), tmp_path / "out").records == 11


def test_a_disk_that_fails_keeps_what_was_written_and_says_so(tmp_path, whole):
    def failing():
        yield from list(items())[:12]
        raise OSError(28, "No space left on device")

    with pytest.raises(PlainError, match=r"No space left.*goes on from.*\.out\.partial"):
        write_shards(failing(), tmp_path / "out", per_shard=3)
    assert list((tmp_path / ".out.partial/data").glob("*.tar"))
    write_shards(items(), tmp_path / "out", per_shard=3)
    assert files(tmp_path / "out") == whole


def test_workers_change_nothing(tmp_path, whole):
    report = write_shards(items(), tmp_path / "out", per_shard=3, workers=2)
    assert report.records == 11
    assert files(tmp_path / "out") == whole


def test_the_index_of_an_import_is_that_of_its_shards(tmp_path, whole):
    from unify.data.adapters.index import index_folder

    write_shards(items(), tmp_path / "out", per_shard=3)
    (tmp_path / "out" / "index.json").unlink()
    index_folder(tmp_path / "out", pixels=False)
    again = files(tmp_path / "out")
    assert again["records.jsonl"] == whole["records.jsonl"]
    assert again["columns.npz"] == whole["columns.npz"]
