"""Disks that are full, folders that cannot be written or go away, broken files, bad records.

The commands are real, and so are the full disk and the read-only one: both are mounted.
"""

import json
import os
import shutil
import subprocess
import time

import pytest
from command_child import TRAIN, Commands, weights
from config_parts import GOOD, fill, write
from PIL import Image

from unify.data.adapters.importer import import_images
from unify.runs.checkpoint_folder import damage, steps
from unify.support.environment import git_diff

QUIET = "machine.tracker=none"


@pytest.fixture
def unify(tmp_path):
    return Commands(tmp_path)


@pytest.fixture
def mount(tmp_path):
    """mount(folder, options): an empty file system in memory, which is gone with the test."""
    if os.getuid() != 0:
        pytest.skip("mounting takes root")
    mounted = []

    def one(folder, options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield one
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def only_message(ended):
    """Error message of a command that failed for a reason that its user can mend."""
    assert ended.status == 1, ended
    (line,) = ended.err.splitlines()
    assert line.startswith("unify: ")
    return line


# Full disks

SAVING = [*TRAIN, QUIET, "steps=6", "logging.checkpoint_every=1", "logging.keep_checkpoints=9"]


OFTEN = [0.0, 0.98]  # before the first checkpoint, in the export
SELDOM = [0.002, 0.01, 0.05, 0.2, 0.3, 0.5, 0.7, 0.9]
SHARES = [*OFTEN, *(pytest.param(share, marks=pytest.mark.drill) for share in SELDOM)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights of the run with space enough, and the bytes that it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert Commands(folder)(*SAVING, f"machine.runs={folder}").status == 0
    sizes = [path.stat().st_size for path in folder.glob("default/*/**/*") if path.is_file()]
    return weights(folder), sum(-(-size // 4096) * 4096 for size in sizes)


@pytest.mark.slow
@pytest.mark.fault(23)
@pytest.mark.parametrize("share", SHARES)
def test_a_full_disk_costs_no_checkpoint_and_is_named(unify, mount, tmp_path, undisturbed, share):
    """It is full before the first checkpoint, in a later one, or, at last, while exporting."""
    whole, size = undisturbed
    fixed = len(git_diff().encode())
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, f"size={4096 + fixed + int(share * (size - fixed))}")
    command = [*SAVING, f"machine.runs={disk}"]
    message = only_message(unify(*command))
    assert f"{disk}/default/transfusion-s0-" in message
    assert "the disk is full" in message
    assert "MiB are free" in message
    (run,) = disk.glob("default/*")
    saved = steps(run / "checkpoints")
    assert [damage(path) for path in saved] == [None] * len(saved)
    assert len(saved) >= int(share * 6)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    again = unify(*command)
    assert again.status == 0, again.err
    assert ("resuming from" in again.out) == bool(saved)
    assert weights(disk) == whole
    assert not [path for path in run.rglob("*") if path.name.startswith(".tmp")]


# Folders that cannot be written


def a_file(place, mount):
    place.write_text("")


def a_broken_link(place, mount):
    place.symlink_to("/nowhere/at/all")


def read_only(place, mount):
    place.mkdir()
    mount(place, "size=1m,ro")


LATER = [pytest.param(make, marks=pytest.mark.slow) for make in (a_broken_link, read_only)]


@pytest.mark.fault(24)
@pytest.mark.parametrize("make", [a_file, *LATER])
@pytest.mark.parametrize("below", ["", pytest.param("/below", marks=pytest.mark.drill)])
def test_a_place_that_cannot_be_written_is_named_before_anything(
    unify, mount, tmp_path, make, below
):
    make(tmp_path / "place", mount)
    before = sorted(tmp_path.rglob("*"))
    message = only_message(unify(*TRAIN, QUIET, f"machine.runs={tmp_path}/place{below}"))
    assert f"{tmp_path}/place{below}/default/transfusion-s0-" in message
    assert "cannot be written (" in message
    assert "machine.runs=" in message
    left = [path for path in sorted(tmp_path.rglob("*")) if not path.name.startswith("command")]
    assert left == before


@pytest.mark.slow
@pytest.mark.fault(24)
@pytest.mark.parametrize(
    "place", ["/proc/runs", pytest.param("/sys/runs", marks=pytest.mark.drill), "/dev/null"]
)
def test_a_place_of_the_kernel_is_named(unify, place):
    message = only_message(unify(*TRAIN, QUIET, f"machine.runs={place}"))
    assert f"{place}/default/transfusion-s0-" in message
    assert "cannot be written (" in message


def moved(place):
    place.rename(place.with_name("elsewhere"))


def removed(place):
    while place.exists():  # the run may write into it between two looks
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.fault(24)
@pytest.mark.parametrize("goes", [pytest.param(moved, marks=pytest.mark.slow), removed])
def test_a_folder_that_goes_away_stops_its_run(unify, tmp_path, goes):
    place = tmp_path / "runs"
    words = ["steps=100000", "logging.metrics_every=1", f"machine.runs={place}"]
    process = unify.start(*TRAIN, QUIET, *words)
    while not list(place.glob("*/*/journal.jsonl")):
        assert process.is_alive()
        time.sleep(0.01)
    goes(place)
    message = only_message(unify.ended(process, 60))
    assert f"{place}/default/transfusion-s0-" in message
    assert "is gone: it was moved or removed" in message
    assert not place.exists(), "nothing is begun anew in its place"


# Broken YAML, as the command says it

BROKEN = {
    "typo": ("dim: 16", "dimm: 16", "model.trunk.dimm"),
    "type": ("1e-3", "'1e-4'", "optimizer.lr"),
    "class": ("./parts.py:Plain", "os.system", "model.trunk.class"),
    "syntax": ("{lr: 1e-3}", "{lr: 1e-3", "not readable as YAML"),
    "ranks": ("precision: 32-true", "devices: 4", "data.tasks.caption"),
}


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("command", [["train", "-c"], ["check"]])
def test_a_broken_file_is_one_message_and_leaves_nothing(unify, tmp_path, case, command):
    old, new, key = BROKEN[case]
    path = write(fill(tmp_path), "good.yaml", GOOD.replace(old, new))
    ended = unify(*command, path, cwd=tmp_path)
    message = ended.err if command[0] == "train" else ended.out
    assert ended.status == 1
    assert f"{path}:" in message
    assert f": {key}" in message
    assert "Traceback" not in ended.out + ended.err
    assert not (tmp_path / "runs").exists()


# Many bad records


@pytest.fixture
def pictures(tmp_path):
    """60 good pictures and 40 that are not, of five kinds."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(100):
        picture = folder / f"{index:03}.png"
        Image.new("RGB", (20, 20), (2 * index, 0, 0)).save(picture)
        picture.with_suffix(".txt").write_text(f"red number {index}")
        kind = index // 8 if index < 40 else None
        if kind == 0:
            picture.write_bytes(b"not a picture")
        elif kind == 1:
            picture.write_bytes(picture.read_bytes()[:-20])
        elif kind == 2:
            picture.with_suffix(".txt").unlink()
        elif kind == 3:
            picture.with_suffix(".txt").write_text("  ")
        elif kind == 4:
            picture.with_suffix(".txt").write_bytes(b"\xff\xfe")
    return folder


REASONS = ["unsupported_format", "corrupt_image", "missing_caption"]
REASONS += ["empty_caption", "non_utf8_caption"]


@pytest.mark.fault(20, examples=40)
def test_many_bad_records_are_each_named_and_none_of_the_others_is_lost(pictures, tmp_path):
    report = import_images(pictures, tmp_path / "out")
    assert report.records == 60
    assert dict(report.verdicts) == dict.fromkeys(REASONS, 8)
    lines = (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()
    told = {verdict["key"]: verdict["reason"] for verdict in map(json.loads, lines)}
    assert told == {f"{index:03}": REASONS[index // 8] for index in range(40)}
    rows = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    kept = {json.loads(row)["text"] for row in rows}
    assert kept == {f"red number {index}" for index in range(40, 100)}


@pytest.mark.fault(20, examples=40)
def test_an_import_of_nothing_but_bad_records_stops_and_says_why(unify, pictures, tmp_path):
    for file in pictures.iterdir():
        if int(file.stem) >= 40:
            file.unlink()
    message = only_message(unify("data", "import", pictures, tmp_path / "out"))
    for reason in REASONS:
        assert f"{reason}: 8" in message
    assert not (tmp_path / "out").exists()
