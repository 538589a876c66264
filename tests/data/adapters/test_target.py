"""Where an import writes: what is another's is named and left as it is, before anything is read."""

import os

import pytest
from tar_shards import pairs, picture, tar

from unify.data.adapters.importer import import_images, write_shards
from unify.data.adapters.inputs import Input
from unify.data.adapters.target import check_target, locked, staging
from unify.support.stop_protocol import PlainError


def items():
    yield Input("there", "a", {"image": picture(), "txt": b"a text"})


def never():
    raise AssertionError("the source was read")
    yield


def tree(folder):
    """Everything below a folder, with its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (path.is_symlink(), content)
    return found


def a_note(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")


def a_data_folder(folder):
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "x.tar").write_text("precious")


def another_database(folder):
    import sqlite3

    folder.mkdir()
    with sqlite3.connect(folder / "state.sqlite") as data:
        data.execute("CREATE TABLE mine (n)")
    data.close()


def a_lock_with_a_text(folder):
    folder.mkdir()
    (folder / "lock").write_text("precious")


def a_file(folder):
    folder.write_text("precious")


def a_link(folder):
    a_note(folder.with_name("theirs"))
    folder.symlink_to("theirs")


def a_link_into_nothing(folder):
    folder.symlink_to("nothing")


def a_linked_lock(folder):
    folder.mkdir()
    folder.with_name("theirs").write_text("")
    (folder / "lock").symlink_to("../theirs")


def unfinished(folder):
    """What an import that was ended leaves; returns nothing."""

    def ends():
        yield from items()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(ends(), folder.with_name("out"))


def ours_with_a_note(folder):
    unfinished(folder)
    (folder / "notes.txt").write_text("precious")


FOREIGN = [a_note, a_data_folder, another_database, a_lock_with_a_text, a_file, a_link]
FOREIGN += [a_link_into_nothing, a_linked_lock, ours_with_a_note]


@pytest.mark.parametrize("make", FOREIGN)
def test_a_partial_folder_of_another_is_named_and_left_as_it_is(tmp_path, make):
    folder = staging(tmp_path / "out")
    make(folder)
    before = tree(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"\.out\.partial, where .* move it away"):
            write_shards(never(), tmp_path / "out")
    assert tree(tmp_path) == before


def nothing(folder):
    folder.mkdir()


def a_lock_alone(folder):
    folder.mkdir()
    (folder / "lock").touch()


def a_state_that_is_void(folder):
    unfinished(folder)
    (folder / "state.sqlite").write_bytes(b"")


@pytest.mark.parametrize("make", [nothing, a_lock_alone, a_state_that_is_void, unfinished])
def test_what_an_import_left_at_any_moment_is_no_obstacle(tmp_path, make):
    make(staging(tmp_path / "out"))
    assert write_shards(items(), tmp_path / "out").records == 1
    assert not list(tmp_path.glob(".*"))


def test_what_comes_into_the_folder_meanwhile_stays(tmp_path):
    def late():
        yield from items()
        (staging(tmp_path / "out") / "notes.txt").write_text("precious")

    write_shards(late(), tmp_path / "out")
    assert (staging(tmp_path / "out") / "notes.txt").read_text() == "precious"


def leads_to_an_empty_folder(out):
    out.with_name("empty").mkdir()
    out.symlink_to("empty")


def leads_nowhere(out):
    out.symlink_to("nothing")


@pytest.mark.parametrize("make", [leads_to_an_empty_folder, leads_nowhere])
def test_a_link_is_no_new_folder(tmp_path, make):
    make(tmp_path / "out")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"out is a link to .*; name that folder itself"):
        write_shards(never(), tmp_path / "out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("make", [a_file, a_link_into_nothing])
def test_below_what_is_no_folder_none_can_be_made(tmp_path, make):
    make(tmp_path / "place")
    with pytest.raises(ValueError, match="place is no folder"):
        import_images(tmp_path / "missing", tmp_path / "place" / "new" / "out")


def test_what_cannot_be_looked_at_is_said_without_a_promise(tmp_path):
    with pytest.raises(PlainError, match=r"cannot become a folder of shards: .*too long"):
        import_images(tmp_path / "missing", tmp_path / ("x" * 300))


def test_a_mount_point_is_no_new_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "out")
    with pytest.raises(ValueError, match="is a mount point; name a folder in it"):
        write_shards(never(), tmp_path / "out")


@pytest.mark.parametrize("name", [".", "..", "new/..", "/"])
def test_what_is_no_name_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="names no new folder"):
        import_images("there", name)
    assert not list(tmp_path.iterdir())


def test_the_target_is_looked_at_before_the_source(tmp_path):
    (tmp_path / "out").symlink_to("nothing")
    with pytest.raises(ValueError, match="is a link"):
        import_images(tmp_path / "missing", tmp_path / "out")
    (tmp_path / "full").mkdir()
    tar(tmp_path / "full" / "x.tar", pairs(1))
    with pytest.raises(ValueError, match="is not empty"):
        import_images(tmp_path / "missing", tmp_path / "full")
    check_target(tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_a_lock_that_its_holder_removed_is_taken_anew(tmp_path, monkeypatch):
    import fcntl

    path, real, removed = tmp_path / "lock", fcntl.flock, []

    def flock(file, how):
        if not removed:
            removed.append(path.unlink())
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(path):
        assert path.exists()
        assert locked(path) is None
