"""The contract of a figure that a study names for its own report.

    figures:
      - {class: "./my_figure.py:SeedStrip", metric: vqa/accuracy}

It is drawn on the page's Figures section, and written to figures/<name>.svg and .pdf.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from unify.support.file_names import wrong_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = re.compile(r"[\w-]+")  # a file name without its ending


class ReportFigure(ABC):
    """One figure. Subclasses are dataclasses: study.json keeps the fields, to draw it again.

    A figure of the same name as one of the report's takes its place.
    """

    name: str  # of its files
    caption: str  # below it on the page

    @abstractmethod
    def draw(self, study: Any) -> Figure | None:
        """The figure of an `unify.answers.study_records.StudyRecord`; None if it has no numbers.

        Equal studies must give equal figures: no date, no random number without a seed.
        """

    def check(self) -> None:
        """ValueError where the name is no file name, or the fields cannot be kept."""
        cls = type(self).__name__
        if not is_dataclass(self):
            raise ValueError(f"figures: {cls} is no dataclass; write @dataclass above the class")
        if not NAME.fullmatch(self.name) or wrong_name(self.name):
            raise ValueError(f"figures: {cls}.name is {self.name!r}; use letters, digits, - and _")

    def settings(self) -> dict[str, Any]:
        """The arguments that make this figure again."""
        assert is_dataclass(self)
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}
