"""The experiments that come with the package."""

import os

import pytest
from places import EXPERIMENTS, ROOT

from unify.cluster.submit import load_cluster
from unify.config import load_recipe
from unify.config.shipped import FOLDER, copy_shipped, where_shipped
from unify.config.yaml_tree import ConfigError


def test_they_are_those_of_the_repository():
    assert os.readlink(ROOT / "unify/experiments") == "../experiments"
    assert FOLDER.resolve() == EXPERIMENTS.resolve()


def test_copies_are_equal_resolve_and_are_made_once(tmp_path):
    count = copy_shipped(tmp_path / "mine")
    assert count == len(list(EXPERIMENTS.rglob("*.yaml")))
    copied = repr(load_recipe(tmp_path / "mine/transfusion.yaml"))
    shipped = repr(load_recipe(EXPERIMENTS / "transfusion.yaml"))
    assert copied.replace(str(tmp_path / "mine"), str(EXPERIMENTS)) == shipped
    (tmp_path / "mine/vlm.yaml").unlink()
    assert copy_shipped(tmp_path / "mine") == 1


@pytest.mark.fault(42)
def test_a_file_that_was_changed_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/shapes.yaml").write_text("mine: true\n")
    with pytest.raises(ValueError, match=r"data/shapes\.yaml: there already, and not as shipped"):
        copy_shipped(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data/shapes.yaml").read_text() == "mine: true\n"


@pytest.mark.fault(42)
@pytest.mark.parametrize("place", ["studies", "base.yaml", "."])
def test_what_is_in_the_way_is_named_before_anything_is_written(tmp_path, place):
    target = tmp_path / "mine"
    (target / place).parent.mkdir(exist_ok=True)
    if place == "studies":
        (target / place).write_text("a file")
    else:
        os.symlink("nothing", target / place if place != "." else target)
    before = [(path.name, path.lstat().st_ino) for path in tmp_path.rglob("*")]
    with pytest.raises(ValueError, match="there already, and"):
        copy_shipped(target)
    assert [(path.name, path.lstat().st_ino) for path in tmp_path.rglob("*")] == before


def test_who_lacks_one_is_told_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="`unify experiments experiments` copies the shipped"):
        load_recipe("experiments/transfusion.yaml")
    assert where_shipped(EXPERIMENTS / "nowhere.yaml") == ""
    assert load_cluster("example").gpus == 4
