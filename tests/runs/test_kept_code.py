"""What is trained is what is named: the code of users' files is in the hash, and kept."""

import pytest
import yaml
from command_line import unify
from places import EXPERIMENTS

from unify.config import load_recipe
from unify.runs.kept_code import check_code
from unify.training.train_run import train as finish

MODEL = """
from unify.paradigms.transfusion import Transfusion

from speeds.rate import RATE


class Mine(Transfusion):
    rate = RATE
"""
SOURCE = """
from unify.data.shapes import Shapes


class Plain(Shapes):
    pass


class Mirrored(Shapes):
    def _image(self, split, index):
        fields, meta = super()._image(split, index)
        return {"image": fields["image"][:, ::-1].copy()}, meta
"""
METRIC = """
from unify.metrics.metric import Metric, proportion


class Hits(Metric):
    tasks = frozenset({"text_to_image"})

    def measure(self, subject):
        return [proportion("text_to_image/hits", [True, False])], []
"""


def write(folder, **changed):
    """A paradigm, a source and a metric of one's own, each in a file."""
    text = (EXPERIMENTS / "transfusion.yaml").read_text()
    shipped = "unify.paradigms.transfusion.Transfusion"
    assert text.count(shipped) == 1
    text = text.replace(shipped, "./model.py:Mine").replace(
        "tokenizers/", f"{EXPERIMENTS}/tokenizers/"
    )
    for base in ("base.yaml", "data/"):
        text = text.replace(base, f"{EXPERIMENTS}/{base}")
    files = {
        "model/mine.yaml": text,
        "model/model.py": MODEL,
        "model/metric.py": METRIC,
        "model/speeds/rate.py": "RATE = 0.1\n",
        "model/unused.py": "",
        "data/source.py": SOURCE,
    }
    for name, content in {**files, **changed}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def train(folder, *words, source="Mirrored"):
    """The run of the files in a folder, and what was said."""
    said = []
    data = source if "." in source else f"{folder}/data/source.py:{source}"
    words = [
        *("machine.tracker=none", f"machine.runs={folder.parent}/runs"),
        f"data.source={{class: '{data}'}}",
        f"evaluation=[{{class: '{folder}/model/metric.py:Hits'}}]",
        *words,
    ]
    config = load_recipe(folder / "model" / "mine.yaml", words, tiny=True)
    return finish(config, said.append), " ".join(said)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of files of one's own, and the run of them."""
    folder = write(tmp_path_factory.mktemp("own") / "mine")
    return folder, train(folder)[0]


def test_the_code_that_a_run_was_trained_with_is_kept_as_it_lay(trained):
    folder, run = trained
    kept = {p.relative_to(run.folder / "code").as_posix() for p in run.folder.glob("code/**/*.py")}
    assert kept == {"model/model.py", "model/metric.py", "model/speeds/rate.py", "data/source.py"}
    for name in kept:
        assert (run.folder / "code" / name).read_bytes() == (folder / name).read_bytes()
    assert set(run.info["code"]) == {f"{folder}/model/model.py", f"{folder}/data/source.py"}


def test_files_that_moved_are_the_same_run_and_edited_ones_another(trained):
    folder, run = trained
    moved = write(
        folder.parent / "moved", **{"model/unused.py": "# edited", "model/metric.py": METRIC + "#"}
    )
    same, said = train(moved)
    assert "trained already" in said
    assert same.folder == run.folder
    for place, name in {
        "a": "model/model.py",
        "b": "model/speeds/rate.py",
        "c": "data/source.py",
    }.items():
        text = (folder / name).read_text()
        other, said = train(write(folder.parent / place, **{name: text + "# edited"}))
        assert "trained already" not in said
        assert other.folder.name != run.folder.name


def test_a_subclass_of_a_source_is_not_trained_already_as_its_base(trained):
    folder, run = trained
    seen = {run.info["data"]}
    for name in ("Plain", "unify.data.shapes.Shapes"):
        other, said = train(folder, source=name)
        assert "trained already" not in said
        seen.add(other.info["data"])
    assert len(seen) == 3


def test_an_equal_run_of_another_study_gives_its_weights_to_users_files_too(trained):
    folder, run = trained
    other, said = train(folder, "study=another")
    assert "trained already, as" in said
    assert other.info["weights"] == run.info["weights"]
    assert (other.folder / "code" / "model" / "speeds" / "rate.py").is_file()
    assert other.info["code"] == run.info["code"]


def test_a_run_whose_code_has_changed_is_refused_with_the_place_of_its_own_code(trained):
    folder = write(trained[0].parent / "edited")
    run, _ = train(folder, "steps=1")
    with (folder / "model" / "speeds" / "rate.py").open("a") as file:
        file.write("# edited\n")
    done = unify("eval", run.folder)  # a Python file is run once in a process
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert f"model.py, or what it imports, has changed since {run.folder} was trained" in said
    assert f"put back what is in {run.folder}/code" in said


def test_a_config_that_names_another_file_of_the_same_name_is_refused(trained):
    """Files may move, and another one may have been put in their place."""
    folder, run = trained
    saved = (run.folder / "config.yaml").read_text()
    for name, more in (("a copy", ""), ("no copy", "# edited")):
        other = write(folder.parent / name, **{"data/source.py": SOURCE + more})
        config = yaml.safe_load(saved.replace(f"{folder}/data", f"{other}/data"))
        if more:
            with pytest.raises(ValueError, match=r"source\.py, or what it imports, has changed"):
                check_code(run, config)
        else:
            check_code(run, config)
