"""One self-contained HTML page for a study: `write_report(folder)`.

No script, no network, no file beside it: styles inline, plots as SVG, pictures as data URIs,
folding by <details>. Equal input gives equal bytes: whatever is dated is dated by the study.
"""

from collections.abc import Sequence
from pathlib import Path

from unify.answers.score_lines import MANY, Line, score_lines
from unify.answers.study_records import StudyRecord, load_study
from unify.answers.summary import summary
from unify.answers.words import number
from unify.report import (
    arms_and_conditions,
    claims_and_controls,
    compared,
    difference_table,
    equal_tuning,
    figures,
    gradient_panels,
    learning_curves,
    matched,
    provenance,
    results,
    samples,
    sizes_and_budgets,
)
from unify.report.html import Html, Node, swatch, tag
from unify.report.style import CSS
from unify.report.table_files import write_tables

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# Every section is `section(study, lines) -> Html | None`; one that is None is left out.
SECTIONS = (
    ("compared", "What was compared", compared.section),
    ("matched", "Budget and data", matched.section),
    ("results", "Results", results.section),
    ("scaling", "Sizes and budgets", sizes_and_budgets.section),
    ("tuning", "Tuning", equal_tuning.section),
    ("claims", "Claims", claims_and_controls.claims_section),
    ("differences", "Differences", difference_table.section),
    ("interaction", "Arms and conditions", arms_and_conditions.section),
    ("controls", "Controls", claims_and_controls.controls_section),
    ("figures", "Figures", figures.section),
    ("samples", "Samples", samples.section),
    ("curves", "Learning curves", learning_curves.section),
    ("gradients", "Gradients", gradient_panels.section),
    ("reproduce", "How to reproduce", provenance.reproduce_section),
    ("environment", "Environment", provenance.environment_section),
    ("measured", "How each number was measured", provenance.measured_section),
)


def write_report(study_folder: Path | str, trusted_files: bool = False) -> Path:
    """Write <study_folder>/report.html from what the study left there; returns its path.

    Beside it go report.md, results.csv, table.tex and figures/. `trusted_files`: whether a figure
    that the study names may be loaded from its Python file.
    """
    study = load_study(Path(study_folder), trusted_files)
    write_tables(study, summary(study, score_lines(study.rows)))
    figures.write_figures(study)
    path = study.folder / "report.html"
    path.write_bytes(render(study).encode("utf-8", "replace"))
    return path


def render(study: StudyRecord) -> str:
    """The page; its figures are those that `write_figures` left in the study's folder."""
    lines = score_lines(study.rows)
    made = [(key, name, section(study, lines)) for key, name, section in SECTIONS]
    sections = [(key, name, part) for key, name, part in made if part is not None]
    title = study.info.get("title") or study.info.get("name") or study.folder.name
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · unify"),
        tag("style", Html(CSS)),
    )
    contents = tag("nav", *(tag("a", name, href=f"#{key}") for key, name, _ in sections))
    main = tag("main", *(tag("section", tag("h2", n), part, id=k) for k, n, part in sections))
    footer = tag("footer", "Made by unify from the files of the study folder.")
    page = tag("body", _header(study, str(title), lines), contents, main, footer)
    return "<!doctype html>\n" + tag("html", head, page, lang="en") + "\n"


def _header(study: StudyRecord, title: str, lines: Sequence[Line]) -> Html:
    """Title, question, arms, the first paragraph, and the primary outcomes in large figures."""
    name = study.info.get("name") or study.folder.name
    parts: list[Node] = [
        tag("p", "unify study", " · ", name, class_="kicker"),
        tag("h1", title),
    ]
    if study.info.get("question"):
        parts.append(tag("p", study.info["question"], class_="question"))
    created = str(study.info.get("created") or "").replace("T", " ")[:16]
    arms = [tag("span", swatch(i), arm, class_="arm-name") for i, arm in enumerate(study.arms)]
    parts.append(tag("p", *arms, tag("span", created, class_="quiet"), class_="meta"))
    parts.append(tag("p", summary(study, lines), class_="summary"))
    primary = study.primary if len(study.arms) <= MANY else []
    cards = [_headline(study, line) for line in lines if line.metric in primary]
    parts.append(tag("div", *cards, class_="headlines") if cards else None)
    return tag("header", *parts)


def _headline(study: StudyRecord, line: Line) -> Html:
    """One primary metric, large."""
    values = []
    for index, arm in enumerate(study.arms):
        cell = line.cells.get(arm)
        if cell is None and line.note:
            continue
        value = "n/a" if cell is None else number(cell.value)
        span = ""
        if cell is not None and cell.span is not None:
            kind = "range" if len(cell.rows) > 1 else "95%"
            span = f"{kind} {'–'.join(map(number, cell.span))}"
        figure = tag("span", value, class_="figure")
        who = tag("span", swatch(index), arm, class_="arm-name")
        values.append(tag("div", figure, who, tag("span", span, class_="interval")))
    return tag(
        "div",
        tag("p", line.metric, tag("span", "primary", class_="badge primary")),
        tag("div", *values, class_="figures"),
        results.forest(line, study.arms, large=True),
        tag("p", line.note, class_="note") if line.note else None,
        class_="headline",
    )
