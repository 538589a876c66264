"""What equal tuning found, arm by arm: the arm as it is, its best trial, and what that cost."""

from __future__ import annotations

import json
from typing import Any

from unify.analysis.best_of_trials import best_of
from unify.report.html import Html, Node, fold, join, tag
from unify.report.plots import Curve, panel
from unify.report.study_records import StudyRecord
from unify.report.tables import facts, swatch
from unify.report.words import duration, number, si
from unify.runs.study_files import read_tuning

READING = (
    "Scored on the validation split, which no other score here is from. Each arm got the same "
    "trials: the first is the arm as it is, the others draw their values at random. Best of k: "
    "what k trials may be expected to find."
)


def section(study: StudyRecord) -> Html | None:
    """None for a study that tunes nothing."""
    known = read_tuning(study.folder) if study.info.get("tune") else {}
    tuned = {arm: entry for arm, entry in known.items() if arm in study.info.get("tuned", [])}
    if not tuned:
        return None
    entries = list(tuned.values())
    rows = [[_named(study, arm), *_cells(entry)] for arm, entry in tuned.items()]
    names = ["", "as it is", "best", "of", "failed", "values", "FLOPs", "time"]
    more: list[Node] = [_trials(arm, entry) for arm, entry in tuned.items()]
    return join(
        [
            tag("p", f"{entries[0]['metric']}. {READING}", class_="quiet"),
            facts(names, rows, "tuning"),
            _curves(study, tuned),
            fold("Every trial", join(more)),
        ]
    )


def _named(study: StudyRecord, arm: str) -> Html:
    return join([swatch(study.arms.index(arm)), arm])


def _cells(entry: dict[str, Any]) -> list[Html | str]:
    trials, best = entry["trials"], entry["trials"][entry["best"]]
    return [
        number(trials[0]["score"]),
        number(best["score"]),
        str(len(trials)),
        str(sum(trial["score"] is None for trial in trials)),
        tag("code", _said(best["values"])),
        si(sum(trial["flops"] for trial in trials)),
        duration(sum(trial["seconds"] for trial in trials)),
    ]


def _said(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={json.dumps(value)}" for key, value in values.items()) or "as it is"


def _curves(study: StudyRecord, tuned: dict[str, Any]) -> Html:
    """Expected best of k trials; one that failed counts as the worst that did not."""
    curves, names, most = [], [], 1
    for arm, entry in tuned.items():
        known = [trial["score"] for trial in entry["trials"] if trial["score"] is not None]
        worst = (max if entry["lower"] else min)(known)
        scores = [worst if t["score"] is None else t["score"] for t in entry["trials"]]
        most = max(most, len(scores))
        points = [(float(k), best_of(scores, k, entry["lower"])) for k in range(1, len(scores) + 1)]
        index = study.arms.index(arm)
        curves.append(Curve(index, points))
        names.append(tag("span", swatch(index), arm))
    title = tag("figcaption", tag("b", "best of k trials"), tag("span", *names, class_="last"))
    return tag("div", tag("figure", title, panel(curves, most)), class_="panels")


def _trials(arm: str, entry: dict[str, Any]) -> Html:
    rows: list[list[Html | str]] = [
        [
            str(index) + (" (best)" if index == entry["best"] else ""),
            "failed" if trial["score"] is None else number(trial["score"]),
            tag("code", _said(trial["values"])),
        ]
        for index, trial in enumerate(entry["trials"])
    ]
    return join([tag("h3", arm), facts(["trial", "score", "values"], rows)])
