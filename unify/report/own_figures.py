"""Figures that a study names for its own report (unify/schema/figure.py), drawn from study.json."""

from dataclasses import dataclass, field
from typing import Any

import matplotlib

from unify.answers.study_records import StudyRecord
from unify.config import build, locate_class
from unify.report.figure_style import STYLE, file_bytes
from unify.schema.figure import ReportFigure

KINDS = ("svg", "pdf")


@dataclass
class OwnFigure:
    """A drawn figure; without `files` where it has no numbers, or the `note` says why not."""

    name: str = ""
    caption: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # by kind
    note: str = ""


def own_figures(study: StudyRecord) -> list[OwnFigure]:
    """The study's own figures, in its order; none of them can stop the report."""
    return [_drawn(study, node) for node in study.info.get("figures") or []]


def _drawn(study: StudyRecord, node: dict[str, Any]) -> OwnFigure:
    try:
        # A class of a Python file is only loaded here: `build` takes what has been loaded.
        locate_class(node["class"], trusted=study.trusted_files)
        figure: ReportFigure = build(node, expect=ReportFigure)
        figure.check()
        with matplotlib.rc_context(STYLE):
            made = figure.draw(study)
            files = {} if made is None else {kind: file_bytes(made, kind) for kind in KINDS}
        return OwnFigure(figure.name, figure.caption, files)
    except Exception as error:  # code of the user's own: whatever it raises, the page is written
        return OwnFigure(note=f"{node.get('class')} was not drawn: {error or type(error).__name__}")
