"""Figures that a study names for itself: drawn again from study.json, and never in the way."""

import json
import shutil

import pytest
from places import ROOT
from report_study import edit_json, write_results, write_study

from unify.answers.study_records import load_study
from unify.config import ConfigError
from unify.config import load_study as load_yaml
from unify.report.own_figures import own_figures
from unify.report.page import write_report

EXAMPLE = ROOT / "docs" / "examples" / "report_figure"
CAPTION = "Every seed as a dot, the mean over seeds as a line."


@pytest.fixture
def example(tmp_path):
    """A copy of the example, in a folder of its own."""
    return shutil.copytree(EXAMPLE, tmp_path / "example")


@pytest.fixture
def study(tmp_path):
    """A study of one metric, which has no figures but those that it names."""
    folder = write_study(tmp_path / "runs" / "three", seeds=(0, 1, 2), steps=20)
    rows = json.loads((folder / "results.json").read_text())
    write_results(folder, [row for row in rows if row["metric"] == "vqa/accuracy"])
    edit_json(folder / "study.json", primary=[])
    return folder


def name_figures(study, *nodes):
    edit_json(study / "study.json", figures=nodes)


def strip(example, **settings):
    settings = {"metric": "vqa/accuracy"} | settings
    return {"class": f"{example / 'my_figure.py'}:SeedStrip", **settings}


def test_the_example_is_drawn_with_its_caption_and_written_to_files(example, study):
    name_figures(study, strip(example), strip(example, name="second", caption="Another <b>."))
    page = write_report(study, trusted_files=True).read_text()
    assert f"<figcaption>{CAPTION}</figcaption>" in page
    assert page.index("Another &lt;b&gt;.") > page.index(CAPTION), "in the study's order"
    drawn = study / "figures" / "seed-strip.svg"
    assert drawn.read_bytes().count(b"PathCollection") >= 2, "the dots of each arm"
    assert (study / "figures" / "second.pdf").is_file()
    assert write_report(study, trusted_files=True).read_text() == page, "equal bytes again"


def test_a_study_without_figures_of_its_own_has_the_same_page(study):
    page = write_report(study).read_bytes()
    name_figures(study)
    assert write_report(study).read_bytes() == page


def test_a_figure_without_numbers_is_left_out(example, study):
    name_figures(study, strip(example, metric="no/such"))
    page = write_report(study, trusted_files=True).read_text()
    assert "seed-strip" not in page
    assert not (study / "figures" / "seed-strip.svg").exists()


def refused(study, node, trusted=True):
    """The note on a figure that cannot be drawn."""
    name_figures(study, node)
    (figure,) = own_figures(load_study(study, trusted))
    assert not figure.files
    return figure.note


def test_what_cannot_be_drawn_is_a_note_on_the_page(example, study):
    note = refused(study, strip(example / "gone"))
    assert note.startswith(f"{example / 'gone' / 'my_figure.py'}:SeedStrip was not drawn: ")
    page = write_report(study, trusted_files=True).read_text()
    assert "SeedStrip was not drawn" in page
    assert 'id="environment"' in page, "all else is there"


def test_a_figure_that_raises_or_is_none_stops_no_report(example, study):
    assert "../out" in refused(study, strip(example, name="../out"))
    assert "bogus" in refused(study, strip(example, bogus=1))
    assert "ReportFigure" in refused(study, {"class": "unify.metrics.speed.Speed"})
    code = (example / "my_figure.py").read_text()
    (example / "raises.py").write_text(code.replace("lines = [", "raise KeyError('mine'); ["))
    assert "mine" in refused(study, strip(example) | {"class": f"{example}/raises.py:SeedStrip"})


def test_a_file_that_is_not_trusted_is_not_run(example, study):
    (example / "untrusted.py").write_text(f"open({str(example / 'ran')!r}, 'w')\n")
    node = {"class": f"{example / 'untrusted.py'}:SeedStrip", "metric": "vqa/accuracy"}
    assert "was not drawn" in refused(study, node, trusted=False)
    assert not (example / "ran").exists()


def test_the_yaml_names_figures_and_their_settings_are_kept(example):
    study, _ = load_yaml(example / "study.yaml")
    (figure,) = study.figures
    assert figure.settings() == {
        "metric": "text_to_image/exact", "name": "seed-strip", "caption": CAPTION,
    }  # fmt: skip


STRIP = "{class: ./my_figure.py:SeedStrip, metric: x"


@pytest.mark.parametrize(
    ("figures", "problem"),
    [
        (f"{STRIP}, name: a/b}}", "a/b"),
        (f"{STRIP}, metrik: x}}", "metrik"),
        (f"{STRIP}}}, {STRIP}}}", "one name"),
        ("{class: unify.metrics.speed.Speed}", "ReportFigure"),
    ],
)
def test_a_wrong_figure_is_refused_before_anything_runs(example, figures, problem):
    path = example / "study.yaml"
    before = path.read_text().partition("figures:")[0]
    path.write_text(f"{before}figures: [{figures}]\n")
    with pytest.raises(ConfigError, match=problem):
        load_yaml(path)
