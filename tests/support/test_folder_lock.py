"""The lock of a folder: one writer, who is named, and whose death frees it."""

import json
import multiprocessing
import os
import signal
import socket
from contextlib import ExitStack

import pytest

from unify.support import folder_lock
from unify.support.folder_lock import BUSY, NAME, lock_folder, only_writer


def hold(folder, ready):
    with only_writer(folder, print):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready))
    other.start()
    ready.wait(30)
    yield other
    other.kill()
    other.join()


@pytest.mark.fault(39, times=3)
def test_the_second_writer_is_told_who_holds_the_folder_and_gets_it_when_that_one_is_dead(
    tmp_path, holder
):
    for _ in range(2):  # to be refused takes nothing from the holder
        with pytest.raises(ValueError, match=BUSY) as refused, only_writer(tmp_path, print):
            pass
        assert f"({holder.pid} on {socket.gethostname()}, since" in str(refused.value)
    holder.kill()
    holder.join()
    with only_writer(tmp_path, print):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    assert (tmp_path / NAME).read_text() == "", "who has ended holds nothing"


def of_another_machine(folder):
    holder = {"pid": 1, "host": "elsewhere", "since": "2026-01-02 03:04", "command": "unify study"}
    (folder / NAME).write_text(json.dumps(holder))


@pytest.mark.parametrize("alive", [True, False])
def test_a_holder_on_a_machine_without_our_locks_counts_while_it_gives_signs(
    tmp_path, monkeypatch, alive
):
    of_another_machine(tmp_path)
    said, waited = [], []

    def sleep(seconds):
        waited.append(seconds)
        if alive and len(waited) == 3:
            os.utime(tmp_path / NAME, (1, 1))

    monkeypatch.setattr(folder_lock.time, "sleep", sleep)
    with ExitStack() as stack:
        if alive:
            with pytest.raises(ValueError, match="1 on elsewhere, since 2026-01-02 03:04"):
                stack.enter_context(only_writer(tmp_path, said.append))
            assert len(waited) == 3
        else:
            stack.enter_context(only_writer(tmp_path, said.append))
            assert sum(waited) == folder_lock.SILENT
    assert "elsewhere" in said[0]


def test_what_a_machine_left_long_ago_is_not_waited_for(tmp_path, monkeypatch):
    of_another_machine(tmp_path)
    os.utime(tmp_path / NAME, (1, 1))
    monkeypatch.setattr(folder_lock.time, "sleep", lambda _: pytest.fail("waits"))
    with only_writer(tmp_path, pytest.fail):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}', "\x00"])
def test_whatever_the_file_holds_the_lock_is_the_kernels(tmp_path, content, monkeypatch):
    monkeypatch.setattr(folder_lock, "SILENT", 0)
    (tmp_path / NAME).write_text(content)
    with ExitStack() as stack:
        assert lock_folder(tmp_path, stack) == ""


def test_a_lock_that_is_refused_keeps_no_file_open(tmp_path, holder):
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        for _ in range(5):
            assert BUSY in lock_folder(tmp_path, stack)
        assert len(os.listdir("/proc/self/fd")) == before
