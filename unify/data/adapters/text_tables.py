"""Rows of CSV, TSV and JSON lines, each with the number of its line, or a reason why it has none.

Encoding: what a byte-order mark says, UTF-16 by its pattern of zeros, else UTF-8; or as named.
Delimiter: the one of `, tab ; |` by which the header has the column of the image; or as named, by
a first line `sep=;` too.

A quoted field is one of RFC 4180. A quote that never closes, or that closes in what looks like
another row, makes its own line a bad row and nothing more: reading goes on at the next line.
"""

import codecs
import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from unify.data.adapters.names import IMAGES
from unify.data.adapters.verdicts import MAX_JSON, MAX_TEXT, Bad, json_object

DELIMITERS = "\t,;|"  # a tab comes first: texts have commas, and hardly ever tabs
MAX_LINE = 2 * MAX_JSON  # characters of a line
MAX_ROW = 4 * MAX_TEXT  # characters of a row of several lines
HEAD = 1 << 16  # bytes of a file that its encoding is judged by
SEPARATOR = re.compile(r'"?sep=([^"\r\n])"?\s*')  # a line before the header, for Excel
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16's does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Bytes that are none of the encoding become lone surrogates, which no text may have: a bad row.
codecs.register_error("unify_lone_surrogate", lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]


@dataclass
class TableRow:
    """A row by column names; `number` is that of its first line, from 1."""

    number: int
    values: dict[str, Any]
    short: bool = False  # it has fewer fields than the header; those it lacks are None
    like_rows: bool = False  # it is of several lines, and each could be a row of its own


@dataclass
class BadRow:
    """A row that could not be read."""

    number: int
    bad: Bad


class Lines:
    """Lines of a text with their numbers; some can be put back. Of a line over MAX_LINE, None."""

    def __init__(self, file: IO[str]):
        self.file, self.number = file, 0  # of the line that was read last
        self._back: deque[str | None] = deque()

    def read(self) -> str | None:
        """The next line with its end; "" at the end of the text, None for one that is too long."""
        line = self._back.popleft() if self._back else self._fresh()
        self.number += line != ""
        return line

    def _fresh(self) -> str | None:
        line = self.file.readline(MAX_LINE)
        if len(line) < MAX_LINE or line.endswith(("\n", "\r")):
            return line
        while (more := self.file.readline(MAX_LINE)) and not more.endswith(("\n", "\r")):
            pass
        return None

    def put_back(self, lines: Sequence[str | None]) -> None:
        """Give lines back that were read last; they come again under the same numbers."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


def encoding_of(path: Path) -> str:
    """By its byte-order mark, or the zeros that UTF-16 has beside ASCII; else UTF-8."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    for mark, name in BOMS.items():
        if head.startswith(mark):
            return name
    zeros = [head[start::2].count(0) for start in (0, 1)]
    if max(zeros) * 4 > len(head):
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8"


def open_table(path: Path, encoding: str, newline: str) -> IO[str]:
    """The file as text. ValueError, which names it, for an encoding that it cannot be read in."""
    try:
        name = codecs.lookup(encoding).name
        utf8 = name in ("utf-8", "utf-8-sig")  # names of files may have any bytes
        errors = "surrogateescape" if utf8 else "unify_lone_surrogate"
        "".encode(encoding)  # a LookupError for what is none of texts: rot13, hex, zip
        codecs.getincrementaldecoder(encoding)(errors).decode(b"a")  # idna, which has no handlers
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"--encoding {encoding}: there is no such encoding of texts to read {path} in"
        ) from error
    if name in ("utf-16", "utf-32"):
        with path.open("rb") as file:
            head = file.read(4)
        if not any(BOMS[mark] == name for mark in BOMS if head.startswith(mark)):
            raise ValueError(
                f"--encoding {encoding}: {path} has no byte-order mark; name the order too, "
                f"{name}-le or {name}-be"
            )
    return path.open(encoding=encoding, errors=errors, newline=newline)


def json_rows(path: Path, encoding: str) -> Iterator[TableRow | BadRow]:
    """One object a line; empty lines are none."""
    with open_table(path, encoding, "\n") as file:
        lines = Lines(file)
        while (line := lines.read()) != "":
            try:
                if line is None:
                    raise Bad("long_line", f"over {MAX_LINE:,} characters")
                if line.strip():
                    yield TableRow(lines.number, json_object(line))
            except Bad as bad:
                yield BadRow(lines.number, bad)


class Csv:
    """A CSV or TSV with its delimiter and columns.

    Args:
        path, encoding: the file.
        images: columns that may name the image.
        delimiter: "" to find it.
        quotes: whether `"` at the beginning of a field quotes it.
        is_file: whether an image of this name is there; rows are told from texts by it.

    ValueError, with the remedy, where the delimiter cannot be found, or a column is there twice.
    """

    def __init__(
        self,
        path: Path,
        encoding: str,
        images: tuple[str, ...],
        delimiter: str = "",
        quotes: bool = True,
        is_file: Callable[[str], bool] = lambda name: False,
    ):
        self.path, self.encoding, self.quotes = path, encoding, quotes
        self._is_file = is_file
        with open_table(path, encoding, "") as file:
            lines = Lines(file)
            header = lines.read()
            if said := SEPARATOR.fullmatch(header or ""):
                delimiter, header = delimiter or said[1], lines.read()
        self._above = lines.number  # lines up to the header, this included
        if not header or not header.strip():
            raise ValueError(f"{path} does not begin with the names of its columns")
        self.delimiter = delimiter or self._found(header, images)
        try:
            self.columns = [name.strip() for name in self._fields(header, self.delimiter)]
        except csv.Error as error:
            raise ValueError(f"{path}, line 1: {error}") from error
        self._image = next((self.columns.index(n) for n in images if n in self.columns), None)

    def _found(self, header: str, images: tuple[str, ...]) -> str:
        """The delimiter by which the header has the column of the image."""
        for delimiter in DELIMITERS:
            try:
                names = {name.strip() for name in self._fields(header, delimiter)}
            except csv.Error:
                continue
            if delimiter in header and names & set(images):
                return delimiter
        if "\t" in header or "," in header or not any(d in header for d in DELIMITERS):
            return "\t" if "\t" in header else ","  # then the names of columns are others
        raise ValueError(
            f"{self.path}: no delimiter gives a column {' or '.join(images)}; its first line is "
            f"{header.strip()[:200]!r}. Name them with --delimiter and --image"
        )

    def _fields(self, line: str, delimiter: str) -> list[str]:
        """The fields of a row of one line; csv.Error if its quotes are none."""
        if not self.quotes or '"' not in line:
            return line.rstrip("\r\n").split(delimiter)
        csv.field_size_limit(MAX_LINE + MAX_ROW)
        return next(csv.reader([line], delimiter=delimiter, strict=True))

    def rows(self) -> Iterator[TableRow | BadRow]:
        """Rows after the header, in order; empty lines are none."""
        with open_table(self.path, self.encoding, "") as file:
            lines, closing = Lines(file), 0  # closing: line whose quote closes one that was refused
            for _ in range(self._above):
                lines.read()
            while (line := lines.read()) != "":
                number = lines.number
                if line is None:
                    yield BadRow(number, Bad("long_line", f"over {MAX_LINE:,} characters"))
                elif line.strip():
                    row, more = self._row(line, lines, number)
                    if isinstance(row, BadRow):
                        lines.put_back(more)
                        closing = max(closing, number + len(more)) if more else closing
                    elif number == closing and '"' in line:
                        row = BadRow(
                            number, Bad("open_quote", "its quote closes one of an earlier line")
                        )
                    yield row

    def _row(self, line: str, lines: Lines, number: int) -> tuple[TableRow | BadRow, list[str]]:
        """The row that begins with `line`, and the further lines that it takes."""
        try:
            fields, more = self._parsed(line, lines)
        except csv.Error as error:
            remedy = "--no-quotes if quotes are ordinary characters here"
            return BadRow(number, Bad("open_quote", f"{error}; {remedy}")), []
        if more and self._swallowed([line, *more], fields):
            last = number + len(more)
            why = f"lines {number} to {last} are in one pair of quotes and look like rows"
            return BadRow(number, Bad("open_quote", why)), more
        if len(fields) > len(self.columns):
            why = f"{len(fields)} fields where the header has {len(self.columns)}"
            return BadRow(
                number, Bad("ragged_row", f"{why}; quote a text that has a delimiter")
            ), []
        short = len(fields) < len(self.columns)
        padded = [*fields, *[None] * (len(self.columns) - len(fields))]
        values = dict(zip(self.columns, padded, strict=True))
        each = [one.count(self.delimiter) + 1 for one in (line, *more)]
        like_rows = bool(more) and {*each} == {len(self.columns)} and len(self.columns) > 1
        return TableRow(number, values, short, like_rows), more

    def _parsed(self, line: str, lines: Lines) -> tuple[list[str], list[str]]:
        """Fields of the row and its further lines; csv.Error after putting these back."""
        if not self.quotes or '"' not in line:
            return self._fields(line, self.delimiter), []
        taken: list[str] = []

        def feed() -> Iterator[str]:
            yield line
            size = len(line)
            while size < MAX_ROW and (more := lines.read()) != "":
                if more is None:
                    lines.put_back([None])
                    return
                taken.append(more)
                size += len(more)
                yield more

        csv.field_size_limit(MAX_LINE + MAX_ROW)
        try:
            return next(csv.reader(feed(), delimiter=self.delimiter, strict=True)), taken
        except csv.Error:
            lines.put_back(taken)
            raise

    def _swallowed(self, lines: list[str], fields: list[str]) -> bool:
        """True if a line inside of a row of several names an image, as a row of its own would."""
        if self._image is None or self._image >= len(fields):
            return False
        own, times = fields[self._image].strip(), 0
        for line in lines:
            cells = line.rstrip("\r\n").split(self.delimiter)
            name = cells[self._image].strip('" ') if self._image < len(cells) else ""
            if len(cells) < len(self.columns) or not self._names_image(name):
                continue
            times += name == own
            if name != own or times > 1:
                return True
        return False

    def _names_image(self, name: str) -> bool:
        """True for `b.png`, `b.png?x=1` and `b.jpg.bak`, and for any file that is there."""
        parts = re.split(r"[^A-Za-z0-9]+", name.lower().partition(".")[2])
        looks = " " not in name and not IMAGES.isdisjoint(parts)
        return bool(name) and (looks or self._is_file(name))
