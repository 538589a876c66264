"""One self-contained HTML page for a study: `write_report(folder)`.

No script, no network, no file beside it: styles inline, plots as SVG, pictures as data URIs,
folding by <details>. Equal input gives equal bytes: whatever is dated is dated by the study.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from unify.answers.answer_block import answer_block
from unify.answers.answers_json import write_answers
from unify.answers.score_lines import MANY, Line
from unify.answers.study_answers import Answers, study_answers
from unify.answers.study_records import StudyRecord, load_study
from unify.answers.summary import summary
from unify.answers.words import number
from unify.report import (
    arms_and_conditions,
    arms_table,
    chosen_samplers,
    claims_and_controls,
    compared,
    difference_table,
    equal_tuning,
    figures,
    gradient_panels,
    learning_curves,
    matched,
    pair_matrix,
    provenance,
    results,
    samples,
    sizes_and_budgets,
)
from unify.report.document import document
from unify.report.forest import forest
from unify.report.html import Html, Node, fold, swatch, tag
from unify.report.own_files import check_own_files
from unify.report.table_files import write_tables
from unify.support.atomic_files import write_atomically


def _of_scores(
    section: Callable[[StudyRecord, Sequence[Line]], Html | None],
) -> Callable[[Answers], Html | None]:
    """A section that shows what was measured, and needs none of the answers."""
    return lambda answers: section(answers.study, answers.lines)


# Every section is `section(answers) -> Html | None`; one that is None is left out.
SECTIONS = (
    ("samples", "Samples", _of_scores(samples.section)),
    ("arms", "Arms", arms_table.section),
    ("differences", "Differences", difference_table.section),
    ("pairs", "All pairs", pair_matrix.section),
    ("claims", "Claims", claims_and_controls.claims_section),
    ("controls", "Controls", claims_and_controls.controls_section),
    ("results", "Results", _of_scores(results.section)),
    ("scaling", "Sizes and budgets", sizes_and_budgets.section),
    ("interaction", "Arms and conditions", arms_and_conditions.section),
    ("compared", "What was compared", _of_scores(compared.section)),
    ("matched", "Budget and data", _of_scores(matched.section)),
    ("tuning", "Tuning", _of_scores(equal_tuning.section)),
    ("samplers", "Sampler settings", _of_scores(chosen_samplers.section)),
    ("figures", "Figures", figures.section),
    ("curves", "Learning curves", _of_scores(learning_curves.section)),
    ("gradients", "Gradients", _of_scores(gradient_panels.section)),
    ("reproduce", "Reproduce", _of_scores(provenance.reproduce_section)),
    ("environment", "Environment", _of_scores(provenance.environment_section)),
    ("measured", "Measurements", _of_scores(provenance.measured_section)),
)


def write_report(study_folder: Path | str, trusted_files: bool = False) -> Path:
    """Write <study_folder>/report.html from what the study left there; returns its path.

    Beside it go answers.json, report.md, results.csv, table.tex and figures/. `trusted_files`:
    whether a figure that the study names may be loaded from its Python file.
    """
    study = load_study(Path(study_folder), trusted_files)
    check_own_files(study.folder)
    answers = study_answers(study)
    write_answers(answers)
    write_tables(answers, f"{' '.join(answer_block(answers))}\n\n{summary(answers)}")
    figures.write_figures(answers)
    path = study.folder / "report.html"
    write_atomically(path, _page(answers).encode("utf-8", "replace"))
    return path


def render(study: StudyRecord) -> str:
    """The page; its figures are those that `write_figures` left in the study's folder."""
    return _page(study_answers(study))


def _page(answers: Answers) -> str:
    study = answers.study
    made = [(key, name, section(answers)) for key, name, section in SECTIONS]
    sections = [(key, name, part) for key, name, part in made if part is not None]
    title = study.info.get("title") or study.info.get("name") or study.folder.name
    header = _header(answers, str(title))
    return document(title, header, sections, "Made by unify from the files of the study folder.")


def _header(answers: Answers, title: str) -> Html:
    """Title, question, arms, the answer with its figure, and the whole account folded."""
    study = answers.study
    name = study.info.get("name") or study.folder.name
    parts: list[Node] = [
        tag("p", "unify study", " · ", name, class_="kicker"),
        tag("h1", title),
    ]
    if study.info.get("question"):
        parts.append(tag("p", study.info["question"], class_="question"))
    created = str(study.info.get("created") or "").replace("T", " ")[:16]
    preset = [tag("span", study.preset, class_="badge")] if study.preset else []
    dated = tag("span", created, class_="quiet")
    parts.append(tag("p", *_arms(study), *preset, dated, class_="meta"))
    answer = [tag("span", text, " ") for text in answer_block(answers)]
    parts.append(tag("p", *answer, class_="summary answer"))
    parts.append(forest(answers) or _headlines(answers))
    account = tag("p", summary(answers), class_="account")
    parts.append(fold("What was done and what came out, in full", account))
    return tag("header", *parts)


def _arms(study: StudyRecord) -> list[Html]:
    """The names of the arms; those of controls apart."""
    names = [tag("span", swatch(i), arm, class_="arm-name") for i, arm in enumerate(study.arms)]
    compared = len(study.arms) - len(study.control_arms)
    apart = [tag("span", "controls:", class_="quiet")] if names[compared:] else []
    return [*names[:compared], *apart, *names[compared:]]


def _headlines(answers: Answers) -> Html | None:
    """The primary outcomes in large figures, where no difference over seeds can be drawn."""
    study = answers.study
    primary = study.primary if len(study.arms) <= MANY else []
    cards = [_headline(study, line) for line in answers.lines if line.metric in primary]
    return tag("div", *cards, class_="headlines") if cards else None


def _headline(study: StudyRecord, line: Line) -> Html:
    """One primary metric, large."""
    values = []
    arms = study.compared_arms
    for index, arm in enumerate(arms):
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
        results.forest(line, arms, large=True),
        tag("p", line.note, class_="note") if line.note else None,
        class_="headline",
    )
