"""One self-contained HTML page for a study: `write_report(folder)`.

No script, no network, no file beside it: styles inline, plots as SVG, pictures as data URIs, folding
by <details>. Equal input gives equal bytes: whatever is dated is dated by the study.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from unify.report import compare, curves, grids
from unify.report.html import Html, Node, join, tag
from unify.report.load import Run, Study, load_study
from unify.report.style import CSS
from unify.report.tables import (
    CONFIRMATORY_SEEDS,
    Line,
    every_measurement,
    facts,
    forest,
    lines,
    number,
    results_table,
    sentence,
    swatch,
)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(study_folder: Path | str) -> Path:
    """Writes <study_folder>/report.html from what the study left there; returns its path."""
    folder = Path(study_folder)
    path = folder / "report.html"
    path.write_bytes(render(load_study(folder)).encode("utf-8", "replace"))
    return path


def render(study: Study) -> str:
    found = lines(study.rows)
    sections = [
        ("compared", "What was compared", _compared(study, found)),
        ("matched", "Budget and data", _matched(study)),
        ("results", "Results", _results(study, found)),
        ("samples", "Samples", _samples(study)),
        ("curves", "Learning curves", curves.learning_curves(study)),
        ("reproduce", "How to reproduce", _reproduce(study)),
        ("environment", "Environment", _environment(study)),
        ("measured", "How each number was measured", _measured(study, found)),
    ]
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


def _header(study: Study, title: str, found: Sequence[Line]) -> Html:
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
    cards = [_headline(study, line) for line in found if line.metric in study.primary]
    parts.append(tag("div", *cards, class_="headlines") if cards else None)
    return tag("header", *parts)


def summary(study: Study, found: Sequence[Line]) -> str:
    """What was done and measured, in sentences without a verdict."""
    seeds = sorted({run.seed for run in study.runs})
    parts = [
        f"{_plural(len(study.arms), 'arm')} ({sentence(study.arms)}), "
        f"{_plural(len(seeds) or len(study.seeds), 'seed')} each."
    ]
    for quantity in compare.budget(study):
        if quantity.name == "Samples seen":
            each = [f"{quantity.text(a)} ({a})" for a in quantity.values]
            same = quantity.text(next(iter(quantity.values)))
            parts.append(
                f"Samples seen: {f'{same} per run' if quantity.matched else sentence(each)}."
            )
    kinds = {pair.kind for pair in compare.same_data(study)}
    if kinds:
        words = "identical for every pair of arms" if kinds == {"identical"} else "not identical"
        parts.append(f"Training data: {words}.")
    for line in found:
        if line.metric in study.primary and not line.note:
            values = [f"{a} {number(c.value)}" for a, c in line.cells.items()]
            parts.append(f"{line.metric}: {', '.join(values)}.")
    if len(study.seeds) < CONFIRMATORY_SEEDS:
        parts.append(
            f"Exploratory: {_plural(len(study.seeds), 'seed')} per arm do{'es' * (len(study.seeds) == 1)}"
            " not show how much the arms would differ by chance of training."
        )
    return " ".join(parts)


def _headline(study: Study, line: Line) -> Html:
    """One primary metric, large."""
    values = []
    for index, arm in enumerate(study.arms):
        cell = line.cells.get(arm)
        number_ = "n/a" if cell is None else number(cell.value)
        span = "" if cell is None or cell.span is None else "–".join(map(number, cell.span))
        values.append(
            tag("div", tag("span", number_, class_="figure"),
                tag("span", swatch(index), arm, class_="arm-name"),
                tag("span", span, class_="interval"))
        )  # fmt: skip
    return tag(
        "div",
        tag("p", line.metric, tag("span", "primary", class_="badge primary")),
        tag("div", *values, class_="figures"),
        forest(line, study.arms),
        tag("p", line.note, class_="note") if line.note else None,
        class_="headline",
    )


def _compared(study: Study, found: Sequence[Line]) -> Html:
    return tag("div", *(_arm(study, i, found) for i in range(len(study.arms))), class_="arms")


def _arm(study: Study, index: int, found: Sequence[Line]) -> Html:
    arm = study.arms[index]
    info, runs = study.info["arms"][arm], study.runs_of(arm)
    doc = " ".join(str(info.get("doc") or "").split())
    ceilings = [f"{line.metric} {number(cell.value)}" for line in found
                if line.task == "tokenizer" and (cell := line.cells.get(arm)) is not None]  # fmt: skip
    rows: list[tuple[str, Node]] = [("Experiment", tag("code", info.get("file") or "not stated"))]
    if runs:
        rows.append(("Parameters", _parameters(runs[0])))
        parts = [_needed(n) for n in compare.needed(runs[0])]
        rows.append(("Needs", join(parts, ", ") if parts else "nothing trained before"))
    if ceilings:
        rows.append(("Ceiling", tag("span", "; ".join(ceilings))))
    for run in runs:
        tone = "done" if run.finished else "open"
        state = tag("span", run.state if run.finished else compare.progress(run),
                    class_=f"badge {tone}")  # fmt: skip
        rows.append((f"Seed {run.seed}", state))
    if not runs:
        rows.append(("Runs", tag("span", "none found", class_="badge open")))
    terms = join(join([tag("dt", name), tag("dd", value)]) for name, value in rows)
    return tag(
        "article",
        tag("h3", swatch(index), arm),
        tag("p", study.paradigm(arm), class_="paradigm"),
        tag("p", doc) if doc else None,
        tag("dl", terms),
    )


def _parameters(run: Run) -> str:
    total, trainable = run.parameters("total"), run.parameters("trainable")
    frozen = run.parameters("frozen_tokenizers")
    said = [] if total is None else [f"{compare.si(total)} in all"]
    said += [] if trainable is None else [f"{compare.si(trainable)} trainable"]
    said += [f"{compare.si(frozen)} in frozen tokenizers"] if frozen else []
    return ", ".join(said) or "not stated"


def _needed(part: dict) -> Html:
    return join([str(part.get("name")), " ", tag("code", str(part.get("hash") or "")[:12])])


def _matched(study: Study) -> Html:
    rows: list[list[Html | str]] = []
    for q in compare.budget(study):
        said = {True: ("done", "matched"), False: ("open", "differs"), None: ("", "n/a")}[q.matched]
        rows.append(
            [
                q.name,
                *(q.text(a) for a in study.arms),
                tag("span", said[1], class_=f"badge {said[0]}"),
            ]
        )
    rows += [["Machine", *(machine(study.runs_of(a)) for a in study.arms), ""]]
    table = facts(["", *study.arms, ""], rows, "budget")
    pairs: list[list[Html | str]] = [
        [
            f"{p.first} – {p.second}",
            tag("span", p.kind, class_=f"badge {'done' if p.kind == 'identical' else 'open'}"),
            p.text,
            sentence([str(s) for s in p.seeds]),
        ]
        for p in compare.same_data(study)
    ]
    unmatched = compare.not_matched(study)
    differing = compare.config_differences(study)
    parts: list[Node] = [
        table,
        tag("p", "Matched: equal to within 1 % over arms and seeds. FLOPs are counted for the model "
            "in training; a range is over seeds.", class_="quiet"),
        tag("h3", "Same data?"),
        facts(["arms", "", "rolling hash of the samples consumed", "seeds"], pairs)
        if pairs
        else tag("p", "Fewer than two arms have a run under the same seed.", class_="quiet"),
        tag("h3", "What was not matched"),
        tag("ul", *(tag("li", text) for text in unmatched), class_="unmatched")
        if unmatched
        else tag("p", "Nothing that was recorded differs, besides the paradigm."),
    ]  # fmt: skip
    if differing:
        written = [
            [tag("code", k), *(v.get(a, "no run") for a in study.arms)] for k, v in differing
        ]
        listing = facts(["setting", *study.arms], written, "settings")
        parts.append(_fold(f"All {len(differing)} settings that differ", listing))
    return join(parts)


def machine(runs: Sequence[Run]) -> str:
    """The device an arm ran on, by whichever of the usual names the environment has."""
    names = ("gpu", "device", "machine", "cpu", "processor", "cpus", "platform")
    said = [
        str(run.environment[name]) for run in runs for name in names if run.environment.get(name)
    ]
    return ", ".join(dict.fromkeys(said)) or "not stated"


def _results(study: Study, found: Sequence[Line]) -> Html:
    if not found:
        return tag("p", "No results yet: results.json is missing or empty.")
    count = len(study.seeds)
    reading = (
        "Value, 95% interval and number of trials n."
        if count == 1
        else f"Mean, range over {count} seeds and number of trials n of each seed."
    )
    parts: list[Node] = [
        tag("p", reading, " n/a: the arm was not trained on that task. Chance, majority and blind "
            "(image removed) are references, not arms. Dots and bars repeat the numbers on an axis "
            "from 0 to 1.", class_="quiet"),
    ]  # fmt: skip
    if count < CONFIRMATORY_SEEDS:
        said = f" {_plural(count, 'seed')} per arm; a claim about arms needs {CONFIRMATORY_SEEDS}."
        parts.append(tag("p", tag("span", "exploratory", class_="badge open"), said))
    if any(line.note for line in found):
        parts.append(
            tag("p", "Some scores were not measured alike: they stand on rows of their own, with "
                "what differs.", class_="note")
        )  # fmt: skip
    parts.append(results_table(found, study.arms, study.seeds, study.primary))
    parts.append(_fold("Every measurement, seed by seed", every_measurement(study.rows)))
    return join(parts)


def _samples(study: Study) -> Html:
    found, moments = grids.sample_grids(study), grids.training_samples(study)
    if not found and not moments:
        return tag("p", "No sample grids were written.")
    note = "Made by the averaged weights with the sampler of the evaluation; not selected. The exact checker gives the verdict."
    parts: list[Node] = [tag("p", note, class_="quiet"), found]
    return join([*parts, _fold("During training", moments) if moments else None])


def _reproduce(study: Study) -> Html:
    commands, rows = [], []
    for run in study.runs:
        commands += [f"unify train -c {run.folder}/config.yaml", f"unify eval {run.folder}"]
        revision = next(
            (str(v) for k, v in run.environment.items() if re.search("git|commit|sha", k)),
            "not stated",
        )
        hash_ = run.info.get("hash") or run.folder.name.rsplit("-", 1)[-1]
        rows.append([f"{run.arm}, seed {run.seed}", tag("code", str(hash_)), tag("code", revision[:12]),
                     tag("code", str(run.info.get("data") or "not stated"))])  # fmt: skip
    commands.append(f"unify report {study.folder}")
    configs = [
        _fold(f"config.yaml of {run.arm}, seed {run.seed}",
              tag("pre", yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)))
        for run in study.runs if run.config
    ]  # fmt: skip
    return join(
        [
            tag("p", "From the completed configuration that each run folder holds:"),
            tag("pre", "\n".join(commands), class_="commands"),
            facts(["run", "config hash", "code", "data fingerprint"], rows) if rows else None,
            *configs,
        ]
    )


def _environment(study: Study) -> Html:
    rows: list[list[Html | str]] = []
    for key, values in compare.environments(study):
        if len(values) == 1:
            rows.append([key, values[0][0]])
        else:
            each = [f"{v} ({sentence([f'{r.arm} s{r.seed}' for r in runs])})" for v, runs in values]
            rows.append([key, "; ".join(each)])
    if not rows:
        return tag("p", "No environment was recorded.")
    return facts(["", "all runs, where nothing else is said"], rows, "settings")


def _measured(study: Study, found: Sequence[Line]) -> Html:
    """Passports, those that many metrics share written once."""
    by_passport: dict[str, list[str]] = {}
    for row in study.rows:
        written = json.dumps(row.get("passport") or {}, indent=1, sort_keys=True, default=str)
        by_passport.setdefault(written, []).append(f"{row['arm']} s{row['seed']} {row['metric']}")
    folds = [
        _fold(
            f"Passport {i}: {_plural(len(whose), 'score')}",
            join([tag("pre", written), tag("p", ", ".join(whose), class_="quiet")]),
        )
        for i, (written, whose) in enumerate(by_passport.items(), 1)
    ]
    return join(folds) if folds else tag("p", "No scores.")


def _footer() -> Html:
    return tag("footer", "Made by unify from the files of the study folder.")


def _fold(title: str, content: Html) -> Html:
    return tag("details", tag("summary", title), content)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
