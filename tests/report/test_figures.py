"""Figures: what is drawn is what was measured; equal input gives equal bytes."""

import xml.etree.ElementTree as xml
from dataclasses import replace

import pytest
from report_study import write_study

from unify.answers.study_records import load_study
from unify.report.figure_style import file_bytes
from unify.report.figures import figures, write_figures


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "three", seeds=(0, 1, 2), steps=20)
    return load_study(folder)


def test_bars_stand_at_the_mean_of_each_arm(study):
    axes = figures(study)["text_to_image-geneval"].axes[0]
    rows = [r for r in study.rows if r["metric"] == "text_to_image/geneval/counting"]
    for arm, bars in zip(study.arms, axes.containers, strict=True):
        values = [r["value"] for r in rows if r["arm"] == arm]
        assert bars[0].get_height() == pytest.approx(sum(values) / len(values))
    assert [t.get_text() for t in axes.get_xticklabels()] == ["counting", "position"]


def test_each_primary_outcome_is_drawn_against_both_costs(study):
    names = set(figures(study))
    assert {f"vqa-accuracy-by-{cost}" for cost in ("flops", "seconds")} <= names
    points = figures(study)["vqa-accuracy-by-seconds"].axes[0].collections
    assert len(points) == 2 * len(study.arms)
    assert len(points[0].get_offsets()) == 3, "a point per seed"
    axes = figures(study)["vqa-accuracy-by-seconds"].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds for a text", "accuracy")
    axes = figures(study)["text_to_image-exact-by-seconds"].axes[0]
    assert axes.get_xlabel() == "seconds for an image"


def test_arms_of_controls_are_in_no_figure_of_arms(study):
    control = {"arm": study.arms[1], "expect": "worse", "than": study.arms[0]}
    alone = replace(study, info={**study.info, "controls": [control]})
    assert not any("-by-" in name or "understanding" in name for name in figures(alone))
    assert "generation-against-understanding" in figures(study)


def test_bars_of_many_categories_stand_in_rows_that_can_be_read(study):
    rows = [
        {**row, "metric": f"a/b/{n}"}
        for row in study.rows
        if row["metric"] == "text_to_image/exact"
        for n in range(30)
    ]
    figure = figures(replace(study, rows=rows))["a-b"]
    assert figure.get_size_inches()[0] <= 12
    assert len(figure.axes) > 1
    assert sum(len(axes.get_xticks()) for axes in figure.axes) == 30


def test_files_are_readable_and_equal_again(study):
    made = figures(study)
    paths = write_figures(study)
    assert {p.stem for p in paths} == set(made)
    gone = study.folder / "figures" / "gone.svg"  # of arms that the study no longer has
    gone.write_bytes(next(path for path in paths if path.suffix == ".svg").read_bytes())
    assert {p.name for p in (study.folder / "figures").iterdir()} - {p.name for p in paths}
    write_figures(study)
    assert set((study.folder / "figures").iterdir()) == set(paths)
    assert {p.suffix for p in paths} == {".svg", ".pdf"}
    again = figures(study)
    for path in paths:
        if path.suffix == ".svg":
            assert xml.parse(path).getroot().tag.endswith("svg")
        assert file_bytes(again[path.stem], path.suffix[1:]) == path.read_bytes()
