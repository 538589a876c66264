"""What unify did not write in a study's folder is never replaced, nor removed."""

import shutil

import pytest
from report_study import write_study

from unify.report.own_files import OURS, check_own_files
from unify.report.page import write_report

THEIRS = {
    "study.json": '{"patients": 3}',
    "results.json": '{"mine": [1, 2]}',
    "answers.json": '["yes"]',
    "report.html": "<html><title>Annual report</title></html>",
    "report.md": "# Minutes\n\nAll agreed.\n",
    "results.csv": "name,age\nx,3\n",
    "table.tex": "\\begin{tabular}{l}x\\end{tabular}",
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("own") / "study", seeds=(0, 1), steps=20)
    write_report(folder)
    return folder


@pytest.mark.fault(42)
@pytest.mark.parametrize("name", OURS)
def test_a_file_of_another_s_is_named_and_stays(tmp_path, name):
    (tmp_path / name).write_text(THEIRS[name])
    with pytest.raises(ValueError, match=f"{name} is not of unify's making.*move it away"):
        check_own_files(tmp_path)
    assert (tmp_path / name).read_text() == THEIRS[name]


def test_ours_are_known_again_whole_cut_and_empty(reported, tmp_path):
    check_own_files(reported)
    for name in OURS:
        whole = (reported / name).read_bytes()
        for length in {0, 1, 40, len(whole) // 2, len(whole) - 1, len(whole)}:
            if name in ("report.html", "report.md") and 0 < length < len(whole) // 2:
                continue  # no mark yet
            (tmp_path / name).write_bytes(whole[:length])
            check_own_files(tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.fault(42, times=2)
def test_figures_of_another_s_stay_and_are_not_on_the_page(reported, tmp_path):
    study = shutil.copytree(reported, tmp_path / "study")
    made = sorted((study / "figures").iterdir())
    assert made, "the study has figures"
    theirs = study / "figures" / "sketch.svg"
    theirs.write_text("<svg xmlns='http://www.w3.org/2000/svg'><title>sketch</title></svg>")
    old = study / "figures" / "of-earlier-settings.svg"
    old.write_bytes(next(path for path in made if path.suffix == ".svg").read_bytes())
    page = write_report(study).read_text()
    assert theirs.exists()
    assert "sketch" not in page
    assert not old.exists(), "one of ours goes, as before"
    assert sorted((study / "figures").iterdir()) == sorted([*made, theirs])
    made[0].write_text("mine")
    with pytest.raises(ValueError, match=f"{made[0].name} is not of unify's making"):
        write_report(study)
    assert made[0].read_text() == "mine"
