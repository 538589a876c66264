"""All pairs: each comparison once, its numbers those of answers.json, none without intervals."""

import html
import json
import re
from dataclasses import replace

import pytest
from report_study import ARMS, write_study

from unify.answers.answers_json import answers_content
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.answers.words import number, signed
from unify.report.pair_matrix import section

THIRD = "a third"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three arms: the third has the outcomes of the second, under seeds in another order."""
    folder = write_study(tmp_path_factory.mktemp("runs") / "five", tuple(range(5)), 5)
    study = load_study(folder)
    others = [run for run in study.runs if run.arm == "transfusion"]
    moved = [
        replace(run, arm=THIRD, seed=seed)
        for run, seed in zip(others, (1, 2, 3, 4, 0), strict=True)
    ]
    seeds = {run.folder: run.seed for run in moved}
    rows = [
        {**row, "arm": THIRD, "seed": seeds[run.folder]}
        for run in others
        for row in study.rows
        if (row["arm"], row["seed"]) == (run.arm, run.seed)
    ]
    arms = {**study.info["arms"], THIRD: study.info["arms"]["transfusion"]}
    info = {**study.info, "arms": arms}
    return replace(study, info=info, runs=study.runs + moved, rows=study.rows + rows)


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def with_info(study, **info):
    return study_answers(replace(study, info={**study.info, **info}))


def test_each_pair_stands_once_with_the_numbers_of_the_answers(study):
    answers = study_answers(study)
    page = section(answers)
    pairs = [one for one in answers_content(answers)["differences"] if one["primary"]]
    assert len(pairs) == 6
    cells = re.findall(r"<td>.*?</td>", page)
    assert len(cells) == 6
    for one in pairs:
        told = one["improvement"]
        shown = []
        for sign, about in ((1, 0), (-1, 1)):  # the row's arm is the better by its mean
            p = about + sign * told["probability"]
            ends = sorted(about + sign * end for end in told["simultaneous"])
            often = f"P {number(p)} [{number(ends[0])}, {number(ends[1])}]"
            shown.append(signed(sign * one["estimate"]) in page and often in page)
        assert any(shown), one
    assert "seeds 0 to 4; 512 distinct prompts; 6 tests in the family" in text_of(page)


def test_the_row_is_the_better_arm_and_the_direction_is_turned_with_it(study):
    answers = study_answers(study)
    for table in re.findall(r"<table.*?</table>", section(answers)):
        means = [float(x) for x in re.findall(r'class="interval">([\d.]+) \[', table)]
        assert means == sorted(means, reverse=True)
        for value in re.findall(r'class="value">([+−][\d.]+)<', table):
            assert value.startswith("+")
        for p in re.findall(r"<div class=\"interval\">P ([\d.]+)", table):
            assert float(p) >= 0.5
    assert '<b class="value">' in section(answers), "what is told apart is bold"


def test_every_number_is_there_for_readers_who_do_not_see_it(study):
    page = section(study_answers(study))
    plots = re.findall(r"<svg[^>]*role=\"img\".*?</svg>", page)
    assert len(plots) == 6
    assert all(re.search(r"<title>P [\d.]+ \[[\d., ]+\]</title>", plot) for plot in plots)
    assert page.count("<caption>") == 2
    assert page.count('scope="row"') == 4


def test_arms_that_are_not_compared_say_so(study):
    page = section(with_info(study, baseline=THIRD))
    assert text_of(page).count("not compared") == 2, "one pair, of two outcomes"


def test_it_is_left_out_without_intervals_and_with_very_many_arms(study):
    assert section(with_info(study, primary=[])) is None
    one = replace(study, rows=[row for row in study.rows if row["seed"] == 0])
    assert section(study_answers(one)) is None
    two = replace(study, rows=[row for row in study.rows if row["seed"] < 2])
    assert section(study_answers(two)) is None
    alone = [{"arm": arm, "expect": "same", "than": "ar_vq"} for arm in (THIRD, "transfusion")]
    assert section(with_info(study, controls=alone)) is None


def test_without_outcomes_by_prompt_the_pairs_of_seeds_are_told(study):
    page = section(with_info(study, primary=["caption/exact"]))
    assert "pairs of seeds" in page
    assert "<svg viewBox" not in page
    assert "scores by seed alone" in page


def test_the_answers_are_strict_json(study):
    content = answers_content(study_answers(study))
    assert len(ARMS) + 1 == len({one["arm"] for one in content["means"]})
    json.dumps({k: content[k] for k in ("means", "fronts", "failures", "training_flops")},
               allow_nan=False)  # fmt: skip
