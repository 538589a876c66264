"""The report for other programs: report.md, results.csv, table.tex, beside report.html."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from unify.report import budget_and_data, claims, differences
from unify.report.study_records import StudyRecord
from unify.report.tables import Line, cell_text, lines
from unify.support.atomic_files import write_atomically

COLUMNS = ("arm", "paradigm", "seed", "metric", "value", "low", "high", "n", "run")
TEX = r"{} {{\footnotesize [{}, {}]}}"
SPECIAL = re.compile(r"([&%$#_{}])")


def write_tables(study: StudyRecord, summary: str) -> list[Path]:
    """Paths of what was written; equal input gives equal bytes."""
    found = lines(study.rows)
    written = {
        "results.csv": as_csv(study),
        "report.md": markdown(study, found, summary),
        "table.tex": latex(study, found),
    }
    for name, text in written.items():
        write_atomically(study.folder / name, text)
    return [study.folder / name for name in written]


def as_csv(study: StudyRecord) -> str:
    """One row per arm, seed and metric, with the folder of the run."""
    folders = {(run.arm, run.seed): run.folder.name for run in study.runs}
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**r, "run": folders.get((r["arm"], r["seed"]), "")} for r in study.rows)
    return out.getvalue()


def markdown(study: StudyRecord, found: Sequence[Line], summary: str) -> str:
    """What the page says, without its pictures."""
    title = study.info.get("title") or study.info.get("name") or study.folder.name
    said = [f"# {_plain(title)}", _plain(study.info.get("question") or ""), _plain(summary)]
    said += ["## Results", f"{_reading(study)} n: trials of each run."]
    said.append(markdown_table(["metric", "n", *study.arms], [_line(study, x) for x in found]))
    primary, _ = differences.comparisons(study, found)
    told = [c for c in primary if c.difference.parts]
    if told:
        heads = ["metric", "arms", "difference", *differences.FIGURES]
        rows = [[*_difference(c), *differences.figures(c)] for c in told]
        said += ["## Differences", differences.READING, markdown_table(heads, rows)]
    held = claims.controls(study, found)
    if held:
        heads = ["control", "metric", "difference", "here"]
        said += ["## Controls", markdown_table(heads, [_control(each) for each in held])]
    tried = claims.claims(study, found)
    if tried:
        heads = ["claim", "arms", "metric", "difference", "here"]
        said += ["## Claims", markdown_table(heads, [_claim(claim, one) for claim, one in tried])]
    spent = [[q.name, *(q.text(a) for a in study.arms)] for q in budget_and_data.budget(study)]
    said += ["## Budget", markdown_table(["", *study.arms], spent)] if spent else []
    return "\n\n".join(part for part in said if part) + "\n"


def _reading(study: StudyRecord) -> str:
    several = study.seeds_done[1] > 1
    what = "mean [lowest, highest of the seeds]" if several else "value [95% interval]"
    return f"{study.seeds_said} per arm; {what}."


def _line(study: StudyRecord, line: Line) -> list[str]:
    trials = " / ".join(dict.fromkeys(cell.trials for cell in line.cells.values() if cell.trials))
    return [_name(line), trials, *(cell_text(line.cells.get(a)) for a in study.arms)]


def _difference(one: differences.Comparison) -> list[str]:
    return [one.line.metric, f"{one.first} − {one.second}", one.figure + one.span, one.words]


def _control(held: claims.Held) -> list[str]:
    figures = held.one.figure + held.one.span if held.one else "n/a"
    return [held.text, held.metric, figures, held.outcome]


def _claim(claim: dict[str, str], one: differences.Comparison | None) -> list[str]:
    figures = "n/a" if one is None else _difference(one)[2]
    arms = f"{claim['higher']} − {claim['lower']}"
    said = f"{claim['paper']}: {claim['says']}"
    return [said, arms, claim["metric"], figures, claims.judgement(one)]


def _name(line: Line) -> str:
    return f"{line.metric} ({line.note})" if line.note else line.metric


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    every = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_plain(c) for c in row) + " |" for row in every)


def _plain(text: str) -> str:
    """On one line, and nothing in it is markup."""
    return re.sub(r"([\\`*<>|])", r"\\\1", " ".join(str(text).split()))


def latex(study: StudyRecord, found: Sequence[Line]) -> str:
    """A booktabs table of the primary outcomes, or of all where none was named."""
    chosen = [line for line in found if line.metric in study.primary] or list(found)
    head = " & ".join(["", *map(_tex, study.arms)])
    body = [
        " & ".join([_tex(_name(line)), *(cell_text(line.cells.get(a), TEX) for a in study.arms)])
        for line in chosen
    ]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
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
    escaped = SPECIAL.sub(r"\\\1", text.replace("\\", "/"))
    return escaped.replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")
