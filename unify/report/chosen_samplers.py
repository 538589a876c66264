"""The section Sampler settings: what was tried on the weights of each run, and what it took."""

from collections.abc import Sequence

from unify.answers.sampler_sweeps import SweptRun, swept_runs, untold_sweeps
from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.tuned_arms import settings_text
from unify.answers.words import duration, number
from unify.report.html import Html, Node, facts, fold, join, swatch, tag

READING = (
    "Scored on the validation split, on the weights of each run: nothing was trained. All settings "
    "of a run were scored on the same prompts with the same noise; the best is what its scores on "
    "this page were measured with. The score of the best is no estimate: it was chosen for it. "
    "What it took is charged to no budget."
)


def section(study: StudyRecord, lines: Sequence[Line]) -> Html | None:
    """A row for each run, and every setting folded below; None for a study without a sweep."""
    swept = swept_runs(study)
    if not swept:
        return None
    names = ["", "as it is", "best", "of", "failed", "values", "n of each", "time"]
    rows = [[_marked(study, one), *_cells(one)] for one in swept]
    more: list[Node] = [_settings(one) for one in swept]
    metrics = ", ".join(dict.fromkeys(one.tried.metric for one in swept))
    return join(
        [
            tag("p", f"{metrics}. {READING}", class_="quiet"),
            *(tag("p", text, class_="note") for text in untold_sweeps(study)),
            facts(names, rows, "tuning"),
            fold("Every setting", join(more)),
        ]
    )


def _marked(study: StudyRecord, one: SweptRun) -> Html:
    return join([swatch(study.arms.index(one.run.arm)), _name(one)])


def _name(one: SweptRun) -> str:
    return f"{one.run.arm}, seed {one.run.seed}"


def _cells(one: SweptRun) -> list[Html | str]:
    settings = one.tried.settings
    return [
        "failed" if settings[0].score is None else number(settings[0].score),
        number(one.best.score),
        str(len(settings)),
        str(sum(setting.score is None for setting in settings)),
        tag("code", settings_text(one.best.values)),
        f"{one.best.n:,}",
        duration(one.seconds),
    ]


def _settings(one: SweptRun) -> Html:
    rows: list[list[Html | str]] = [
        [
            str(index) + (" (best)" if index == one.tried.best else ""),
            setting.error or "no value" if setting.score is None else number(setting.score),
            tag("code", settings_text(setting.values)),
        ]
        for index, setting in enumerate(one.tried.settings)
    ]
    return join([tag("h3", _name(one)), facts(["setting", "score", "values"], rows)])
