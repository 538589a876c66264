"""Files are read once and completed once, and again as soon as one of them has changed."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from config_parts import fill, write
from places import EXPERIMENTS

from unify.config import load_recipe, load_study
from unify.config.loading import load
from unify.config.read_once import once, stamp, watch
from unify.study.jobs import StudyRequest
from unify.study.plan import plan

OLD = 1_000_000_000  # seconds: a file that was not written just now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path)
    for file in tmp_path.iterdir():
        os.utime(file, (OLD, OLD))
    return tmp_path


@pytest.fixture
def reads(monkeypatch) -> Counter[Path]:
    counts: Counter[Path] = Counter()
    read_text = Path.read_text

    def counting(path: Path, *args, **kwargs) -> str:
        if path.suffix == ".yaml":
            counts[path.resolve()] += 1
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", counting)
    return counts


def old(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (OLD, OLD))


@pytest.mark.slow
def test_a_plan_of_the_quickstart_reads_every_yaml_once(reads, tmp_path):
    experiments = tmp_path / "experiments"  # where no test has read them before
    shutil.copytree(EXPERIMENTS, experiments)  # with their times
    study = experiments / "studies" / "quickstart.yaml"
    planned = plan(StudyRequest(str(study), [f"machine.runs={tmp_path}"], tiny=True))
    assert {state for arm in planned.arms for state in planned.states(arm).values()} == {"missing"}
    assert {study, experiments / "base.yaml", experiments / "ar_vq.yaml"} <= set(reads)
    assert set(reads.values()) == {1}, reads


def test_a_file_is_read_again_once_it_has_changed(folder, reads):
    path = folder / "good.yaml"
    text = path.read_text()
    assert [load_recipe(path)["steps"] for _ in range(2)] == [50, 50]
    assert reads[path] == 2, "by this test, and once to be completed"
    old(path, text.replace("steps: 50", "steps: 123"))
    assert load_recipe(path)["steps"] == 123


def test_a_change_that_keeps_time_and_size_is_seen_in_another_inode(folder):
    path = folder / "good.yaml"
    assert load_recipe(path)["steps"] == 50
    old(folder / "new.yaml", path.read_text().replace("steps: 50", "steps: 70"))
    os.replace(folder / "new.yaml", path)
    assert load_recipe(path)["steps"] == 70


def test_a_file_that_was_written_just_now_is_not_trusted_to_stay(folder):
    path = folder / "good.yaml"
    text = path.read_text()
    for steps in range(10, 30):  # within a tick of the file system's clock, in equal size
        path.write_text(text.replace("steps: 50", f"steps: {steps}"))
        assert load(path).root.plain()["steps"] == steps


def test_a_base_a_needed_run_and_a_variable_count_as_well(folder, monkeypatch):
    old(folder / "base.yaml", "base: good.yaml\nema: 0.5")
    codec = "model: {class: ./parts.py:Codec, channels: %d}"
    old(folder / "codec.yaml", codec % 5)
    good = (folder / "good.yaml").read_text()
    weights = "codec: {weights: {run: codec.yaml}}"
    old(folder / "good.yaml", good.replace("codec: {class: ./parts.py:Codec}", weights))
    old(folder / "leaf.yaml", "base: base.yaml\nstudy: '${oc.env:WHOSE}'")

    def now() -> tuple:
        completed = load_recipe(folder / "leaf.yaml")
        return completed["ema"], completed["model"]["codec"]["channels"], completed["study"]

    monkeypatch.setenv("WHOSE", "mine")
    assert now() == (0.5, 5, "mine")
    old(folder / "base.yaml", "base: good.yaml\nema: 0.25")
    assert now() == (0.25, 5, "mine")
    old(folder / "codec.yaml", codec % 17)
    assert now() == (0.25, 17, "mine")
    monkeypatch.setenv("WHOSE", "yours")
    assert now() == (0.25, 17, "yours")


def test_the_same_arguments_complete_once_and_others_again(folder, reads):
    write(folder, "study.yaml", "name: s\narms: {one: good.yaml}\nseeds: [0]")
    os.utime(folder / "study.yaml", (OLD, OLD))
    for _ in range(2):
        assert load_recipe(folder / "good.yaml", tiny=True)["steps"] == 2
        assert load_recipe(folder / "good.yaml", ["steps=7"])["steps"] == 7
        arms = load_study(folder / "study.yaml", one_arm={"one": ["steps=9"]})[1]
        assert arms["one"]["steps"] == 9
        assert load_study(folder / "study.yaml")[1]["one"]["steps"] == 50
    assert set(reads.values()) == {1}


def test_what_is_given_out_may_be_changed_by_who_got_it(folder):
    write(folder, "study.yaml", "name: s\narms: {one: good.yaml}\nseeds: [0]")
    os.utime(folder / "study.yaml", (OLD, OLD))
    load_recipe(folder / "good.yaml")["data"]["tasks"].clear()
    assert load_recipe(folder / "good.yaml")["data"]["tasks"] == {"text_to_image": 4, "caption": 2}
    study, arms = load_study(folder / "study.yaml")
    study.seeds.append(1)
    arms["one"]["optimizer"].clear()
    again, same = load_study(folder / "study.yaml")
    assert (again.seeds, same["one"]["optimizer"]["lr"]) == ([0], 1e-3)


def test_completing_leaves_the_shared_tree_of_a_file_as_it_is(folder):
    write(folder, "leaf.yaml", "base: good.yaml\nsteps: '${data.tasks.caption}'")
    os.utime(folder / "leaf.yaml", (OLD, OLD))
    before = load(folder / "leaf.yaml").root.plain()
    load_recipe(folder / "leaf.yaml", ["data.tasks.caption=6", "model.trunk.dim=3"], tiny=True)
    assert load(folder / "leaf.yaml").root.plain() == before
    assert before["steps"] == "${data.tasks.caption}"


def test_a_relative_path_is_another_file_in_another_folder(tmp_path, monkeypatch):
    for name, steps in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        old(tmp_path / name / "same.yaml", f"steps: {steps}")
        monkeypatch.chdir(tmp_path / name)
        assert load("same.yaml").root.plain() == {"steps": steps}


def test_an_outer_result_depends_on_what_an_inner_one_watched(tmp_path):
    path = tmp_path / "x"
    calls = []

    @once
    def inner(file: str) -> str:
        watch(stamp, file)
        calls.append("inner")
        return Path(file).read_text()

    @once
    def outer(file: str) -> str:
        calls.append("outer")
        return inner(file) * 2

    old(path, "a")
    assert inner(str(path)) == "a"
    assert [outer(str(path)) for _ in range(3)] == ["aa"] * 3
    assert calls == ["inner", "outer"]
    old(path, "bc")
    assert outer(str(path)) == "bcbc"
    assert calls == ["inner", "outer", "outer", "inner"]


def test_errors_are_not_kept(tmp_path):
    @once
    def read(file: str) -> str:
        watch(stamp, file)
        return Path(file).read_text()

    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "x"))
    old(tmp_path / "x", "there")
    assert read(str(tmp_path / "x")) == "there"
