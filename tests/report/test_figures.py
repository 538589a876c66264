"""Figures: what is drawn is what was measured; equal input gives equal bytes."""

import xml.etree.ElementTree as xml

import pytest
from matplotlib.figure import Figure
from report_study import write_study

from unify.answers.costs import pareto
from unify.answers.study_records import load_study
from unify.report.figure_style import file_bytes, log_axis
from unify.report.figures import figures, write_figures


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "three", seeds=(0, 1, 2), steps=20)
    return load_study(folder)


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 0.5), (2, 0.4), (3, 0.9)], [(1, 0.5), (3, 0.9)]),
        ([(1, 0.5), (1, 0.7), (2, 0.7)], [(1, 0.7)]),
        ([(2, 0.1)], [(2, 0.1)]),
    ],
)
def test_the_front_has_what_nothing_cheaper_reaches(points, front):
    assert pareto(points) == front


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


def test_costs_have_a_few_round_numbers_on_their_axis():
    axes = Figure().add_subplot()
    ranges = [(6.4e12, 8.8e12, "7T"), (2e-3, 3.0, "0.01"), (1e9, 4e13, "1G")]
    for low, high, said in [*ranges, (0.9995e13, 1.0005e13, "10T")]:
        axes.clear()
        axes.scatter([low, high], [0, 1])
        log_axis(axes)
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert said in labels
        assert 2 <= len(labels) <= 7
        assert len(set(labels)) == len(labels)
        assert not axes.get_xticks(minor=True).size


def test_files_are_readable_and_equal_again(study):
    made = figures(study)
    paths = write_figures(study)
    assert {p.stem for p in paths} == set(made)
    (study.folder / "figures" / "gone.svg").write_text("of arms that the study no longer has")
    assert {p.name for p in (study.folder / "figures").iterdir()} - {p.name for p in paths}
    write_figures(study)
    assert set((study.folder / "figures").iterdir()) == set(paths)
    assert {p.suffix for p in paths} == {".svg", ".pdf"}
    for path in paths:
        if path.suffix == ".svg":
            assert xml.parse(path).getroot().tag.endswith("svg")
        assert file_bytes(figures(study)[path.stem], path.suffix[1:]) == path.read_bytes()
