"""Whose the files of a study folder are: what unify did not write there is never replaced.

A study's results and report have fixed names. Where a file of such a name cannot be told to be an
earlier one of ours, its owner is asked to move it.
"""

import json
from collections.abc import Callable
from pathlib import Path

from unify.report.table_files import CSV_COLUMNS, TEX_HEAD

TITLE_END = " · unify"  # of the title of every report.html
BEGINNING = 20_000  # characters of a file that tell


def check_own_files(folder: Path) -> None:
    """Raise ValueError for a file that a report would replace, and that unify did not write."""
    for name, is_ours in OURS.items():
        path = folder / name
        if path.is_dir():
            raise ValueError(f"{path} is a folder, where a study has a file; move it away")
        if path.is_file() and not is_ours(_beginning(path)):
            raise ValueError(
                f"{path} is not of unify's making, and the study would replace it; move it away, "
                "or give the study another `name`"
            )


def check_own_page(path: Path) -> None:
    """Raise ValueError for a file that a page would replace, and that is no page of unify's."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file, e.g. {path / 'data.html'}")
    if path.is_file() and not OURS["report.html"](_beginning(path)):
        raise ValueError(f"{path} is not of unify's making; move it away, or name another file")


def _beginning(path: Path) -> str:
    """The first characters of a file."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(BEGINNING)


def _keys(first: str, *names: str) -> Callable[[str], bool]:
    """True for JSON that has these keys, or begins with `first` and is cut."""

    def found(text: str) -> bool:
        there = [name for name in names if f'"{name}"' in text]
        begun = bool(there) or _starts(first)("".join(text.split()))
        return _nothing(text) or len(there) == len(names) or (begun and _is_cut(text))

    return found


def _rows(text: str) -> bool:
    """True for a list of scores, whole or cut."""
    start = "".join(text.split())
    return _nothing(text) or (start.startswith("[{") and '"arm"' in text)


def _nothing(text: str) -> bool:
    """True for a file with nothing in it to lose."""
    return text.strip() in ("", "[", "[]", "{}", "null")


def _is_cut(text: str) -> bool:
    if len(text) == BEGINNING:
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _starts(beginning: str) -> Callable[[str], bool]:
    """True for a text that begins so, or is cut before it could."""
    return lambda text: text.startswith(beginning) or beginning.startswith(text)


OURS: dict[str, Callable[[str], bool]] = {
    "study.json": _keys('{"name":', "arms"),
    "results.json": _rows,
    "answers.json": _keys('{"version":', "version", "study", "differences"),
    "report.html": lambda text: f"{TITLE_END}</title>" in text or _nothing(text),
    "report.md": lambda text: "\n## Results\n" in text or _nothing(text),
    "results.csv": _starts(",".join(CSV_COLUMNS[:4])),
    "table.tex": _starts(TEX_HEAD),
}
