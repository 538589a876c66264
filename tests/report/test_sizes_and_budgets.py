"""The report of a study over sizes and budgets finds the law that its numbers were made of."""

import json
import math
import re

import numpy as np
import pytest
from chinchilla_law import loss, sizes_around

from unify.answers.scaling import final_loss, growth, series
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study as load_report
from unify.report.figures import drawings
from unify.report.page import render


def written(folder, seeds=(0, 1), budgets_tried=(1e15, 4e15, 1.6e16), tried=(0.4, 1, 2.5)):
    """A study of two arms, sizes and budgets, of invented numbers with known bests."""
    arms, budgets, rows = {}, {}, []
    generator = np.random.default_rng(0)
    for base, rise in (("slow", 0.5), ("fast", 1.5)):
        for budget in budgets_tried:
            _, sizes = sizes_around(budget, tried)
            for size in sizes:
                name = f"{base},dim={size:.0f},flops={budget}"
                arms[name] = {"paradigm": base, "file": "f", "doc": ""}
                budgets[name] = {"steps": 0, "samples": 0, "tokens": 0, "flops": budget}
                for seed in seeds:
                    run = folder / f"{name}-s{seed}-abc"
                    run.mkdir(parents=True)
                    info = {"arm": name, "seed": seed, "state": "finished", "steps": 20}
                    info["parameters"] = {"trainable": round(size)}
                    (run / "run.json").write_text(json.dumps(info))
                    final = loss(size, budget) + generator.normal(0, 1e-3)
                    records = [
                        {"kind": "train", "step": n, "loss": 99.0 if n < 18 else final}
                        for n in range(20)
                    ]
                    (run / "journal.jsonl").write_text("\n".join(map(json.dumps, records)))
                    odds = rise * math.log(budget / 4e15) + generator.normal(0, 0.05)
                    row = {"arm": name, "paradigm": base, "seed": seed, "n": 10_000}
                    value = round(10_000 / (1 + math.exp(-odds))) / 10_000
                    more = {"metric": "text_to_image/exact", "value": value}
                    rows.append({**row, **more, "low": None, "high": None, "passport": {}})
    facts = {"name": "scale", "arms": arms, "seeds": list(seeds), "grid": True, "budgets": budgets}
    (folder / "study.json").write_text(json.dumps({**facts, "primary": ["text_to_image/exact"]}))
    (folder / "results.json").write_text(json.dumps(rows))
    return load_report(folder)


def test_the_report_finds_what_was_put_in(tmp_path):
    study = written(tmp_path / "scale")
    by_base = series(study)
    assert set(by_base) == {"slow", "fast"}
    assert final_loss(study.runs[0]) < 99.0
    for arm, one in by_base.items():
        assert {best.where for best in one.optima.values()} == {"inside"}
        assert growth(arm, one).exponent == pytest.approx(0.521, abs=0.03)
        assert one.nearest(1e15).size == pytest.approx(sizes_around(1e15)[0], rel=0.01)
    assert {"scaling-loss", "scaling-text_to_image-exact"} <= set(drawings(study_answers(study)))
    page = render(study)
    sentence = re.search(r"slow and fast cross at ([\d.]+ \w) \[([\d.]+ \w), ([\d.]+ \w)\]\.", page)
    assert sentence is not None
    middle, low, high = (float(text.removesuffix(" T")) / 1000 for text in sentence.groups())
    assert low < 4 < high
    assert middle == pytest.approx(4, rel=0.05)
    start = page.partition("<nav")[0]
    assert "18 arms (slow and fast at 9 points of a grid), 2 seeds each" in start
    assert "slow: its best size grows as the budget to the power of 0.5" in start
    assert "of 9 pairs of arms that are compared can be told apart" in start
    assert "text_to_image/exact: slow and fast cross at" in start
    assert len(study.pairs) == 9, "at the same budget and size alone"
    assert page.count("not both logged what they read") == 9 + 1, "each pair, and all in a sentence"


def test_two_budgets_give_no_exponent(tmp_path):
    study = written(tmp_path / "scale", budgets_tried=(1e15, 4e15))
    for arm, one in series(study).items():
        assert growth(arm, one).exponent is None
    page = render(study)
    assert "it lies inside of what was tried at 2 of the budgets, and an exponent takes 3" in page
    assert "to the power of" not in page


def test_four_sizes_bound_the_best_size_and_three_do_not(tmp_path):
    four = series(written(tmp_path / "four", tried=(0.4, 0.8, 1.25, 2.5)))
    for one in four.values():
        for budget, best in one.optima.items():
            low, high = best.interval
            assert low < sizes_around(budget)[0] < high
    three = series(written(tmp_path / "three"))
    assert {best.interval for one in three.values() for best in one.optima.values()} == {None}


def test_one_budget_is_no_scaling(tmp_path):
    study = written(tmp_path / "scale")
    study.info["budgets"] = {a: {**b, "flops": 1e15} for a, b in study.info["budgets"].items()}
    assert series(study) == {}
    assert "Sizes and budgets" not in render(study)
