"""The report for other programs: report.md, results.csv, table.tex, beside report.html."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unify.answers.arms_overview import READING as arms_reading
from unify.answers.arms_overview import arms_overview, overview_heads
from unify.answers.budget import budget
from unify.answers.claims import TriedClaim
from unify.answers.comparison import Comparison
from unify.answers.controls import TriedControl
from unify.answers.difference_cells import (
    columns,
    judged_texts,
    limits_text,
    notes_text,
    reading,
)
from unify.answers.score_lines import Line, cell_text
from unify.answers.study_answers import Answers
from unify.answers.study_records import StudyRecord
from unify.support.atomic_files import write_atomically
from unify.support.terminal import printable

CSV_COLUMNS = (
    *("arm", "paradigm", "seed", "metric", "value", "low", "high"),
    *("n", "unit", "distinct", "better", "run"),
)
TEX_HEAD = r"% needs \usepackage{booktabs}"
TEX = r"{} {{\footnotesize [{}, {}]}}"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
SPECIAL = re.compile(r"([&%$#_{}])")


def write_tables(answers: Answers, summary: str) -> list[Path]:
    """Write the three files; returns their paths. Equal input gives equal bytes."""
    study, lines = answers.study, answers.lines
    written = {
        "results.csv": as_csv(study),
        "report.md": markdown(answers, summary),
        "table.tex": latex(study, lines),
    }
    for name, text in written.items():
        write_atomically(study.folder / name, text)
    return [study.folder / name for name in written]


def as_csv(study: StudyRecord) -> str:
    """One row per own arm, seed and metric, with the folder of the run."""
    folders = {(run.arm, run.seed): run.folder.name for run in study.runs}
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    own = [row for row in study.rows if not study.is_published(row["arm"])]
    rows = ({**r, "run": folders.get((r["arm"], r["seed"]), "")} for r in own)
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A value of the CSV; a text that a spreadsheet would run as a formula follows a `'`."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def markdown(answers: Answers, summary: str) -> str:
    """The page's tables and its first paragraph, `summary`, without its pictures."""
    study, lines = answers.study, answers.lines
    title = study.info.get("title") or study.info.get("name") or study.folder.name
    parts = [f"# {_plain(title)}", _plain(study.info.get("question") or ""), _plain(summary)]
    parts += ["## Arms", arms_reading, _arms(answers)]
    parts += ["## Results", f"{_reading(study)} n: of each run."]
    parts.append(markdown_table(["metric", "n", *study.arms], [_line(study, x) for x in lines]))
    parts += _answered(answers)
    spent = [[q.name, *(q.text(a) for a in study.arms)] for q in budget(study)]
    parts += ["## Budget", markdown_table(["", *study.arms], spent)] if spent else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _arms(answers: Answers) -> str:
    """A row for each arm: its scores, and what it took in all."""
    rows = [
        [f"{one.arm} (control)" if one.control else one.arm, *one.means, *one.costs]
        for one in arms_overview(answers)
    ]
    return markdown_table(["arm", *overview_heads(answers)], rows)


def _answered(answers: Answers) -> list[str]:
    """The tables of differences, controls and claims."""
    parts = []
    primary = answers.primary
    if primary and len(answers.study.seeds) > 1:
        study, more = answers.study, columns(answers.study)
        rows = [[*_difference(c), *judged_texts(c)[: len(more)]] for c in primary]
        table = markdown_table(["metric", "arms", "difference", *more], rows)
        parts += ["## Differences", reading(study), limits_text(study, primary), table]
    if answers.controls:
        heads = ["control", "metric", "difference", "here"]
        rows = [_control(each) for each in answers.controls]
        parts += ["## Controls", markdown_table(heads, rows)]
    if answers.claims:
        heads = ["claim", "arms", "metric", "difference", "here"]
        rows = [_claim(each) for each in answers.claims]
        parts += ["## Claims", markdown_table(heads, rows)]
    return parts


def _reading(study: StudyRecord) -> str:
    several = study.seeds_done[1] > 1
    one = "value [95% interval over prompts, of this one model]"
    values = "mean [lowest, highest of the seeds]" if several else one
    return f"{study.seeds_in_words} per arm; {values}."


def _line(study: StudyRecord, line: Line) -> list[str]:
    each = dict.fromkeys(cell.trials for cell in line.cells.values() if cell.trials)
    trials = line.trials or f"{' / '.join(each)} {line.unit}".strip()
    return [line.full_name, trials, *(cell_text(line.cells.get(a)) for a in study.arms)]


def _difference(one: Comparison) -> list[str]:
    return [one.name, f"{one.first} − {one.second}", _with_interval(one)]


def _control(control: TriedControl) -> list[str]:
    return [control.text, control.metric, _with_interval(control.one), control.outcome]


def _claim(claim: TriedClaim) -> list[str]:
    text, arms = f"{claim.paper}: {claim.says}", f"{claim.better} − {claim.worse}"
    return [text, arms, claim.metric, _with_interval(claim.one), claim.judgement]


def _with_interval(one: Comparison | None) -> str:
    """The difference, its interval, and what was left out or changed; or why there is none."""
    if one is None:
        return "n/a"
    notes = notes_text(one)
    return one.mean_text + one.interval_text + (f" ({notes})" if notes else "")


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are text: nothing in them is markup."""
    every = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_plain(c) for c in row) + " |" for row in every)


def _plain(text: str) -> str:
    """The text on one line, with what Markdown reads as markup escaped."""
    return re.sub(r"([\\`*<>|])", r"\\\1", printable(" ".join(str(text).split())))


def latex(study: StudyRecord, lines: Sequence[Line]) -> str:
    """A booktabs table of the primary outcomes, or of all where none was named."""
    chosen = [line for line in lines if line.metric in study.primary] or list(lines)
    head = " & ".join(["", *map(_tex, study.arms)])
    body = [
        " & ".join([_tex(line.full_name), *(cell_text(line.cells.get(a), TEX) for a in study.arms)])
        for line in chosen
    ]
    return "\n".join(
        [
            TEX_HEAD,
            f"% {_reading(study)}",
            f"\\begin{{tabular}}{{l{'r' * len(study.arms)}}}",
            "\\toprule",
            head + r" \\",
            "\\midrule",
            *(row + r" \\" for row in body),
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def _tex(text: str) -> str:
    escaped = SPECIAL.sub(r"\\\1", printable(" ".join(text.split())).replace("\\", "/"))
    return escaped.replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")
