"""The section Tuning: each arm as it is, its best trial, and what finding that cost."""

from collections.abc import Sequence
from typing import Any

from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.tuned_arms import (
    arm_of,
    entry_name,
    mean_best_of_k,
    settings_text,
    tuned_arms,
    untold_choices,
)
from unify.answers.words import duration, number, si
from unify.report.html import Html, Node, facts, fold, join, swatch, tag
from unify.report.svg_plots import Curve, panel

READING = (
    "Scored on the validation split, which no other score here is from. Each arm got the same "
    "trials: the first is the arm as it is, the others draw their values at random. Best of k: "
    "what k trials may be expected to find."
)
BY_SEED = (
    " Under each seed of the study trials of their own, from what that seed starts from; best of "
    "k is their mean over seeds."
)


def section(study: StudyRecord, lines: Sequence[Line]) -> Html | None:
    """A row for each arm, and every trial folded below; None for a study that tunes nothing."""
    tuned = tuned_arms(study)
    if not tuned:
        return None
    metric = next(iter(tuned.values()))["metric"]
    rows = [[_marked(study, key, entry), *_cells(entry)] for key, entry in tuned.items()]
    names = ["", "as it is", "best", "of", "failed", "values", "FLOPs", "time"]
    more: list[Node] = [_trials(entry_name(key, entry), entry) for key, entry in tuned.items()]
    reading = READING + (BY_SEED if study.whole else "")
    return join(
        [
            tag("p", f"{metric}. {reading}", class_="quiet"),
            *(tag("p", text, class_="note") for text in untold_choices(tuned)),
            facts(names, rows, "tuning"),
            _curves(study, tuned),
            fold("Every trial", join(more)),
        ]
    )


def _marked(study: StudyRecord, key: str, entry: dict[str, Any]) -> Html:
    """The arm's name after its mark, and the seed that the trials are for."""
    return join([swatch(study.arms.index(arm_of(key, entry))), entry_name(key, entry)])


def _cells(entry: dict[str, Any]) -> list[Html | str]:
    trials, best = entry["trials"], entry["trials"][entry["best"]]
    return [
        number(trials[0]["score"]),
        number(best["score"]),
        str(len(trials)),
        str(sum(trial["score"] is None for trial in trials)),
        tag("code", settings_text(best["values"])),
        si(sum(trial["flops"] for trial in trials)),
        duration(sum(trial["seconds"] for trial in trials)),
    ]


def _curves(study: StudyRecord, tuned: dict[str, Any]) -> Html:
    """Expected best of k trials, one curve for each arm: the mean over its seeds."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for key, entry in tuned.items():
        arms.setdefault(arm_of(key, entry), []).append(entry)
    curves = [Curve(study.arms.index(arm), mean_best_of_k(each)) for arm, each in arms.items()]
    most = max(len(curve.points) for curve in curves)
    names = [tag("span", swatch(study.arms.index(arm)), arm) for arm in arms]
    title = tag("figcaption", tag("b", "best of k trials"), tag("span", *names, class_="last"))
    return tag("div", tag("figure", title, panel(curves, most)), class_="panels")


def _trials(name: str, entry: dict[str, Any]) -> Html:
    rows: list[list[Html | str]] = [
        [
            str(index) + (" (best)" if index == entry["best"] else ""),
            "failed" if trial["score"] is None else number(trial["score"]),
            tag("code", settings_text(trial["values"])),
        ]
        for index, trial in enumerate(entry["trials"])
    ]
    return join([tag("h3", name), facts(["trial", "score", "values"], rows)])
