"""report.md, results.csv and table.tex say what the page says."""

import csv
import io
import json

import pytest
from report_study import write_study

from unify.answers.score_lines import score_lines
from unify.answers.study_answers import study_answers
from unify.answers.study_records import StudyRecord, load_study
from unify.metrics.metric import proportion
from unify.report.page import write_report
from unify.report.table_files import as_csv, latex, markdown


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "three", seeds=(0, 1, 2), steps=20)
    return load_study(folder)


def test_every_row_is_in_the_csv(study):
    rows = list(csv.DictReader(io.StringIO(as_csv(study))))
    assert len(rows) == len(study.rows)
    for result, row in zip(rows, study.rows, strict=True):
        assert (result["arm"], result["metric"], result["seed"]) == (
            row["arm"], row["metric"], str(row["seed"]),
        )  # fmt: skip
        assert result["value"] == ("" if row["value"] is None else str(row["value"]))
        assert result["run"].startswith(f"{row['arm']}-s{row['seed']}-")


def test_the_markdown_has_every_metric_arm_and_difference(study):
    text = markdown(study_answers(study), "A summary.")
    table = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert ["| metric", "n", "ar_vq", "transfusion |"] in table
    names = {row[0].removeprefix("| ") for row in table}
    assert "text/perplexity (lower is better)" in names
    assert {n.partition(" (")[0] for n in names} >= {row["metric"] for row in study.rows}
    assert {len(row) for row in table} == {7, 4, 10, 3}, "arms, results, differences, budget"
    assert "ar_vq − transfusion" in text
    assert ["| Optimizer steps", "20", "20 |"] in table


def test_rows_say_what_n_counts_and_how_many_prompts_are_distinct(tmp_path):
    score = proportion("a/exact", [True] * 8, better="higher", unit="prompts", prompts=[0, 1] * 4)
    rows = [{"arm": "x", "paradigm": "X", "seed": 0, **score.row()}]
    study = StudyRecord(tmp_path, {"arms": {"x": {}}, "seeds": [0]}, rows, [])
    (line,) = score_lines(rows)
    assert line.trials == "8 prompts, 2 distinct"
    assert "8 prompts, 2 distinct" in markdown(study_answers(study), "")
    assert "over prompts, of this one model" in markdown(study_answers(study), "")
    (row,) = csv.DictReader(io.StringIO(as_csv(study)))
    assert (row["n"], row["unit"], row["distinct"], row["better"]) == (
        "8",
        "prompts",
        "2",
        "higher",
    )


def test_the_latex_table_has_the_primary_outcomes_with_balanced_columns(study):
    text = latex(study, score_lines(study.rows))
    body = text.split("\\midrule")[1].split("\\bottomrule")[0].strip().splitlines()
    assert len(body) == len(study.primary)
    assert all(row.count(" & ") == 2 and row.endswith(r"\\") for row in body)
    assert body[0].startswith(r"text\_to\_image/exact & 0.")


def test_hostile_names_are_no_markup(tmp_path):
    folder = write_study(tmp_path / "x", steps=20)
    info = json.loads((folder / "study.json").read_text())
    info["title"] = "a | b <script>\n# c & 100% `d`"
    (folder / "study.json").write_text(json.dumps(info))
    text = markdown(study_answers(load_study(folder)), "")
    assert text.splitlines()[0] == r"# a \| b \<script\> # c & 100% \`d\`"


@pytest.mark.slow
def test_the_report_writes_them_all(tmp_path):
    folder = write_study(tmp_path / "x", steps=20)
    write_report(folder)
    first = {
        name: (folder / name).read_bytes() for name in ("report.md", "results.csv", "table.tex")
    }
    write_report(folder)
    assert first == {name: (folder / name).read_bytes() for name in first}, "equal bytes again"


@pytest.mark.fault(37)
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "\uff1d"])
def test_no_text_of_the_csv_is_a_formula(study, start):
    name = f"{start}1+cmd|' /C calc'!A0"
    row = {**study.rows[0], "arm": name, "value": -0.5, "metric": "a\x1b[2J\u202eb"}
    text = as_csv(StudyRecord(study.folder, study.info, [row], study.runs, {}, [], False))
    (result,) = csv.DictReader(io.StringIO(text))
    assert result["arm"] == f"'{name}"
    assert result["value"] == "-0.5"
    assert result["metric"] == "a\\u001b[2J\\u202eb"
