"""The section How each number was measured: meanings of metrics, passports of scores."""

from __future__ import annotations

import json
from collections.abc import Sequence

from unify.answers.score_lines import Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, sentence
from unify.report.html import Html, fold, join, tag


def section(study: StudyRecord, lines: Sequence[Line]) -> Html:
    """Documentation of the metrics, and every passport once, with the scores that carry it."""
    by_passport: dict[str, list[str]] = {}
    for row in study.rows:
        written = json.dumps(row.get("passport") or {}, indent=1, sort_keys=True, default=str)
        by_passport.setdefault(written, []).append(f"{row['arm']} s{row['seed']} {row['metric']}")
    folds = [
        fold(
            f"Passport {index}, of {plural(len(scores), 'score')}: {sentence(scores[:1])}"
            + (" ..." if len(scores) > 1 else ""),
            join([tag("pre", written), tag("p", ", ".join(scores), class_="quiet")]),
        )
        for index, (written, scores) in enumerate(by_passport.items(), 1)
    ]
    meanings = [tag("pre", text) for text in study.info.get("metrics") or []]
    return join([*meanings, *folds]) if folds else tag("p", "No scores.")
