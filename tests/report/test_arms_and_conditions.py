"""The report of a grid over several arms: a table, shares of variance, order of the arms."""

import json

import pytest
from report_study import write_results

from unify.answers.study_records import load_study
from unify.report.page import render

MEANS = {"a": (0.9, 0.5), "b": (0.8, 0.4), "c": (0.3, 0.6)}  # c changes places with both
POINTS = ("", "caption_noise=0.3")


def row(arm, seed, value):
    passport = {"checker": "1", "prompts": "p"}
    return {"arm": arm, "paradigm": "P", "seed": seed, "metric": "vqa/accuracy", "value": value,
            "n": 100, "low": value, "high": value, "passport": passport}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    names = {(a, p): f"{a},{p}" if p else a for a in MEANS for p in POINTS}
    info = {"name": "g", "grid": True, "seeds": [0, 1, 2], "primary": ["vqa/accuracy"],
            "arms": {name: {"paradigm": "P", "file": "f"} for name in names.values()}}  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(info))
    write_results(tmp_path, [
        row(names[a, p], s, MEANS[a][i] + 0.01 * s + 0.001 * (i == s))
        for a in MEANS for i, p in enumerate(POINTS) for s in range(3)
    ])  # fmt: skip
    return tmp_path


def test_arms_and_conditions_are_told_apart(folder):
    page = render(load_study(folder))
    assert 'id="interaction"' in page
    section = page.partition('id="interaction"')[2].partition("</section>")[0]
    assert "as it is" in section
    assert "caption_noise=0.3" in section
    assert "in their combination (p &lt; 0.001)" in section
    assert "tau -0.33 on average over 1 pair of conditions" in section


def test_a_grid_compares_what_differs_in_one_thing(folder):
    pairs = load_study(folder).pairs
    assert ("a", "b") in pairs
    assert ("a", "a,caption_noise=0.3") in pairs
    assert ("a,caption_noise=0.3", "b,caption_noise=0.3") in pairs
    assert ("a", "b,caption_noise=0.3") not in pairs
    assert len(pairs) == 9


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_cell_without_a_score_is_said(folder, value):
    rows = json.loads((folder / "results.json").read_text())
    for one in rows:
        if one["arm"] == "b":
            one["value"] = value
    write_results(folder, rows)
    assert "Not every arm has a score under every condition, or nothing varies." in render(
        load_study(folder)
    )


def test_a_study_without_a_grid_has_no_such_section(folder):
    info = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**info, "grid": False}))
    assert 'id="interaction"' not in render(load_study(folder))
