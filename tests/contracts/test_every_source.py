"""What every data source must do, by its contract in unify/data/source.py."""

import io
import pickle
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from parts import SHIPPED, Part, concrete, sources_in
from PIL import Image
from records import SPLITS, digest, digests, places

from unify.data.adapters.index import index_folder
from unify.data.mixture import Mixture
from unify.data.module import Data
from unify.data.shapes import Shapes
from unify.data.shards import Shards
from unify.data.source import Source
from unify.support.user_files import contents, loaded_files

MANY = 200  # records of a split whose keys are compared


def shards(folder):
    """Forty pictures with captions."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "shard-000000.tar", "w") as archive:
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "PNG")
            members = {"png": picture.getvalue(), "txt": f"picture {number}".encode()}
            for kind, content in members.items():
                info = tarfile.TarInfo(f"{number:05d}.{kind}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    index_folder(folder)
    return Shards(str(folder), size=8, validation=0.2, test=0.2)


def shipped(folder):
    made = {
        "shapes": Shapes,
        "shapes-hard": lambda: Shapes(size=64, grid=3, objects=(1, 4), low_resolution=32),
        "shapes-few": lambda: Shapes(scenes=10, completeness=0.5, caption_noise=0.5, records=50),
        "shards": lambda: shards(folder / "shards"),
        "mixture": lambda: Mixture(
            {"few": Shapes(scenes=10), "all": Shapes()}, {"few": 1, "all": 2}
        ),
    }
    return [Part(name, build) for name, build in made.items()]


def pytest_generate_tests(metafunc):
    if "part" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("--experiments"))
        parts = shipped(Path("never read")) if folder == SHIPPED else sources_in(folder)
        metafunc.parametrize("part", parts, ids=[part.name for part in parts], indirect=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@pytest.fixture
def part(request, saved):
    if Path(request.config.getoption("--experiments")) != SHIPPED:
        return request.param
    return next(part for part in shipped(saved) if part.name == request.param.name)


@pytest.fixture
def source(part):
    return part.build()


@pytest.fixture
def tasks(part, source):
    """Of a shipped source all of its tasks, of a user's those that the folder trains on."""
    return part.tasks or source.tasks


def test_every_shipped_source_is_tried(saved, shipped_only):
    tried = {type(part.build()) for part in shipped(saved)}
    assert tried == concrete(Source, "unify.data")


def test_its_tasks_are_known_and_can_be_trained_on(source):
    assert source.tasks
    assert source.tasks <= source.known_tasks().keys()
    for task in source.tasks:
        assert source.size(task, "train") > 0
        assert all(source.size(task, split) >= 0 for split in SPLITS)
        with pytest.raises(IndexError):
            source.record(task, "train", source.size(task, "train"))


def test_records_have_the_fields_of_their_task_in_their_types(source, tasks):
    for task, split, _ in places(source, tasks):
        record = source.record(task, split, 0)
        for column in source.task(task).columns:
            if column.kind == "text":
                assert isinstance(record.fields[column.field], str)
                continue
            one = record.fields.get(column.field.removesuffix("s"))
            given = record.fields.get(column.field) if column.kind == "images" else None
            shown = [image for image in given or [one] if image is not None]
            assert shown
            for image in shown:
                assert (image.ndim, image.shape[2], image.dtype) == (3, 3, np.uint8)


def test_records_of_a_task_stack_into_a_batch_whose_target_is_last(source, tasks):
    for task, split, size in places(source, tasks):
        rows = min(4, size)
        batch = source.task(task).batch([source.record(task, split, i) for i in range(rows)])
        assert (batch.task, len(batch)) == (task, rows)
        assert [s.role for s in batch.segments[:-1]] == ["condition"] * (len(batch.segments) - 1)
        assert batch.segments[-1].role == "target"
        for segment in batch.segments:
            if segment.kind == "image":
                assert segment.images.dtype == torch.float32
                assert segment.images.abs().max() <= 1


def test_a_record_is_the_same_in_any_order_and_on_every_call(part, tasks):
    one, other = part.build(), part.build()
    forward = digests(one, tasks)
    backward = {key: digest(other.record(*key)) for key in reversed(forward)}
    assert forward == backward == digests(one, tasks)


def test_no_two_records_of_a_task_share_a_key_not_even_of_different_splits(source, tasks):
    for task in tasks:
        keys = [
            source.record(task, split, index).key
            for split in SPLITS
            for index in range(min(MANY // len(SPLITS), source.size(task, split)))
        ]
        assert len(set(keys)) == len(keys)


def test_a_split_has_more_than_one_picture_or_text(source, tasks):
    for task, split, size in places(source, tasks):
        read = [source.record(task, split, index) for index in range(min(20, size))]
        contents = {digest(replace(record, key="")) for record in read}
        assert len(contents) > 1 or size == 1


CHILD = """
import pickle, sys
files, known, packed, tasks = pickle.load(sys.stdin.buffer)
if files:
    from unify.support.user_files import load_files
    load_files(files, known)
source = pickle.loads(packed)
from records import digests
sys.stdout.buffer.write(pickle.dumps((source.fingerprint(), digests(source, tasks, 1))))
"""


@pytest.mark.slow
def test_another_process_reads_the_same_records_by_the_same_fingerprint(source, tasks):
    """A pickled copy, in a process that hashes strings otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=pickle.dumps((loaded_files(), contents(), pickle.dumps(source), tasks)),
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    fingerprint = source.fingerprint()
    assert len(fingerprint) == 12
    assert int(fingerprint, 16) >= 0
    assert pickle.loads(done.stdout) == (fingerprint, digests(source, tasks, 1))


def test_the_fingerprint_is_not_of_what_was_read(part, tasks):
    source = part.build()
    before = source.fingerprint()
    digests(source, tasks)
    assert source.fingerprint() == before == part.build().fingerprint()


def test_a_loader_process_serves_what_the_trainer_would_read_itself(source, tasks):
    task = min(tasks)
    data = Data(source, {task: 2})
    ours, theirs = (list(data.train_batches(0, 1, 0, 2, workers=n)) for n in (0, 1))
    assert [b[task].keys for b in ours] == [b[task].keys for b in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine[task].segments, other[task].segments, strict=True):
            assert torch.equal(a.images, b.images) if a.kind == "image" else a.texts == b.texts
