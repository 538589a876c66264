"""Figures: what is drawn is what was measured; equal input gives equal bytes."""

import xml.etree.ElementTree as xml
from dataclasses import replace

import matplotlib
import pytest
from failing_study import failing_study
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report_study import write_study

from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.report.drawing import SMALL, WIDTH
from unify.report.figure_style import STYLE
from unify.report.figures import drawings, write_figures

SIDES = "generation-against-understanding"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "three", seeds=(0, 1, 2), steps=20)
    return load_study(folder)


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    return study_answers(load_study(failing_study(tmp_path_factory.mktemp("runs") / "fails")))


def drawn(answers, name):
    """One figure, drawn, and its words."""
    one = drawings(answers)[name]
    with matplotlib.rc_context(STYLE):
        return one.draw(), one


def texts_of(figure):
    """What is written in a figure: ticks within the axes alone, as the others are not drawn."""
    axes = figure.axes[0]
    texts = [*axes.texts, axes.xaxis.label, axes.yaxis.label, *figure.legends[0].get_texts()]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
        texts += [label for place, label in ticks if low <= place <= high]
    return [text for text in texts if text.get_text().strip()]


def names(study, **changes):
    return set(drawings(study_answers(replace(study, **changes))))


def test_bars_stand_at_the_mean_of_each_arm(study):
    axes = drawn(study_answers(study), "text_to_image-geneval")[0].axes[0]
    rows = [r for r in study.rows if r["metric"] == "text_to_image/geneval/counting"]
    for arm, bars in zip(study.arms, axes.containers, strict=True):
        values = [r["value"] for r in rows if r["arm"] == arm]
        assert bars[0].get_height() == pytest.approx(sum(values) / len(values))
    assert [t.get_text() for t in axes.get_xticklabels()] == ["counting", "position"]


def test_each_primary_outcome_is_drawn_against_both_costs(study):
    answers = study_answers(study)
    assert {f"vqa-accuracy-by-{cost}" for cost in ("flops", "seconds")} <= set(drawings(answers))
    axes = drawn(answers, "vqa-accuracy-by-seconds")[0].axes[0]
    seeds = [points for points in axes.collections if len(points.get_offsets()) == 3]
    assert len(seeds) == len(study.arms), "a dot per seed"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds for a text", "vqa/accuracy")
    axes = drawn(answers, "text_to_image-exact-by-seconds")[0].axes[0]
    assert axes.get_xlabel() == "seconds for an image"


def test_a_front_stands_at_the_means_with_their_intervals_and_is_told_in_words(study):
    answers = study_answers(study)
    figure, words = drawn(answers, "text_to_image-exact-by-flops")
    axes = figure.axes[0]
    front = next(one for one in answers.fronts if "exact" in one.line.metric)
    assert "own training alone" in axes.get_xlabel(), "the needed runs of this study are not there"
    assert "Needed runs" in words.caption
    spans = [sorted(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) == 2]
    low, high = axes.get_ylim()
    for place in front.places:
        assert list(place.mean.interval) in spans
        assert low < place.mean.interval[0]
        assert place.mean.interval[1] < high, "no whisker is cut"
        assert f"{place.mean.arm} {place.mean.estimate:.3f} [" in words.text
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["transfusion: on the front, cheapest", "ar_vq: on the front, told"]


def test_generation_against_understanding_has_means_seeds_and_both_intervals(study):
    answers = study_answers(study)
    figure, words = drawn(answers, SIDES)
    of = {(mean.line.metric, mean.arm): mean for mean in answers.means}
    axes = figure.axes[0]
    spans = [tuple(map(tuple, line.get_data())) for line in axes.lines]
    for arm in study.arms:
        x, y = of["vqa/accuracy", arm], of["text_to_image/exact", arm]
        assert ((x.estimate, x.estimate), y.interval) in spans
        assert (x.interval, (y.estimate, y.estimate)) in spans
        seeds = [(x.by_seed[seed], y.by_seed[seed]) for seed in study.seeds]
        assert any(points.get_offsets().tolist() == list(map(list, seeds)) for points in
                   axes.collections)  # fmt: skip
    assert "95% interval of the mean, over seeds and prompts" in words.caption
    assert "n 512" in words.caption
    assert "3 seeds an arm" in words.caption


def test_failures_are_bars_as_long_as_what_is_not_right(failing):
    figure, words = drawn(failing, "text_to_image-failures")
    bars = figure.axes[0].containers
    for place, one in enumerate(failing.failures):
        assert sum(kind[place].get_width() for kind in bars) == pytest.approx(one.total)
        assert f"{one.arm}: {one.total:.3f} not right" in words.text
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["shape", "colour", "place", "too few", "too many", "refused"]
    assert "n 512 pictures a seed, 3 seeds an arm" in words.caption
    assert "text_to_image-errors" not in drawings(failing), "they are parts of one bar"


def test_a_figure_without_its_numbers_is_left_out(study):
    assert "text_to_image-failures" not in names(study)
    assert SIDES in names(study)
    drawing = [row for row in study.rows if row["metric"].startswith("text_to_image/")]
    assert SIDES not in names(study, rows=drawing)
    alone = [row for row in study.rows if row["arm"] == "ar_vq"]
    assert not any("-by-" in name or name == SIDES for name in names(study, rows=alone))
    slow = [row for row in study.rows if not row["metric"].startswith("generate/")]
    assert not any(name.endswith("-by-seconds") for name in names(study, rows=slow))
    assert names(study, rows=[]) == set()


def test_arms_of_controls_are_in_no_figure_of_arms(study):
    control = {"arm": study.arms[1], "expect": "worse", "than": study.arms[0]}
    with_control = {"info": {**study.info, "controls": [control]}}
    assert not any("-by-" in name or name == SIDES for name in names(study, **with_control))


@pytest.mark.parametrize("name", ["vqa-accuracy-by-flops", SIDES, "text_to_image-failures"])
def test_figures_of_one_column_have_text_that_can_be_read_and_does_not_overprint(failing, name):
    """A column is as wide as the page at 390 pixels, so the sizes are those on the page."""
    figure, _ = drawn(failing, name)
    assert figure.get_size_inches()[0] == WIDTH <= (390 - 2 * 16) / 96
    texts = texts_of(figure)
    assert min(text.get_fontsize() for text in texts) >= SMALL >= 11 * 72 / 96
    boxes = [text.get_window_extent(FigureCanvasAgg(figure).get_renderer()) for text in texts]
    width, height = figure.get_size_inches() * figure.dpi
    assert all(b.x0 >= -1 and b.x1 <= width + 1 and b.y0 >= -1 and b.y1 <= height + 1
               for b in boxes)  # fmt: skip
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]


def test_bars_of_many_categories_stand_in_rows_that_can_be_read(study):
    rows = [
        {**row, "metric": f"a/b/{n}"}
        for row in study.rows
        if row["metric"] == "text_to_image/exact"
        for n in range(30)
    ]
    figure, _ = drawn(study_answers(replace(study, rows=rows)), "a-b")
    assert figure.get_size_inches()[0] <= 12
    assert len(figure.axes) > 1
    assert sum(len(axes.get_xticks()) for axes in figure.axes) == 30


def test_files_are_readable_and_equal_again(study):
    answers = study_answers(study)
    paths = write_figures(answers)
    first = {path: path.read_bytes() for path in paths}
    assert {p.stem for p in paths} == set(drawings(answers))
    gone = study.folder / "figures" / "gone.svg"  # of arms that the study no longer has
    gone.write_bytes(next(path for path in paths if path.suffix == ".svg").read_bytes())
    assert {p.name for p in (study.folder / "figures").iterdir()} - {p.name for p in paths}
    write_figures(answers)
    assert set((study.folder / "figures").iterdir()) == set(paths)
    assert {p.suffix for p in paths} == {".svg", ".pdf"}
    for path in paths:
        if path.suffix == ".svg":
            assert xml.parse(path).getroot().tag.endswith("svg")
        assert path.read_bytes() == first[path]
