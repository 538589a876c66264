"""The results of a study in the terminal: a rich table, or plain columns in a file."""

from collections.abc import Sequence
from typing import TextIO

from unify.answers.score_lines import cell_text, score_lines
from unify.runs.study_files import Row
from unify.support.stop_protocol import named_output
from unify.support.terminal import one_line

FORM = "{} ({} to {})"
PLAIN_WIDTH = 10_000  # no wrapping in a file: one line per metric


def print_results(rows: Sequence[Row], file: TextIO | None = None, whole: bool = False) -> None:
    """Print metrics down, arms across: value with its 95% interval over prompts, or mean and range
    over seeds.

    Args:
        rows: the scores.
        file: standard output by default.
        whole: of a study whose seeds are whole pipelines (score_lines.py).
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(file=file)
    if not console.is_terminal:
        console = Console(file=file, width=PLAIN_WIDTH, color_system=None)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    single = len({row["seed"] for row in rows}) == 1
    table.add_column("metric (95% over prompts, this one model)" if single else "metric")
    for arm in arms:
        table.add_column(escape(one_line(arm)), justify="right")
    task = None
    for line in score_lines(rows, whole):
        if task not in (None, line.task) and console.is_terminal:
            table.add_section()
        task = line.task
        style = "dim" if line.reference else None
        cells = [cell_text(line.cells.get(arm), FORM) for arm in arms]
        table.add_row(escape(one_line(line.full_name)), *cells, style=style)
    with named_output():
        console.print(table)
