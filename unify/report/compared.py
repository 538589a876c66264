"""The section What was compared: one card for each arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unify.answers.budget import progress
from unify.answers.published_words import origin
from unify.answers.run_records import RUN_NAME, RunRecord
from unify.answers.score_lines import MANY, Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import duration, number, seeds_text, si
from unify.report import paradigm_cards
from unify.report.html import Html, Node, fold, join, swatch, tag


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """The arms' cards, folded away where they are many."""
    count = len(study.arms)
    arms = tag("div", *(_arm(study, i, lines) for i in range(count)), class_="arms")
    return fold(f"All {count} arms", arms) if count > MANY else arms


def _arm(study: StudyRecord, index: int, lines: Sequence[Line]) -> Html:
    arm = study.arms[index]
    info, runs = study.info["arms"][arm], study.runs_of(arm)
    doc = " ".join(str(info.get("doc") or "").split())
    published = study.is_published(arm)
    states = _published(study, arm) if published else _states(study, arm)
    rows = [*_training(study, arm, lines), *states]
    terms = join(join([tag("dt", name), tag("dd", value)]) for name, value in rows)
    return tag(
        "article",
        tag("h3", swatch(index), arm),
        tag("p", study.paradigm(arm), class_="paradigm"),
        tag("p", doc) if doc else None,
        tag("dl", terms),
        paradigm_cards.card(runs[0] if runs and not published else None),
    )


def _training(study: StudyRecord, arm: str, lines: Sequence[Line]) -> list[tuple[str, Node]]:
    """File, size, the runs it starts from, and the ceiling that its tokenizer sets."""
    file = study.info["arms"][arm].get("file") or "not stated"
    rows: list[tuple[str, Node]] = [("Experiment", tag("code", file))]
    for run in study.runs_of(arm)[:1]:
        rows.append(("Parameters", _parameters(run)))
        parts = [_needed(study, n) for n in run.needed]
        rows.append(("Needs", join(parts, ", ") if parts else "nothing trained before"))
    ceilings = [
        f"{line.metric} {number(line.cells[arm].value)}"
        for line in lines
        if line.task == "tokenizer" and arm in line.cells
    ]
    return [*rows, ("Ceiling", tag("span", "; ".join(ceilings)))] if ceilings else rows


def _published(study: StudyRecord, arm: str) -> list[tuple[str, Node]]:
    """Where a published arm is from, and its replicates."""
    seeds = seeds_text(study.seeds_of(arm)).capitalize()
    badge = tag("span", "published; not trained again", class_="badge")
    return [("From", origin(study, arm)), (seeds, badge)]


def _states(study: StudyRecord, arm: str) -> list[tuple[str, Node]]:
    """States of the arm's runs: how they ended, whose weights they have, what stopped them."""
    runs = study.runs_of(arm)
    states: dict[str, list[RunRecord]] = {}
    for run in runs:
        states.setdefault("finished" if run.finished else progress(run), []).append(run)
    rows: list[tuple[str, Node]] = []
    for state, alike in states.items():
        badge = tag("span", state, class_=f"badge {'done' if alike[0].finished else 'open'}")
        rows.append((seeds_text([run.seed for run in alike]).capitalize(), badge))
    shared = dict.fromkeys(_place(run.info["same_as"]) for run in runs if run.info.get("same_as"))
    if shared:
        rows.append(("Weights", join(["those of ", tag("code", ", ".join(shared))])))
    trunks = [run.info["trunk"] for run in runs if run.info.get("trunk")]
    for step in dict.fromkeys(trunk["step"] for trunk in trunks):
        places = dict.fromkeys(_place(trunk["folder"]) for trunk in trunks if trunk["step"] == step)
        at = f", from its step {step:,}; those before are counted"
        rows.append(("Goes on from", join([tag("code", ", ".join(places)), at])))
    done = {run.seed for run in runs if run.finished}
    errors = {seed: study.error(arm, seed) for seed in study.seeds if seed not in done}
    rows += [("Error", text) for text in dict.fromkeys(errors.values()) if text]
    if not runs:
        rows.append(("Runs", tag("span", "none found", class_="badge open")))
    return rows


def _place(folder: str) -> str:
    """`study/arm` of a run folder."""
    study, run = Path(folder).parts[-2:]
    name = RUN_NAME.fullmatch(run)
    return f"{study}/{name['arm'] if name else run}"


def _parameters(run: RunRecord) -> str:
    total, trainable = run.parameters("total"), run.parameters("trainable")
    frozen = run.parameters("frozen_tokenizers")
    parts = [] if total is None else [f"{si(total)} in all"]
    parts += [] if trainable is None else [f"{si(trainable)} trainable"]
    parts += [f"{si(frozen)} in frozen tokenizers"] if frozen else []
    return ", ".join(parts) or "not stated"


def _needed(study: StudyRecord, part: dict[str, Any]) -> Html:
    """`vae aabbccddeeff (300 steps, 1 min 0 s)`."""
    run = study.before.get(part["hash"])
    seconds = run.info.get("train_seconds") if run else None
    trained = f"{run.steps:,} steps, " if run and run.rows_per_step else ""
    cost = f" ({trained or 'fitted, '}{duration(seconds)})" if run and seconds else ""
    return join([part.get("name") or "unnamed", " ", tag("code", str(part["hash"])[:12]), cost])
