"""One self-contained HTML page for a study: `write_report(folder)`.

No script, no network, no file beside it: styles inline, plots as SVG, pictures as data URIs,
folding by <details>. Equal input gives equal bytes: whatever is dated is dated by the study.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unify.report import (
    arms_and_conditions,
    budget_and_data,
    claims,
    curves,
    differences,
    figures,
    gradient_curves,
    paradigm_cards,
    provenance,
    sample_pictures,
    sizes_and_budgets,
    tuning,
)
from unify.report.budget_and_data import MANY
from unify.report.html import Html, Node, fold, join, tag
from unify.report.study_records import RUN_NAME, RunRecord, StudyRecord, load_study
from unify.report.style import CSS
from unify.report.summary import summary
from unify.report.table_files import write_tables
from unify.report.tables import (
    CONFIRMATORY_SEEDS,
    Line,
    every_measurement,
    facts,
    forest,
    lines,
    results_table,
    swatch,
)
from unify.report.words import number, plural, seeds_text, unbroken

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MATCHED = (
    "Matched: equal to within 1 % over arms and seeds; a range is over seeds. FLOPs of "
    "training are those of the arm itself."
)
BADGES = {True: ("done", "matched"), False: ("open", "differs"), None: ("", "not in all")}
READING = (
    "n/a: the arm neither learned that task nor has a part that did, or has no score yet. Chance, "
    "majority and blind (image removed) are references, not arms. What each row means is at the "
    "end of the page. Dots and bars repeat the numbers on an axis from 0 to 1."
)
SPLIT = "Some scores were not measured alike: they stand on rows of their own, with what differs."


def write_report(study_folder: Path | str) -> Path:
    """Writes <study_folder>/report.html from what the study left there; returns its path.

    Beside it go report.md, results.csv, table.tex and figures/.
    """
    study = load_study(Path(study_folder))
    write_tables(study, summary(study, lines(study.rows)))
    figures.write_figures(study)
    path = study.folder / "report.html"
    path.write_bytes(render(study).encode("utf-8", "replace"))
    return path


def render(study: StudyRecord) -> str:
    found = lines(study.rows)
    sections = [
        ("compared", "What was compared", _compared(study, found)),
        ("matched", "Budget and data", _matched(study)),
        ("results", "Results", _results(study, found)),
        ("scaling", "Sizes and budgets", sizes_and_budgets.section(study, found)),
        ("tuning", "Tuning", tuning.section(study)),
        ("claims", "Claims", claims.claims_section(study, found)),
        ("differences", "Differences", differences.section(study, found)),
        ("interaction", "Arms and conditions", arms_and_conditions.section(study, found)),
        ("controls", "Controls", claims.controls_section(study, found)),
        ("figures", "Figures", figures.section(study)),
        ("samples", "Samples", _samples(study)),
        ("curves", "Learning curves", curves.learning_curves(study)),
        ("gradients", "Gradients", gradient_curves.section(study)),
        ("reproduce", "How to reproduce", provenance.reproduce(study)),
        ("environment", "Environment", provenance.environment(study)),
        ("measured", "How each number was measured", provenance.measured(study)),
    ]
    sections = [section for section in sections if section[2] is not None]
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
    body = [tag("section", tag("h2", name), part, id=key) for key, name, part in sections]
    page = tag("body", _header(study, str(title), found), contents, tag("main", *body), _footer())
    return "<!doctype html>\n" + tag("html", head, page, lang="en") + "\n"


def _header(study: StudyRecord, title: str, found: Sequence[Line]) -> Html:
    parts: list[Node] = [
        tag(
            "p", "unify study", " · ", study.info.get("name") or study.folder.name, class_="kicker"
        ),
        tag("h1", title),
    ]
    if study.info.get("question"):
        parts.append(tag("p", study.info["question"], class_="question"))
    created = str(study.info.get("created") or "").replace("T", " ")[:16]
    arms = [tag("span", swatch(i), arm, class_="arm-name") for i, arm in enumerate(study.arms)]
    parts.append(tag("p", *arms, tag("span", created, class_="quiet"), class_="meta"))
    parts.append(tag("p", summary(study, found), class_="summary"))
    shown = study.primary if len(study.arms) <= MANY else []
    cards = [_headline(study, line) for line in found if line.metric in shown]
    parts.append(tag("div", *cards, class_="headlines") if cards else None)
    return tag("header", *parts)


def _headline(study: StudyRecord, line: Line) -> Html:
    """One primary metric, large."""
    values = []
    for index, arm in enumerate(study.arms):
        cell = line.cells.get(arm)
        if cell is None and line.note:
            continue
        number_ = "n/a" if cell is None else number(cell.value)
        span = ""
        if cell is not None and cell.span is not None:
            kind = "range" if len(cell.rows) > 1 else "95%"
            span = f"{kind} {'–'.join(map(number, cell.span))}"
        figure = tag("span", number_, class_="figure")
        who = tag("span", swatch(index), arm, class_="arm-name")
        values.append(tag("div", figure, who, tag("span", span, class_="interval")))
    return tag(
        "div",
        tag("p", line.metric, tag("span", "primary", class_="badge primary")),
        tag("div", *values, class_="figures"),
        forest(line, study.arms, large=True),
        tag("p", line.note, class_="note") if line.note else None,
        class_="headline",
    )


def _compared(study: StudyRecord, found: Sequence[Line]) -> Html:
    count = len(study.arms)
    arms = tag("div", *(_arm(study, i, found) for i in range(count)), class_="arms")
    return fold(f"All {count} arms", arms) if count > MANY else arms


def _arm(study: StudyRecord, index: int, found: Sequence[Line]) -> Html:
    arm = study.arms[index]
    info, runs = study.info["arms"][arm], study.runs_of(arm)
    doc = " ".join(str(info.get("doc") or "").split())
    ceilings = [
        f"{line.metric} {number(line.cells[arm].value)}"
        for line in found
        if line.task == "tokenizer" and arm in line.cells
    ]
    rows: list[tuple[str, Node]] = [("Experiment", tag("code", info.get("file") or "not stated"))]
    if runs:
        rows.append(("Parameters", _parameters(runs[0])))
        parts = [_needed(study, n) for n in runs[0].needed]
        rows.append(("Needs", join(parts, ", ") if parts else "nothing trained before"))
    if ceilings:
        rows.append(("Ceiling", tag("span", "; ".join(ceilings))))
    states: dict[str, list[RunRecord]] = {}
    for run in runs:
        states.setdefault("finished" if run.finished else budget_and_data.progress(run), []).append(
            run
        )
    for state, its in states.items():
        badge = tag("span", state, class_=f"badge {'done' if its[0].finished else 'open'}")
        rows.append((seeds_text([run.seed for run in its]).capitalize(), badge))
    shared = dict.fromkeys(_place(run.info["same_as"]) for run in runs if run.info.get("same_as"))
    if shared:
        rows.append(("Weights", join(["those of ", tag("code", ", ".join(shared))])))
    done = {run.seed for run in runs if run.finished}
    errors = {seed: study.error(arm, seed) for seed in study.seeds if seed not in done}
    rows += [("Error", text) for text in dict.fromkeys(errors.values()) if text]
    if not runs:
        rows.append(("Runs", tag("span", "none found", class_="badge open")))
    terms = join(join([tag("dt", name), tag("dd", value)]) for name, value in rows)
    return tag(
        "article",
        tag("h3", swatch(index), arm),
        tag("p", study.paradigm(arm), class_="paradigm"),
        tag("p", doc) if doc else None,
        tag("dl", terms),
        paradigm_cards.card(runs[0] if runs else None),
    )


def _place(folder: str) -> str:
    """Study and arm of a run."""
    study, run = Path(folder).parts[-2:]
    name = RUN_NAME.fullmatch(run)
    return f"{study}/{name['arm'] if name else run}"


def _parameters(run: RunRecord) -> str:
    total, trainable = run.parameters("total"), run.parameters("trainable")
    frozen = run.parameters("frozen_tokenizers")
    said = [] if total is None else [f"{budget_and_data.si(total)} in all"]
    said += [] if trainable is None else [f"{budget_and_data.si(trainable)} trainable"]
    said += [f"{budget_and_data.si(frozen)} in frozen tokenizers"] if frozen else []
    return ", ".join(said) or "not stated"


def _needed(study: StudyRecord, part: dict[str, Any]) -> Html:
    """`vae aabbccddeeff (300 steps, 1 min 0 s)`."""
    run = study.before.get(part["hash"])
    seconds = run.info.get("train_seconds") if run else None
    cost = f" ({run.steps:,} steps, {budget_and_data.duration(seconds)})" if run and seconds else ""
    return join([part.get("name") or "unnamed", " ", tag("code", str(part["hash"])[:12]), cost])


def _matched(study: StudyRecord) -> Html:
    rows: list[list[Html | str]] = []
    for q in budget_and_data.budget(study):
        said = BADGES[q.matched]
        rows.append(
            [
                q.name,
                *(unbroken(q.text(a)) for a in study.arms),
                tag("span", said[1], class_=f"badge {said[0]}"),
            ]
        )
    rows += [["Machine", *(provenance.machine(study.runs_of(a)) for a in study.arms), ""]]
    table = facts(["", *study.arms, ""], rows, "budget")
    unmatched = budget_and_data.not_matched(study)
    differing = budget_and_data.config_differences(study)
    parts: list[Node] = [
        table,
        tag("p", MATCHED, class_="quiet"),
        tag("h3", "Same data?"),
        _same_data(study),
        tag("h3", "What was not matched"),
        tag("ul", *(tag("li", text) for text in unmatched), class_="unmatched")
        if unmatched
        else tag("p", "Nothing that was recorded differs, besides the paradigm."),
    ]
    if differing:
        written = [
            [tag("code", k), *(v.get(a, "no run") for a in study.arms)] for k, v in differing
        ]
        listing = facts(["setting", *study.arms], written, "settings")
        parts.append(fold(f"{plural(len(differing), 'setting')} that differ", listing))
    return join(parts)


def _same_data(study: StudyRecord) -> Html:
    pairs: list[list[Html | str]] = [
        [
            f"{p.first} – {p.second}",
            tag("span", p.kind, class_=f"badge {'done' if p.kind == 'identical' else 'open'}"),
            p.text,
            p.noise,
            seeds_text(p.seeds),
        ]
        for p in budget_and_data.same_data(study)
    ]
    if not pairs:
        return tag("p", "Fewer than two arms have a run under the same seed.", class_="quiet")
    table = facts(["arms", "", "samples read, by their hash", "noise", ""], pairs)
    return fold(f"All {len(pairs)} pairs that are compared", table) if len(pairs) > MANY else table


def _results(study: StudyRecord, found: Sequence[Line]) -> Html:
    if not found:
        return tag("p", "No results yet: results.json is missing or empty.")
    fewest, most = study.seeds_done
    reading = (
        "Value, 95% interval and number of trials n."
        if most == 1
        else f"Mean, range over {study.seeds_said} and number of trials n of each seed."
    )
    parts: list[Node] = [tag("p", f"{reading} {READING}", class_="quiet")]
    if 0 < fewest < CONFIRMATORY_SEEDS:
        few = f" {plural(fewest, 'seed')} per arm; fewer than {CONFIRMATORY_SEEDS} say how these "
        said = f"{few}runs did, and of how the arms differ only what is large."
        parts.append(tag("p", tag("span", "exploratory", class_="badge open"), said))
    if any(line.note for line in found):
        parts.append(tag("p", SPLIT, class_="note"))
    parts.append(results_table(found, study.arms, study.seeds, study.primary))
    parts.append(fold("Every measurement, seed by seed", every_measurement(study.rows)))
    return join(parts)


def _samples(study: StudyRecord) -> Html:
    found, moments = sample_pictures.sample_grids(study), sample_pictures.training_samples(study)
    if not found and not moments:
        return tag("p", "No sample grids were written.")
    note = "Made by the averaged weights with the sampler of the evaluation, and not selected."
    parts: list[Node] = [tag("p", note, class_="quiet"), found]
    return join([*parts, fold("During training", moments) if moments else None])


def _footer() -> Html:
    return tag("footer", "Made by unify from the files of the study folder.")
