"""The section Results: metrics down, arms across, every measurement folded below."""

from collections.abc import Mapping, Sequence

from unify.answers.score_lines import CONFIRMATORY_SEEDS, TASKS, Cell, Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, plural, unbroken
from unify.report.html import Html, Node, escape, facts, fold, join, swatch, tag
from unify.report.svg_plots import interval_plot
from unify.runs.study_files import Row

ROOMY = 4  # arms: with more, the numbers of a cell take two lines
READING = (
    "n/a: the arm neither learned that task nor has a part that did, or has no score yet. Chance, "
    "majority, blind (shown the picture of another question) and ceiling (the true images of the "
    "same prompts, given back by the tokenizer that the arm draws with) are references, not arms, "
    "and so is the floor of a distance: that of as much real data from real data. "
    "What each row means is at the end of the page. Dots and bars repeat the numbers on an axis "
    "from 0 to 1."
)
OF_PUBLISHED = (
    " Published arms have their own number of seeds, and no speeds: those are of another machine."
)
ONE_MODEL = "95% interval over prompts (of this one model: how another seed trains is not in it)"
SPLIT = "Some scores were not measured alike: they stand on rows of their own, with what differs."


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """The table of results, how to read it, and each score seed by seed."""
    if not lines:
        return tag("p", "No results yet: results.json is missing or empty.")
    fewest, most = study.seeds_done
    values = (
        f"Value, {ONE_MODEL} and number of trials n."
        if most == 1
        else f"Mean, range over {study.seeds_in_words} and number of trials n of each seed."
    )
    more = OF_PUBLISHED if study.published else ""
    parts: list[Node] = [tag("p", f"{values} {READING}{more}", class_="quiet")]
    if 0 < fewest < CONFIRMATORY_SEEDS:
        few = f" {plural(fewest, 'seed')} per arm; fewer than {CONFIRMATORY_SEEDS} say how these "
        warning = f"{few}runs did, and of how the arms differ only what is large."
        parts.append(tag("p", tag("span", "exploratory", class_="badge open"), warning))
    if any(line.note for line in lines):
        parts.append(tag("p", SPLIT, class_="note"))
    planned = {arm: len(study.seeds_of(arm)) for arm in study.arms}
    parts.append(results_table(lines, planned, study.primary))
    parts.append(fold("Every measurement, seed by seed", every_measurement(study.rows)))
    return join(parts)


def results_table(
    lines: Sequence[Line], planned: Mapping[str, int], primary: Sequence[str]
) -> Html:
    """Metrics by task down, arms across; a last column plots shares on an axis from 0 to 1.

    `planned`: how many seeds each arm was to have.
    """
    arms = list(planned)
    scale = tag("div", tag("span", 0), tag("span", 0.5), tag("span", 1), class_="scale")
    head = [tag("th", "Metric", scope="col")]
    for index, arm in enumerate(arms):
        head.append(tag("th", swatch(index), arm, scope="col", class_="num"))
    head.append(tag("th", scale, scope="col", class_="forest"))
    body: list[Html] = []
    task = None
    for line in lines:
        if line.task != task:
            task = line.task
            title = TASKS.get(task, task.replace("_", " ").capitalize())
            body.append(
                tag("tr", tag("th", title, colspan=len(arms) + 2, scope="colgroup"), class_="task")
            )
        if line.note:
            why = tag("b", f"{line.metric}, measured differently and so on a row of its own: ")
            note = tag("div", why, line.note, class_="note")
            body.append(tag("tr", tag("td", note, colspan=len(arms) + 2), class_="why"))
        body.append(_row(line, planned, line.metric in primary))
    kind = "results many" if len(arms) > ROOMY else "results"
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_=kind)
    return tag("div", table, class_="scroll")


def _row(line: Line, planned: Mapping[str, int], primary: bool) -> Html:
    name: list[Html | str] = [tag("span", line.label, title=line.metric)]
    if primary:
        name.append(tag("span", "primary", class_="badge primary"))
    if line.better == "lower":
        name.append(tag("span", " lower is better", class_="quiet"))
    absent = "–" if line.note else "n/a"
    trials = {cell.trials for cell in line.cells.values()}
    if line.trials:  # one number for all arms stands beside the name
        name.append(tag("span", " ", unbroken(f"n {line.trials}"), class_="quiet"))
    cells = [_cell(line.cells.get(a), n, absent, len(trials) > 1) for a, n in planned.items()]
    kind = "main" if not line.category or line.alone else "category"
    kind = "reference" if line.reference else "plain" if line.alone else kind
    return tag(
        "tr",
        tag("th", *name, scope="row"),
        *cells,
        tag("td", forest(line, list(planned)), class_="forest"),
        class_=kind,
    )


def _cell(cell: Cell | None, planned: int, absent: str, counted: bool) -> Html:
    """Value, interval and, if `counted`, trials; `absent` where the arm has no score."""
    if cell is None:
        return tag("td", tag("span", absent, class_="quiet"), class_="num")
    parts = [tag("span", number(cell.value), class_="value")]
    detail = [f"n {cell.trials}"] if counted and cell.trials else []
    if cell.span is not None:
        low, high = map(number, cell.span)
        detail.insert(0, f"{low}–{high}" if len(cell.rows) > 1 else f"[{low}, {high}]")
    if len(cell.values) < planned and planned > 1:
        detail.append(f"{len(cell.values)} of {planned} seeds")
    dot = tag("span", " · ", class_="dot")  # lines break there
    parts.append(tag("span", join([unbroken(part) for part in detail], dot), class_="interval"))
    return tag("td", *parts, class_="num")


def forest(line: Line, arms: Sequence[str], large: bool = False) -> Html:
    """Values with intervals on a common axis from 0 to 1; nothing for what is not a proportion."""
    marks = []
    for index, arm in enumerate(arms):
        cell = line.cells.get(arm)
        if cell is not None and cell.value is not None:
            marks.append((index, cell.value, cell.span))
    ends = [end for _, value, span in marks for end in (value, *(span or ()))]
    if not marks or min(ends) < 0 or max(ends) > 1:
        return Html("")
    return interval_plot(marks, large)


def every_measurement(rows: Sequence[Row]) -> Html:
    """Each number as it was measured, one seed at a time."""
    written = [
        [
            escape(r["metric"]),
            escape(r["arm"]),
            str(r["seed"]),
            number(r["value"]),
            *("" if r.get(end) is None else number(r[end]) for end in ("low", "high")),
            "" if r.get("n") is None else f"{r['n']:,} {r.get('unit') or ''}".rstrip(),
        ]
        for r in rows
    ]
    return facts(["metric", "arm", "seed", "value", "low", "high", "n"], written, "numbers")
